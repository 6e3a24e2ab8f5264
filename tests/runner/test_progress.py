"""The time left is forecast from the work that is left, not from the number of cases."""

import io
import re

import pytest

from fewmark.core import Case, Deployment, Measurement, Sample, Workload
from fewmark.runner.progress import RunProgress, seconds_left, work_of


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


def test_the_bar_fits_eighty_columns_with_its_count_and_time_left(monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    deployment = Deployment("transformers", "a-model-with-a-name-of-many-words-70b-instruct", accelerator="NVIDIA H100")
    cases = [Case(deployment, Workload(1024, 128, batch_size=load)) for load in (1, 2)]
    with RunProgress(cases) as progress:
        progress.started(cases[0])
        progress.saved(Measurement(cases[0], samples=(Sample(e2e_latency_s=1.0),)))
        progress._progress.refresh()
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", shown.getvalue())]
    assert max(map(len, lines)) <= 80
    assert any("1/2" in line and "left" in line and "a-model" in line and "…" in line for line in lines)
