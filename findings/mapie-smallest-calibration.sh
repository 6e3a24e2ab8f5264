#!/bin/sh
# mapie 1.6.0
#
# One would guess: split conformal intervals at 90 % need 9 calibration residuals, at 95 % 19, at 50 % one: with them the
# rank ceil(level * (n + 1)) is n, and the largest residual is the answer.
#
# What happens: the smallest number for which that holds is refused at every level, as if the rank did not exist; one more
# is accepted, and gets the largest of them.
#
# Output seen:
#   50 %  1 enough by the formula, 2 accepted
#   75 %  3 enough by the formula, 4 accepted
#   80 %  4 enough by the formula, 5 accepted
#   90 %  9 enough by the formula, 10 accepted
#   95 %  19 enough by the formula, 20 accepted
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check mapie==1.6.0 scikit-learn==1.9.1
"$here/venv/bin/python" -W ignore - <<'EOF'
import sys

import numpy as np
from mapie.regression import SplitConformalRegressor
from sklearn.dummy import DummyRegressor

zero = DummyRegressor(strategy="constant", constant=0.0).fit(np.zeros((2, 1)), np.zeros(2))


def accepted(n, level):
    regressor = SplitConformalRegressor(zero, confidence_level=level, prefit=True)
    try:
        regressor.conformalize(np.zeros((n, 1)), np.arange(1.0, n + 1))
        regressor.predict_interval(np.zeros((1, 1)))
    except ValueError as error:
        assert "too low" in str(error), error
        return False
    return True


kept = True
for percent in (50, 75, 80, 90, 95):
    enough = next(n for n in range(1, 100) if -(-percent * (n + 1) // 100) <= n)
    least = next(n for n in range(1, 100) if accepted(n, percent / 100))
    print(f"{percent} %  {enough} enough by the formula, {least} accepted")
    kept &= least == enough + 1
sys.exit(0 if kept else 1)
EOF
