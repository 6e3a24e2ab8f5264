#!/bin/sh
# prometheus-client 0.26.0
#
# One would guess: a NaN observed by a histogram (a latency of a request that gave none) is refused, or counted in the bucket
# up to infinity, since each bucket's count and the number of observations belong together.
#
# What happens: it is in no bucket and not in the count, and it is in the sum: from then on the sum is NaN for good, and so
# is each mean made of two scrapes. A summary counts it.
#
# Output seen:
#   histogram of nan, 0.5: count 1.0  bucket +Inf 1.0  sum nan
#   summary of nan, 0.5: count 2.0  sum nan
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check prometheus-client==0.26.0
"$here/venv/bin/python" - <<'EOF'
import math
import sys

from prometheus_client import CollectorRegistry, Histogram, Summary

registry = CollectorRegistry()
for metric in (Histogram("ttft", "s", buckets=(0.1, 1.0), registry=registry), Summary("itl", "s", registry=registry)):
    metric.observe(math.nan)
    metric.observe(0.5)
get = registry.get_sample_value
bucket = get("ttft_bucket", {"le": "+Inf"})
print(f"histogram of nan, 0.5: count {get('ttft_count')}  bucket +Inf {bucket}  sum {get('ttft_sum')}")
print(f"summary of nan, 0.5: count {get('itl_count')}  sum {get('itl_sum')}")
kept = get("ttft_count") == bucket == 1 and get("itl_count") == 2 and math.isnan(get("ttft_sum"))
sys.exit(0 if kept else 1)
EOF
