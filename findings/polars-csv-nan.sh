#!/bin/sh
# polars 2.1.0
#
# One would guess: a CSV column of floats that Python wrote is read as floats, its `nan` as much as its `inf`.
#
# What happens: `inf` and `NaN` are numbers to the guess of the column's type, `nan` is a word: one of them among the rows
# that are looked at makes the column text. Further down, beyond those rows, the same `nan` is read as a float.
#
# Output seen:
#   4.5, inf             Float64
#   4.5, NaN             Float64
#   4.5, nan             String
#   4.5 (200 times), nan Float64, the last value nan
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check polars==2.1.0
cd "$here"
"$here/venv/bin/python" - <<'EOF'
import csv
import math
import sys

import polars


def read(values):
    with open("table.csv", "w", newline="") as file:
        csv.writer(file).writerows([("ttft_s", "n"), *((value, 1) for value in values)])
    return polars.read_csv("table.csv")["ttft_s"]


columns = [read((4.5, math.inf)), read((4.5, "NaN")), read((4.5, math.nan)), read((*[4.5] * 200, math.nan))]
for words, column in zip(("4.5, inf", "4.5, NaN", "4.5, nan", "4.5 (200 times), nan"), columns, strict=True):
    print(f"{words:20} {column.dtype}" + (f", the last value {column[-1]}" if len(column) > 2 else ""))
kinds = [column.dtype for column in columns]
sys.exit(0 if kinds == [polars.Float64, polars.Float64, polars.String, polars.Float64] and math.isnan(columns[3][-1]) else 1)
EOF
