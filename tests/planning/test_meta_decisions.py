"""Decision scores: exact on small cases, and a bias at the edge costs more than its error tells."""

from __future__ import annotations

import numpy as np
import pytest

from fewmark.core import InputError
from fewmark.evaluation.meta_decisions import decision_scores

LOADS = np.array([1.0, 2.0, 4.0, 8.0])
WORK = np.tile(LOADS * 100, 3)
GROUP = np.repeat([0, 1, 2], 4)
TRUE = np.tile(np.array([50.0, 90.0, 150.0, 200.0]), 3)  # latencies 2, 2.2, 2.7, 4 s


def test_the_truth_decides_without_regret() -> None:
    out = decision_scores(GROUP, WORK, TRUE, TRUE)
    assert (out.n, out.success_rate, out.overspend, out.regret) == (12, 1.0, 0.0, 0.0)


def test_optimism_fails_and_caution_overspends() -> None:
    optimist = decision_scores(GROUP, WORK, TRUE, TRUE * 1.3)
    cautious = decision_scores(GROUP, WORK, TRUE, TRUE / 1.3)
    assert optimist.success_rate is not None
    assert cautious.success_rate is not None
    # under limits of 2 and 2.22 s it takes the next larger load; the two loosest limits are kept
    assert optimist.success_rate == pytest.approx(2 / 4)
    assert optimist.overspend == pytest.approx(0.0)
    assert optimist.regret == pytest.approx(0.5)
    # nothing seems to meet 2, 2.2 s; 2 of 2.67 s and 2.67 of 4 s are met with less
    assert cautious.success_rate == pytest.approx(2 / 4)
    assert cautious.overspend == pytest.approx(np.mean([150 / 50 - 1, 200 / 150 - 1]))
    assert cautious.regret == pytest.approx((2 + 150 / 50 - 1 + 200 / 150 - 1) / 4)


def test_silence_is_no_success_and_too_few_loads_no_decision() -> None:
    silent = decision_scores(GROUP, WORK, TRUE, np.full(12, np.nan))
    assert (silent.success_rate, silent.overspend, silent.regret) == (0.0, None, 1.0)
    assert decision_scores(np.arange(12), WORK, TRUE, TRUE).n == 0
    assert decision_scores(np.arange(12), WORK, TRUE, TRUE).regret is None
    with pytest.raises(InputError):
        decision_scores(GROUP, WORK, -TRUE, TRUE)
