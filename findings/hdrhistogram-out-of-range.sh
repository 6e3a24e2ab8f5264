#!/bin/sh
# hdrhistogram 0.10.8
#
# One would guess: a value above the largest that a histogram was made for is refused with an exception, as the histogram
# in Java does, or counted as the largest.
#
# What happens: record_value() returns False and nothing else: the value is in no count, no maximum, no mean. A histogram
# up to a minute, filled with 95 answers of 1 s and 5 of 90 s, has 95 answers and a 99th percentile of 1 s.
#
# Output seen (in ms):
#   recorded 100, counted 95, largest 1000, p99 1000
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check hdrhistogram==0.10.8
"$here/venv/bin/python" - <<'EOF'
import sys

from hdrh.histogram import HdrHistogram

histogram = HdrHistogram(1, 60_000, 3)
answers_ms = [1_000] * 95 + [90_000] * 5
for value in answers_ms:
    histogram.record_value(value)
counted, largest = histogram.get_total_count(), histogram.get_max_value()
p99 = histogram.get_value_at_percentile(99)
print(f"recorded {len(answers_ms)}, counted {counted}, largest {largest}, p99 {p99}")
sys.exit(0 if counted == 95 and largest < 1_001 and p99 < 1_001 else 1)
EOF
