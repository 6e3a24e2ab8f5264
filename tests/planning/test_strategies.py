"""Strategies: what each leaves in and out, that they compose, and that the seed decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewmark.core import InputError
from fewmark.evaluation.meta_metrics import Charges
from fewmark.planning.planner import Planner
from fewmark.planning.replay import replay
from fewmark.planning.strategies import make_strategy, strategy_names
from fewmark.planning.surrogate import prior_belief

TARGET = "throughput_tok_s"


def planner(recorded: Any, strategy: str, **options: Any) -> Planner:
    return Planner(recorded.space, prior_belief(recorded.space, TARGET), make_strategy(strategy), **options)


def run_out(recorded: Any, strategy: str, **options: Any) -> list[int]:
    plan = planner(recorded, strategy, **options)
    order: list[int] = []
    while picks := plan.ask(1):
        position = picks[0].position
        order.append(position)
        plan.tell(position, recorded.throughput[position], latency_s=recorded.latency_s[position])
    return order


@pytest.mark.parametrize("name", ["full", "random", "latin-hypercube", "sobol", "kernel-herding", "adaptive"])
def test_orders_reach_every_cell_once_and_follow_the_seed(name: str, make_grid: Any) -> None:
    small = make_grid(("a", "b"), (128, 512), (1, 8, 64))
    order = run_out(small, name, random_state=3)
    assert sorted(order) == list(range(12))
    assert order == run_out(small, name, random_state=3)
    if name in ("random", "latin-hypercube", "sobol"):
        assert any(order != run_out(small, name, random_state=seed) for seed in (4, 5))


@pytest.mark.slow
@pytest.mark.parametrize("name", strategy_names())
def test_every_strategy_proposes_open_candidates_only(name: str, make_grid: Any) -> None:
    recorded = make_grid(outputs=(32, 128, 1024))
    forbidden = recorded.space.load > 16
    asked = planner(recorded, name, forbidden=forbidden).ask(200)
    positions = [proposal.position for proposal in asked]
    assert positions
    assert len(set(positions)) == len(positions)
    assert not forbidden[positions].any()
    assert all(proposal.expected_gain > 0 and proposal.predicted_cost_s > 0 for proposal in asked)
    assert all(proposal.forecast_error_after <= proposal.forecast_error_before for proposal in asked)


@pytest.mark.slow
def test_narrowing(make_grid: Any) -> None:
    recorded = make_grid(loads=(1, 2, 3, 4, 6, 8), outputs=(32, 128, 1024))
    space = recorded.space
    assert set(space.load[run_out(recorded, "powers-of-two")].round()) == {1, 2, 4, 8}
    assert set(space.output_tokens[run_out(recorded, "reduced-output(output_tokens=200)")].round()) == {128}
    assert set(space.output_tokens[run_out(recorded, "reduced-output(output_tokens=8)")].round()) == {32}
    assert set(space.input_tokens[run_out(recorded, "coarse-inputs(step=3)")].round()) == {128, 1024, 2048}
    both = run_out(recorded, "full + reduced-output + powers-of-two")
    assert len(both) == 5 * 4


def test_stop_at_limit_goes_no_further_than_the_first_cell_beyond(grid: Any) -> None:
    itl = grid.latency_s / grid.space.output_tokens
    limit = 0.016
    order = run_out(grid, f"stop-at-limit(itl_s={limit})")
    for length in np.unique(grid.space.input_tokens):
        curve = [p for p in order if grid.space.input_tokens[p] == length]
        assert list(grid.space.load[curve]) == sorted(grid.space.load[curve])
        assert (itl[curve[:-1]] <= limit).all()
        assert len(curve) == 4 or itl[curve[-1]] > limit


def test_a_failure_closes_what_asks_for_more(grid: Any) -> None:
    plan = planner(grid, "full")
    at = int(np.flatnonzero((grid.space.load == 16) & (grid.space.input_tokens.round() == 512))[0])
    plan.tell(at, None)
    left = plan.open_positions()
    worse = (grid.space.load[left] >= 16) & (grid.space.input_tokens[left].round() >= 512)
    assert not worse.any()
    assert len(left) == 20 - 6


def test_sobol_and_latin_hypercube_spread(grid: Any) -> None:
    for name in ("sobol", "latin-hypercube"):
        first = run_out(grid, name)[:8]
        assert len(np.unique(grid.space.load[first])) >= 3
        assert len(np.unique(grid.space.input_tokens[first])) >= 4


@pytest.mark.slow
def test_trim_starts_with_18_points_and_ends_by_40(make_grid: Any) -> None:
    smooth = make_grid(("a", "b", "c"), (128, 256, 512, 1024), (1, 2, 4, 8, 16, 64))
    order = run_out(smooth, "trim")
    assert len(set(order)) == len(order)
    assert order[:18] == run_out(smooth, "latin-hypercube(block=18)")[:18]
    assert 18 + 10 <= len(order) <= 40  # two windows of holdouts before it may stop
    noisy = make_grid(("a", "b", "c"), (128, 256, 512, 1024), (1, 2, 4, 8, 16, 64), noise=2.0)
    assert len(run_out(noisy, "trim(most=30)")) <= 30
    with pytest.raises(InputError):
        make_strategy("trim(start=4)")


def test_kernel_herding_goes_where_the_workload_is(make_grid: Any) -> None:
    recorded = make_grid(lengths=(128, 256, 512, 1024, 2048), loads=(1, 4, 16, 64))
    weights = np.where(recorded.space.load >= 16, 1.0, 1e-6)
    flat = np.ones(len(recorded.space))
    plan = planner(recorded, "kernel-herding", weights=weights, latency_s=flat)
    assert recorded.space.load[[p.position for p in plan.ask(4)]].mean() > 16
    first = planner(recorded, "kernel-herding", latency_s=flat).ask(4)
    assert len(np.unique(recorded.space.load[[p.position for p in first]])) >= 3


@pytest.mark.slow
def test_adaptive_beats_random_at_equal_cost(make_grid: Any) -> None:
    errors: dict[str, list[float]] = {"adaptive": [], "random": []}
    for seed in range(5):
        recorded = make_grid(noise=0.01, seed=seed)
        budget = 0.2 * (10 + 4 * recorded.latency_s.sum())
        for name, found in errors.items():
            out = replay(
                recorded.space, recorded.throughput, recorded.latency_s, prior_belief(recorded.space, TARGET),
                make_strategy(name), budget_s=budget, random_state=seed,
            )  # fmt: skip
            assert out.account.plan.time_s <= budget
            median = out.account.accuracy[TARGET]["all"].median_ape
            assert median is not None
            found.append(median)
    assert np.mean(errors["adaptive"]) < 0.6 * np.mean(errors["random"])


@pytest.mark.slow
def test_it_stops_by_its_own_estimate_and_is_right(make_grid: Any) -> None:
    right, gain = [], []
    for seed in range(8):
        recorded = make_grid(noise=0.01, seed=seed)
        out = replay(
            recorded.space, recorded.throughput, recorded.latency_s, prior_belief(recorded.space, TARGET),
            make_strategy("adaptive"), target_error=0.05,
        )  # fmt: skip
        median = out.account.accuracy[TARGET]["all"].median_ape
        assert out.ended == "reached"
        assert median is not None
        right.append(median <= 0.05)
        gain.append(out.account.speed_up)
    assert np.mean(right) >= 0.85
    assert np.median(gain) > 3


def test_a_budget_too_small_for_anything_measures_nothing_and_says_so(grid: Any) -> None:
    out = replay(
        grid.space, grid.throughput, grid.latency_s, prior_belief(grid.space, TARGET), make_strategy("adaptive"),
        budget_s=5.0, target_error=0.05,
    )  # fmt: skip
    assert out.ended == "budget"
    assert out.steps == ()
    assert out.account.speed_up is None
    assert out.account.coverage is not None
    assert out.account.coverage.measured == 0


def test_projection_is_told_apart_and_near_the_truth(make_grid: Any) -> None:
    recorded = make_grid(outputs=(128, 1024))
    out = replay(
        recorded.space, recorded.throughput, recorded.latency_s, prior_belief(recorded.space, TARGET),
        make_strategy("reduced-output"), ttft_s=recorded.table["ttft_s"].to_numpy(),
    )  # fmt: skip
    errors = out.account.accuracy[TARGET]
    assert (errors["measured"].n, errors["projected"].n, errors["predicted"].n) == (20, 20, 0)
    assert 0 < errors["projected"].median_ape < 0.05
    assert out.account.speed_up > 2


def test_an_unloaded_deployment_costs_its_load_once(make_grid: Any) -> None:
    recorded = make_grid(("a", "b"))
    plan = planner(recorded, "full", charges=Charges(load_s=1000))
    first, second = plan.ask(2)
    assert first.predicted_cost_s > 1000 > second.predicted_cost_s


@pytest.mark.parametrize(
    "text", ["nonsense", "random+nonsense", "sobol(x=1)", "reduced-output(output_tokens=many)",
             "reduced-output(output_tokens=0)", "coarse-inputs(step=1.5)", "stop-at-limit(itl_s=-1)", ""],
)  # fmt: skip
def test_a_wrong_strategy_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        make_strategy(text)


def test_a_wrong_plan_is_refused(grid: Any) -> None:
    with pytest.raises(InputError, match="fraction"):
        planner(grid, "full", target_error=5.0)
    with pytest.raises(InputError, match="weights"):
        planner(grid, "full", weights=np.zeros(20))
    with pytest.raises(InputError, match="at least one"):
        planner(grid, "full").ask(0)
    with pytest.raises(InputError, match="positive"):
        planner(grid, "full").tell(0, -1.0)


def test_annealing_settles_on_a_product_of_lengths_and_loads_within_its_share(grid: Any) -> None:
    plan = planner(grid, "annealing(iterations=30,share=0.3)")
    whole = plan.cost_s()
    order = run_out(grid, "annealing(iterations=30,share=0.3)", random_state=0)
    assert 2 <= len(order) < 20
    assert whole[order].sum() <= 0.3 * whole.sum()
    lengths, loads = np.unique(grid.space.input_tokens[order]), np.unique(grid.space.load[order])
    assert len(order) == len(lengths) * len(loads)
    assert order == run_out(grid, "annealing(iterations=30,share=0.3)", random_state=0)


def test_an_error_out_of_reach_does_not_make_it_choose_the_cheapest(make_grid: Any) -> None:
    grid = make_grid(loads=(1, 2, 4, 8, 16, 32, 64), noise=0.2)
    asked = planner(grid, "adaptive", target_error=0.001)
    picks = asked.choose(5)
    cheapest = np.argsort(asked.cost_s(), kind="stable")[:5]
    assert set(picks) != set(cheapest)
    assert asked.belief.sd_reduction(picks).sum() > asked.belief.sd_reduction(cheapest).sum()
