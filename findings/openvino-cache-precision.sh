#!/bin/sh
# openvino 2026.4.1
#
# One would guess: a model whose weights and arithmetic are in 32 or 16 bits has its cache of keys and values in that
# precision too, and asking for INFERENCE_PRECISION_HINT f32 is enough for a comparison in full precision.
# What happens: on x86 CPUs the cache is 8-bit by default, and stays so when the hint is f32; KV_CACHE_PRECISION must be
# set by itself.
# Output seen:
#   default: KV_CACHE_PRECISION u8
#   hint f32: KV_CACHE_PRECISION u8
#   both f32: KV_CACHE_PRECISION f32
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check openvino==2026.4.1
"$here/venv/bin/python" - <<'EOF'
import sys

import openvino

seen = []
for name, asked in (
    ("default", {}), ("hint f32", {"INFERENCE_PRECISION_HINT": "f32"}),
    ("both f32", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}),
):
    core = openvino.Core()
    core.set_property("CPU", asked)
    seen.append(core.get_property("CPU", "KV_CACHE_PRECISION").get_type_name())
    print(f"{name}: KV_CACHE_PRECISION {seen[-1]}")
sys.exit(0 if seen == ["u8", "u8", "f32"] else 1)
EOF
