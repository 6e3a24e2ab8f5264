#!/bin/sh
# polars 2.1.0
#
# One would guess: a sum of token counts is right or an error, and if short integers are widened for it, then all are.
#
# What happens: the sum of an 8-bit and of a 16-bit column is taken in 64 bits, that of a 32-bit column in 32: it wraps
# round without a word, alone and in a group-by. The mean of the same column is right.
#
# Output seen:
#   Int8   127 + 1: sum 128, in a group 128, mean 64.0
#   Int16  32767 + 1: sum 32768, in a group 32768, mean 16384.0
#   Int32  2147483647 + 1: sum -2147483648, in a group -2147483648, mean 1073741824.0
#   Int64  1099511627775 + 1: sum 1099511627776, in a group 1099511627776, mean 549755813888.0
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check polars==2.1.0
"$here/venv/bin/python" - <<'EOF'
import sys

import polars

kept = True
for bits, kind in ((8, polars.Int8), (16, polars.Int16), (32, polars.Int32), (64, polars.Int64)):
    largest = 2 ** (min(bits, 41) - 1) - 1
    frame = polars.DataFrame({"run": [1, 1], "tokens": polars.Series([largest, 1], dtype=kind)})
    grouped = frame.group_by("run").agg(polars.sum("tokens"))["tokens"][0]
    total, mean = frame["tokens"].sum(), frame["tokens"].mean()
    print(f"{kind.__name__:5}  {largest} + 1: sum {total}, in a group {grouped}, mean {mean:.1f}")
    wanted = -(2**31) if bits == 32 else largest + 1
    kept &= total == grouped == wanted and mean == (largest + 1) / 2
sys.exit(0 if kept else 1)
EOF
