#!/bin/sh
# duckdb 2.0.1
#
# One would guess: of results whose `request_rate` is "inf" or a number, as vLLM writes it, `request_rate = 'inf'` finds the
# runs without a limit, whatever else is in the file.
#
# What happens: a file with "inf" alone has a text column, and the filter finds its runs. With one numeric rate beside them
# the column is JSON, whose text keeps the quotes: the same filter finds none, without a message.
#
# Output seen:
#   "inf"       VARCHAR  1 of 1 runs without a limit found
#   "inf", 4.0  JSON     0 of 1 runs without a limit found
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1
cd "$here"
"$here/venv/bin/python" - <<'EOF'
import json
import pathlib
import sys

import duckdb

seen = []
for rates in (["inf"], ["inf", 4.0]):
    pathlib.Path("runs.jsonl").write_text("".join(json.dumps({"request_rate": rate}) + "\n" for rate in rates))
    kind = duckdb.sql("select typeof(request_rate) from read_json('runs.jsonl') limit 1").fetchall()[0][0]
    found = len(duckdb.sql("select * from read_json('runs.jsonl') where request_rate = 'inf'").fetchall())
    print(f"{', '.join(map(json.dumps, rates)):11} {kind:8} {found} of 1 runs without a limit found")
    seen.append((kind, found))
sys.exit(0 if seen == [("VARCHAR", 1), ("JSON", 0)] else 1)
EOF
