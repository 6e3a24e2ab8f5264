#!/bin/sh
# crepes 0.9.1 (with scikit-learn 1.9.1, which it imports and does not install)
#
# One would guess: of n residuals a conformal regressor takes the one of rank ceil(confidence * (n + 1)), so 9 residuals
# are enough for 90 %, and of 19 it takes the 18th.
#
# What happens: the rank is counted from above with 1 - confidence, and 1 - 0.9 is a little less than 0.1 in floating point.
# Where confidence * (n + 1) is whole, the next larger residual is taken at 80 and 90 %: infinity with 9 of them, the 19th
# of 19, the 17th for 16th at 80 %. At 95 and 99 % the rounding falls the other way and the ranks are as guessed.
#
# Output seen:
#   80 %  n 4: rank 4 wanted, inf taken  n 9: rank 8 wanted, 9 taken  n 14: ...
#   90 %  n 9: rank 9 wanted, inf taken  n 19: rank 18 wanted, 19 taken  n 29: ...
#   95 %  as guessed
#   99 %  as guessed
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check crepes==0.9.1 scikit-learn==1.9.1
"$here/venv/bin/python" - <<'EOF'
import math
import sys
import warnings

import numpy as np
from crepes import ConformalRegressor

warnings.simplefilter("ignore")  # said of each interval that is infinite
differing = {}
for percent in (80, 90, 95, 99):
    differing[percent] = []
    for n in range(1, 200):
        wanted = -(-percent * (n + 1) // 100)
        regressor = ConformalRegressor()
        regressor.fit(np.arange(1.0, n + 1))  # the residual is its own rank
        taken = float(regressor.predict_int(np.zeros(1), confidence=percent / 100)[0, 1])
        if taken != (wanted if wanted <= n else math.inf):
            differing[percent].append((n, wanted, taken))
    first = [f"n {n}: rank {wanted} wanted, {taken:g} taken" for n, wanted, taken in differing[percent][:4]]
    print(f"{percent} %", *(first or ["as guessed"]), sep="  ")
kept = (9, 8, 9.0) in differing[80] and (9, 9, math.inf) in differing[90] and (19, 18, 19.0) in differing[90]
sys.exit(0 if kept and not differing[95] and not differing[99] else 1)
EOF
