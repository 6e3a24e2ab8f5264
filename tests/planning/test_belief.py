"""The belief: exact Gaussian conditioning, gains that come true, forecasts that hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewmark.core import InputError
from fewmark.models.base import Answers
from fewmark.planning.belief import Belief, Observation
from fewmark.planning.space import Space
from fewmark.planning.surrogate import model_belief, prior_belief, structure

TARGET = "throughput_tok_s"


def test_telling_one_by_one_is_conditioning_at_once(grid: Any) -> None:
    belief = prior_belief(grid.space, TARGET)
    at = np.array([3, 11, 17])
    y = np.log(grid.throughput[at])
    covariance = belief.covariance
    total = covariance[np.ix_(at, at)] + np.diag(belief.noise[at] ** 2)
    mean = belief.mean + covariance[:, at] @ np.linalg.solve(total, y - belief.mean[at])
    left = covariance - covariance[:, at] @ np.linalg.solve(total, covariance[at])
    surprise = (y - belief.mean[at]) @ np.linalg.solve(total, y - belief.mean[at])
    told = belief
    for position, value in zip(at, y, strict=True):
        told = told.tell(int(position), float(value))
    others = np.setdiff1d(np.arange(20), at)
    np.testing.assert_allclose(told.covariance, left, atol=1e-8)
    np.testing.assert_allclose(told.mean[others], mean[others], atol=1e-6)
    assert told.surprise == pytest.approx(surprise, rel=1e-6)


def test_a_gain_is_the_drop_that_comes(grid: Any) -> None:
    belief = prior_belief(grid.space, TARGET)
    gains = belief.sd_reduction(np.arange(20))
    assert (gains > 0).all()
    for position in (0, 7, 19):
        drop = belief.sd.mean() - belief.fantasize(position).sd.mean()
        assert gains[position] == pytest.approx(drop, rel=1e-6)


def test_forecasts_hold_on_worlds_drawn_from_the_belief(grid: Any) -> None:
    start = prior_belief(grid.space, TARGET)
    root = np.linalg.cholesky(start.covariance + 1e-9 * np.eye(20))
    rng = np.random.default_rng(0)
    held = []
    for world in range(60):
        truth = start.mean + root @ rng.standard_normal(20)
        belief = start
        for position in (2, 9, 16):
            belief = belief.tell(position, truth[position])
        actual = np.median(np.abs(np.expm1(belief.mean - truth)))
        held.append(actual <= belief.forecast(assurance=0.85, random_state=world).median_ape_bound)
    assert 0.72 <= np.mean(held) <= 0.97


def test_surprises_widen_the_belief_and_calm_narrows_it(grid: Any) -> None:
    belief = prior_belief(grid.space, TARGET)
    calm = belief.tell(5, belief.mean[5])
    shocked = belief.tell(5, belief.mean[5] + 10 * np.sqrt(belief.covariance[5, 5]))
    assert calm.scale < 1 < shocked.scale
    assert calm.sd[5] == shocked.sd[5] == 0
    assert shocked.forecast().median_ape > calm.forecast().median_ape
    with pytest.raises(InputError):
        belief.tell(0, np.nan)


def test_a_noisy_machine_is_found_out(grid: Any) -> None:
    rng = np.random.default_rng(0)
    start = prior_belief(grid.space, TARGET)
    calm = noisy = start
    for position in range(0, 20, 2):
        value = np.log(grid.throughput[position])
        calm, noisy = calm.tell(position, value), noisy.tell(position, value + 0.2 * rng.standard_normal())
    assert calm.noise[0] <= 2 * start.noise[0]
    assert 0.08 <= noisy.noise[0] <= 0.5
    assert noisy.forecast().mean_ape > 2 * calm.forecast().mean_ape
    others = np.arange(1, 20, 2)
    truth = np.log(grid.throughput[others])
    inside = np.abs(noisy.mean[others] - truth) <= 1.645 * noisy.sd_of_measurement[others]
    assert inside.mean() >= 0.8


def test_a_fully_measured_space_is_right_where_it_is_its_own_reference(grid: Any) -> None:
    rng = np.random.default_rng(1)
    belief = prior_belief(grid.space, TARGET)
    for position in range(20):
        belief = belief.tell(position, float(np.log(grid.throughput[position])) + 0.2 * rng.standard_normal())
    assert belief.forecast().mean_ape_bound == 0


def test_against_a_second_time_neighbours_even_out_the_noise_of_a_measurement(grid: Any) -> None:
    truth, raw, answered, forecast = np.log(grid.throughput), [], [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        first, second = (truth + 0.1 * rng.standard_normal(len(truth)) for _ in range(2))
        blank = replace(prior_belief(grid.space, TARGET), independent_reference=True)
        belief = blank.condition_on([Observation(i, float(first[i]), i) for i in range(len(truth))])
        assert belief.observed.all()
        raw.append(np.median(np.abs(np.expm1(first - second))))
        answered.append(np.median(np.abs(np.expm1(belief.mean - second))))
        forecast.append(belief.forecast().median_ape)
    assert np.mean(answered) < 0.9 * np.mean(raw)
    assert np.mean(forecast) == pytest.approx(np.mean(answered), rel=0.25)


def test_a_batch_size_that_runs_other_kernels_is_told_by_a_few_of_its_cells(make_grid: Any) -> None:
    """Single batch sizes off the curve by a tenth, on a noisy machine: of other lengths, too, they are answered so."""
    lengths, loads = (16, 32, 64, 128, 256, 512), (1, 2, 4, 6, 8, 12)
    grid = make_grid(lengths=lengths, loads=loads, outputs=(32, 128, 512))
    batch = np.asarray(grid.table["batch_size"])
    off = np.select([batch == 2, batch == 4], [-0.1, 0.1], 0.0)
    truth = np.log(grid.throughput) + off
    told = np.flatnonzero((grid.table["output_tokens"] == 32) & grid.table["input_tokens"].isin([16, 64, 256]))
    bias = []
    for seed in range(8):
        noise = 0.04 * np.random.default_rng(seed).standard_normal(len(truth))
        blank = replace(prior_belief(grid.space, TARGET), independent_reference=True)
        belief = blank.condition_on([Observation(int(i), float(truth[i] + noise[i]), int(i)) for i in told])
        error = belief.mean - truth
        error -= np.median(error)
        asked = np.setdiff1d(np.arange(len(truth)), told)
        bias.append([np.median(error[asked][batch[asked] == load]) for load in (2, 4)])
    assert np.abs(np.mean(bias, axis=0)).max() < 0.05


class _Interval:
    """A model as far as a belief needs one: a value, an interval, and silence on some cells."""

    target = TARGET

    def answer(self, X, level):
        value = np.where(X["batch_size"] == 64, np.nan, 100.0)
        low = value * 0.8
        low[0] = -5.0
        return Answers(value, low, value * 1.25, np.full(len(X), "interpolated"), np.ones(len(X)), [""] * len(X))


def test_any_model_with_intervals_gives_a_belief(grid: Any) -> None:
    belief = model_belief(grid.space, _Interval())
    answered = (grid.table["batch_size"] != 64).to_numpy()
    np.testing.assert_allclose(belief.mean[answered], np.log(100))
    np.testing.assert_allclose(belief.sd[answered], np.log(1.25) / 1.645, rtol=1e-3)
    # abstained: as good as nothing known
    np.testing.assert_allclose(belief.sd[~answered], prior_belief(grid.space, TARGET).sd[~answered])
    assert np.linalg.eigvalsh(belief.covariance).min() > -1e-8


def test_deployments_are_apart_in_the_prior(make_grid: Any) -> None:
    two = make_grid(("a", "b"))
    covariance = structure(two.space, level=1, slope=0, long=0, short=0)
    assert (covariance[:20, 20:] == 0).all()
    assert (covariance[:20, :20] == 1).all()


def test_a_space_refuses_what_is_no_cell(grid: Any) -> None:
    with pytest.raises(InputError, match="at least one cell"):
        Space.from_table(grid.table.iloc[:0])
    with pytest.raises(InputError, match="row 3"):
        Space.from_table(grid.table.assign(output_tokens=[1.0, 2.0, np.nan, *[1.0] * 17]))
    with pytest.raises(InputError, match="row 1"):
        Space.from_table(grid.table.assign(concurrency=4.0))
    repeated = Space.from_table(grid.table.loc[[0, 0, 1, 0]])
    assert len(repeated) == 2


def test_telling_at_once_is_telling_one_by_one() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    start = Belief(np.zeros(12), root @ root.T / 12, np.zeros(12, dtype=bool), np.full(12, 0.05))
    values = {3: 0.4, 7: -0.2, 1: 0.1, 10: 0.6, 4: 0.0}
    one_by_one = start
    for position, value in values.items():
        one_by_one = one_by_one.tell(position, value)
    at_once = start.condition_on([Observation(position, value, position) for position, value in values.items()])
    assert at_once.mean == pytest.approx(one_by_one.mean)
    assert at_once.covariance == pytest.approx(one_by_one.covariance)
    assert (at_once.scale, at_once.n_told) == (pytest.approx(one_by_one.scale), one_by_one.n_told)
