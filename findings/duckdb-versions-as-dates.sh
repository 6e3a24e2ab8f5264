#!/bin/sh
# duckdb 2.0.1
#
# One would guess: a CSV column of version numbers (12.8.1) or of parallel layouts (4-2-1: tensor, pipeline and data
# parallel) is text.
#
# What happens: if every value of the column could be a day, it is read as dates: CUDA 12.8.1 is 1 August 2012, the layout
# 4-2-1 the 1st of February of the year 4. One row that cannot be a day (8-1-32, 0.32.0) makes the whole column text again,
# so a table's columns change their type with the rows it happens to hold.
#
# Output seen:
#   cuda 12.8.1, 12.4.1        DATE       2012-08-01, 2012-04-01
#   layout 1-1-1, 4-2-1        TIMESTAMP  0001-01-01 00:00:00, 0004-02-01 00:00:00
#   layout 4-2-1, 8-1-32       VARCHAR    4-2-1, 8-1-32
#   engine 0.32.0, 0.31.1      VARCHAR    0.32.0, 0.31.1
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1
cd "$here"
"$here/venv/bin/python" - <<'EOF'
import pathlib
import sys

import duckdb

types = []
for name, values in (
    ("cuda", ("12.8.1", "12.4.1")),
    ("layout", ("1-1-1", "4-2-1")),
    ("layout", ("4-2-1", "8-1-32")),
    ("engine", ("0.32.0", "0.31.1")),
):
    path = pathlib.Path("table.csv")
    path.write_text(f"{name},ttft_s\n" + "".join(f"{value},0.5\n" for value in values))
    rows = duckdb.sql(f"select {name}, typeof({name}) from read_csv('table.csv')").fetchall()
    types.append(rows[0][1])
    print(f"{name + ' ' + ', '.join(values):26} {types[-1]:10} {', '.join(str(value) for value, _ in rows)}")
sys.exit(0 if types == ["DATE", "TIMESTAMP", "VARCHAR", "VARCHAR"] else 1)
EOF
