"""One generation tells of the shorter ones that it passes through; values of one run share its noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewmark.core import Case, Deployment, Measurement, Sample, Status, Workload
from fewmark.planning.belief import Observation
from fewmark.planning.prefix import prefix_latency_s, shorter, tells_prefixes
from fewmark.planning.surrogate import prior_belief

TARGET = "throughput_tok_s"


def measured(times: tuple[tuple[float, ...], ...], **change: Any) -> Measurement:
    case = Case(Deployment("made-up", "m"), Workload(16, 3, **(change or {"batch_size": 2})))
    samples = tuple(Sample(e2e_latency_s=t[-1], ttft_s=t[0], output_tokens=3, token_times_s=t) for t in times)
    return Measurement(case, samples=samples)


def test_the_moments_of_a_run_are_those_of_shorter_runs() -> None:
    run = measured(((1.0, 2.0, 3.0), (1.2, 2.4, 3.9), (1.1, 2.1, 3.2)))
    assert tells_prefixes(run)
    assert prefix_latency_s(run, 1) == 1.1
    assert prefix_latency_s(run, 2) == 2.1
    assert prefix_latency_s(run, 3) == 3.2


def test_what_does_not_know_every_moment_tells_nothing() -> None:
    assert not tells_prefixes(measured(((1.0, 2.0),)))  # an event with two tokens
    assert not tells_prefixes(measured(()))
    assert not tells_prefixes(measured(((1.0, 2.0, 3.0),), concurrency=2))  # users start and end at their own times
    assert not tells_prefixes(replace(measured(((1.0, 2.0, 3.0),)), status=Status.INVALID))


def test_only_shorter_ones_of_the_same_prompts_and_batch_are_passed_through(make_grid: Any) -> None:
    space = make_grid(("m", "k"), (128, 256), (1, 4), outputs=(32, 64)).space
    reveals = shorter(space, [0])
    cells = space.cells
    for run in range(len(space)):
        for cell in np.flatnonzero(reveals[run]):
            same = ["model", "input_tokens", "batch_size"]
            assert (cells.loc[run, same] == cells.loc[cell, same]).all()
            assert cells.loc[cell, "output_tokens"] <= cells.loc[run, "output_tokens"]
            assert cell == run or cells.loc[run, "model"] == "m"  # nothing is known of how the other one tells
    assert reveals[space.deployment == 0].sum() == 4 * (1 + 2)


def test_values_of_one_run_say_less_than_those_of_several(make_grid: Any) -> None:
    space = make_grid(lengths=(128,), outputs=(32, 64, 128, 256), loads=(1, 4)).space
    blank = replace(prior_belief(space, TARGET), noise=np.full(len(space), 0.2))
    column = np.flatnonzero(space.octaves[:, 2] == 0)
    asked = int(np.flatnonzero(space.octaves[:, 2] == 2)[0])
    one, several = blank, blank
    for cell in column:
        one = one.condition_on([Observation(int(cell), float(blank.mean[cell]), int(column[-1]))])
        several = several.tell(int(cell), float(blank.mean[cell]))
    assert blank.covariance[asked, asked] > one.covariance[asked, asked] > several.covariance[asked, asked]


def test_a_run_that_reveals_more_is_worth_more_and_imagined_so(make_grid: Any) -> None:
    space = make_grid(lengths=(128,), outputs=(32, 64, 128, 256), loads=(1, 4)).space
    plain = prior_belief(space, TARGET)
    telling = replace(plain, reveals=shorter(space, [0]))
    longest = int(np.flatnonzero((space.octaves[:, 1] == 8) & (space.octaves[:, 2] == 0))[0])
    every = np.arange(len(space))
    assert telling.sd_reduction(every)[longest] > plain.sd_reduction(every)[longest]
    after = telling.fantasize(longest)
    assert after.observed.sum() == 4
    # imagining is telling, whatever the values turn out to be
    told = plain
    for cell in np.flatnonzero(telling.reveals[longest]):
        told = told.condition_on([Observation(int(cell), float(plain.mean[cell]), longest)])
    assert after.covariance == pytest.approx(told.covariance, abs=1e-6)


def test_a_projected_value_informs_and_does_not_stand(make_grid: Any) -> None:
    space = make_grid(lengths=(128,), outputs=(32, 64, 128), loads=(1, 4)).space
    blank = prior_belief(space, TARGET)
    value = float(blank.mean[2]) + 0.3
    precise, vague = (blank.condition_on([Observation(2, value, 0, sd)]) for sd in (0.01, 0.5))
    assert not precise.observed.any()
    assert 0 < precise.sd[2] < vague.sd[2] < blank.sd[2]
    assert value > precise.mean[2] > vague.mean[2] > blank.mean[2]
    measured = precise.tell(2, 2.0)  # a measurement takes its place
    assert measured.mean[2] == 2.0
    assert measured.n_told == 1
