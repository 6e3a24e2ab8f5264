#!/bin/sh
# polars 2.1.0
#
# One would guess: max, median, quartiles and sorting agree whether NaN is a number: either all count it, as larger than any
# other, or all leave it out, or all become NaN.
#
# What happens: each goes its own way. The mean is NaN, the maximum leaves NaN out, the median and quartiles count it as
# the largest, so `describe` has a third quartile (NaN) beyond its maximum (3.0), and the median of 1, NaN and 3 is 3.
#
# Output seen:
#   describe: mean nan, min 1.0, 50% 3.0, 75% nan, max 3.0
#   top_k(1) [nan]  max 3.0  > 2 [nan, 3.0]
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check polars==2.1.0
"$here/venv/bin/python" - <<'EOF'
import math
import sys

import polars

column = polars.Series("power_w", [1.0, math.nan, 3.0])
said = dict(column.describe().rows())
print("describe:", ", ".join(f"{name} {said[name]}" for name in ("mean", "min", "50%", "75%", "max")))
top, above = column.top_k(1).to_list(), column.filter(column > 2).to_list()
print("top_k(1)", top, " max", column.max(), " > 2", above)
kept = math.isnan(said["mean"]) and said["50%"] == 3.0 and math.isnan(said["75%"]) and said["max"] == column.max() == 3.0
sys.exit(0 if kept and math.isnan(top[0]) and len(above) == 2 and column.median() == 3.0 else 1)
EOF
