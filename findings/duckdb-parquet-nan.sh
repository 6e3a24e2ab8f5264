#!/bin/sh
# duckdb 2.0.1, pyarrow 26.0.1
#
# One would guess: a query answers the same of a Parquet file as of the table in memory that it was written from.
#
# What happens: in memory NaN is larger than any number, so it is the maximum and passes `power_w > 300`. Of the file the
# maximum comes from the statistics, which leave NaN out, and they decide as well whether rows are looked at: the same NaN
# passes the filter if another row of its group passes, and does not if none does.
#
# Output seen:
#   power_w              max, memory  max, file  > 300, memory  > 300, file
#   100, 200, nan, 400   nan          400.0      [nan, 400.0]   [nan, 400.0]
#   100, 200, nan, 250   nan          250.0      [nan]          []
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1
cd "$here"
"$here/venv/bin/python" - <<'EOF'
import math
import sys

import duckdb
import pyarrow
import pyarrow.parquet


def numbers(query):
    return [row[0] for row in duckdb.sql(query).fetchall()]


seen = []
print(f"{'power_w':20} max, memory  max, file  > 300, memory  > 300, file")
for last in (400.0, 250.0):
    measured = pyarrow.table({"power_w": [100.0, 200.0, math.nan, last]})
    pyarrow.parquet.write_table(measured, "table.parquet")
    places = ("measured", "'table.parquet'")
    largest = [numbers(f"select max(power_w) from {place}")[0] for place in places]
    above = [numbers(f"select power_w from {place} where power_w > 300") for place in places]
    print(f"{f'100, 200, nan, {last:g}':20} {largest[0]!s:12} {largest[1]!s:10} {above[0]!s:14} {above[1]}")
    seen.append([*map(math.isnan, largest), *map(len, above)])
sys.exit(0 if seen == [[True, False, 2, 2], [True, False, 1, 0]] else 1)
EOF
