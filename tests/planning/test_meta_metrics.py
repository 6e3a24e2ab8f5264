"""Meta-metrics: every part of the bill is charged once, and unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fewmark.core import InputError
from fewmark.evaluation.meta_metrics import Account, Charges, accuracy, coverage, price_plan
from fewmark.tables.identity import cell_codes, deployment_codes


def grid(devices: float = 2.0) -> pd.DataFrame:
    rows = [
        {"engine": "e", "model": model, "accelerator_count": devices, "input_tokens": ii, "output_tokens": oo,
         "batch_size": bb, "concurrency": np.nan}
        for model in ("a", "b") for ii in (128.0, 256.0) for oo in (64.0, 128.0) for bb in (1.0, 16.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_part_is_charged_once() -> None:
    cells = grid()
    cost = price_plan(
        cells,
        np.full(16, 2.0),
        Charges(load_s=10, warmup=1, repeats=3, one_token_runs=True),
        ttft_s=np.full(16, 0.5),
        price_per_accelerator_hour=np.full(16, 3.6),
        power_w=np.full(16, 100.0),
    )
    assert (cost.n_cells, cost.n_loads) == (16, 2)
    assert (cost.loading_s, cost.warmup_s, cost.repeats_s) == (20, 32, 96)
    assert cost.one_token_s == 8 * 4 * 0.5  # one per (deployment, input, batch), whatever the output length
    assert cost.time_s == 164
    assert cost.accelerator_hours == pytest.approx(164 * 2 / 3600)
    assert cost.money == pytest.approx(164 * 2 / 1000)
    assert cost.energy_j == pytest.approx(16400)


def test_unknown_stays_unknown() -> None:
    cost = price_plan(grid(devices=np.nan), np.ones(16), Charges(), price_per_accelerator_hour=np.ones(16))
    assert cost.accelerator_hours is None
    assert cost.money is None
    assert cost.energy_j is None
    account = Account(cost, cost)
    assert account.speed_up == 1
    assert account.resource_saving is None
    with pytest.raises(InputError, match="latency"):
        price_plan(grid(), np.r_[np.nan, np.ones(15)], Charges())
    with pytest.raises(InputError, match="repeat"):
        Charges(repeats=0)


def test_speed_up_and_saving_count_loading_on_both_sides() -> None:
    cells, charges = grid(), Charges(load_s=10)
    full = price_plan(cells, np.full(16, 10.0), charges)
    few = price_plan(cells.iloc[[0, 8]], np.full(2, 10.0), charges)
    account = Account(few, full)
    assert account.speed_up == pytest.approx((20 + 640) / (20 + 80))
    assert account.resource_saving == pytest.approx(1 - 100 / 660)


def test_accuracy_tells_the_kinds_apart() -> None:
    reference = np.array([10.0, 10, 10, 10, np.nan])
    estimate = np.array([10.0, 11, 8, np.nan, 5])
    out = accuracy(reference, estimate, np.array(["measured", "projected", "predicted", "", "predicted"]))
    assert out["all"].n == 3
    assert out["all"].relative_accuracy == pytest.approx(0.9)
    assert out["all"].relative_accuracy_mean == pytest.approx(0.9)
    assert out["all"].worst_ape == pytest.approx(0.2)
    assert out["measured"].median_ape == 0
    assert out["projected"].median_ape == pytest.approx(0.1)
    assert out["predicted"].n == 1
    assert accuracy(reference, estimate, np.array([""] * 5))["measured"].relative_accuracy is None
    with pytest.raises(InputError):
        accuracy(reference, estimate, np.array(["guessed"] * 5))


def test_coverage_knows_what_lies_inside() -> None:
    cells = grid()
    kind = np.array([""] * 16, dtype=object)
    kind[[0, 7]] = "measured"  # opposite corners of deployment a
    kind[1:7] = "predicted"
    out = coverage(cells, kind)
    assert out.answered == pytest.approx(0.5)
    assert out.measured == pytest.approx(2 / 16)
    assert out.inside == pytest.approx(0.5)  # all of a, none of b


def test_identity_takes_unknowns_as_equal_and_options_as_different() -> None:
    cells = grid().assign(precision=None)
    assert len(set(deployment_codes(cells))) == 2
    assert len(set(deployment_codes(cells.assign(**{"option.x": np.arange(16) % 2})))) == 4
    again = pd.concat([cells, cells], ignore_index=True)
    assert (cell_codes(again)[:16] == cell_codes(again)[16:]).all()
    assert len(set(cell_codes(again))) == 16
