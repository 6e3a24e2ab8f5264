#!/bin/sh
# prometheus-client 0.26.0
#
# One would guess: the parser of the text format names samples as the text does, and what belongs to a family keeps its type.
#
# What happens: a counter whose name lacks `_total`, as servers not written in Python have, gets the suffix: its sample is
# found only under a name that the server never sent. And once another family came in between, further samples of a counter
# are a new family of type unknown, named with the suffix.
#
# Output seen:
#   requests 7 -> sample requests_total
#   a_total (x=1), b_total, a_total (x=2) -> a counter, b counter, a_total unknown
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check prometheus-client==0.26.0
"$here/venv/bin/python" - <<'EOF'
import sys

from prometheus_client.parser import text_string_to_metric_families as parsed

plain = "# TYPE requests counter\nrequests 7\n"
names = [sample.name for family in parsed(plain) for sample in family.samples]
print("requests 7 -> sample", *names)
apart = '# TYPE a_total counter\na_total{x="1"} 1\n# TYPE b_total counter\nb_total 1\na_total{x="2"} 1\n'
families = [f"{family.name} {family.type}" for family in parsed(apart)]
print("a_total (x=1), b_total, a_total (x=2) ->", ", ".join(families))
sys.exit(0 if names == ["requests_total"] and families == ["a counter", "b counter", "a_total unknown"] else 1)
EOF
