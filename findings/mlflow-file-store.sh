#!/bin/sh
# mlflow-skinny 3.17.2
#
# One would guess: a folder as tracking URI, MLflow's default for years, takes runs; at worst a warning says that it will
# go. And where folders are no longer wanted, the data base that the message advises works.
#
# What happens: the client raises as soon as a folder is asked for anything, unless MLFLOW_ALLOW_FILE_STORE=true. The
# advised sqlite:/// is an unsupported URI to this package, so that out of the box it has no local store at all.
#
# Output seen:
#   folder            MlflowException
#   sqlite            UnsupportedModelRegistryStoreURIException
#   folder, allowed   1 experiment
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check mlflow-skinny==3.17.2
cat > "$here/ask.py" <<'EOF'
import os
import sys

from mlflow.tracking import MlflowClient

here = sys.argv[1]


def ask(uri):
    try:
        return f"{len(MlflowClient(tracking_uri=uri).search_experiments())} experiment"
    except Exception as error:
        return type(error).__name__


folder = ask(f"file://{here}/runs")
sqlite = ask(f"sqlite:///{here}/runs.db")
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
allowed = ask(f"file://{here}/runs")
print("folder           ", folder)
print("sqlite           ", sqlite)
print("folder, allowed  ", allowed)
seen = (folder, sqlite, allowed)
sys.exit(0 if seen == ("MlflowException", "UnsupportedModelRegistryStoreURIException", "1 experiment") else 1)
EOF
"$here/venv/bin/python" "$here/ask.py" "$here" 2>/dev/null
