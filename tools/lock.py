"""Print the exact versions of this environment as constraints, names and versions alone."""

from importlib.metadata import distributions

SKIP = {"fewmark", "pip"}

if __name__ == "__main__":
    pins = {dist.name.lower().replace("_", "-"): dist.version.partition("+")[0] for dist in distributions()}
    print("# The exact versions that `make` installs. Written by `make lock`.")
    for name, version in sorted(pins.items()):
        if name not in SKIP:
            print(f"{name}=={version}")
