#!/bin/sh
# openvino 2026.4.1
#
# One would guess: openvino.Tensor takes any object with the buffer protocol, or refuses it by its type.
# What happens: anything but an array of NumPy or a list is asked whether it is a picture, which imports Pillow, no
# dependency of the package: an array.array of integers ends in ModuleNotFoundError, far from what was wrong.
# Output seen:
#   list: {3}
#   array.array: ModuleNotFoundError: No module named 'PIL'
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check openvino==2026.4.1
"$here/venv/bin/python" - <<'EOF'
import array
import sys

import openvino

print("list:", set(openvino.Tensor([1, 2, 3]).shape))
try:
    openvino.Tensor(array.array("q", [1, 2, 3]))
except ModuleNotFoundError as error:
    print(f"array.array: {type(error).__name__}: {error}")
    sys.exit(0 if error.name == "PIL" else 1)
sys.exit(1)
EOF
