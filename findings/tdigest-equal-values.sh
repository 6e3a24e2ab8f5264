#!/bin/sh
# tdigest 0.5.2.2, pytdigest 0.1.4
#
# One would guess: of 999 answers that took 20 ms and one that took 5 s, a t-digest says a median and a 99th percentile of
# 20 ms: only the last of a thousand is slow, and t-digests are known for accurate tails.
#
# What happens: the 999 equal values are kept as one point of weight 999, and both packages draw a straight line from its
# middle to the slow answer. The 90th percentile becomes 4 s, the 99th 4.9 s: 245 times the truth. Whatever is rounded,
# times in whole milliseconds or counts of tokens, has such ties. fastdigest 0.12.0 and pyarrow 26.0.1 say
# 20 ms.
#
# Output seen:
#   truth      p50 0.0200  p90 0.0200  p99 0.0200
#   tdigest    p50 0.0250  p90 4.0090  p99 4.9054
#   pytdigest  p50 0.0250  p90 4.0090  p99 4.9054
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check tdigest==0.5.2.2 pytdigest==0.1.4
"$here/venv/bin/python" - <<'EOF'
import sys

import numpy as np
import pytdigest
import tdigest

seconds = np.array([0.02] * 999 + [5.0])
shares = (0.5, 0.9, 0.99)
one = tdigest.TDigest()
one.batch_update(seconds)
other = pytdigest.TDigest.compute(seconds)
seen = {
    "truth": [float(np.quantile(seconds, share)) for share in shares],
    "tdigest": [float(one.percentile(100 * share)) for share in shares],
    "pytdigest": [float(other.inverse_cdf(share)) for share in shares],
}
for name, values in seen.items():
    print(f"{name:10} p50 {values[0]:.4f}  p90 {values[1]:.4f}  p99 {values[2]:.4f}")
kept = all(seen[name][1] > 3.9 and seen[name][2] > 4.8 for name in ("tdigest", "pytdigest"))
sys.exit(0 if kept and seen["truth"][2] == 0.02 else 1)
EOF
