"""The time left is forecast from the work that is left, not from the number of cases."""

import pytest

from fewmark.core import Case, Deployment, Workload
from fewmark.runner.progress import seconds_left, work_of


def case(tokens_in, tokens_out, load):
    return Case(Deployment("dummy", "toy"), Workload(tokens_in, tokens_out, batch_size=load))


def test_more_tokens_and_larger_batches_are_more_work():
    base = work_of(case(128, 32, 4))
    assert work_of(case(128, 64, 4)) > 1.5 * base
    assert base < work_of(case(128, 32, 8)) < 2 * base  # a step's cost is shared
    assert base < work_of(case(256, 32, 4)) < 2 * base


def test_small_cases_done_first_do_not_promise_a_quick_end():
    small, large = work_of(case(128, 32, 1)), work_of(case(128, 1024, 32))
    assert seconds_left(10.0, small, small + large) > 300  # by the number of cases it would be 10 s
    assert seconds_left(0.5, 0.0, 5.0) is None
    assert seconds_left(20.0, 5.0, 5.0) == pytest.approx(0)
