"""Sound rows pass: on clean tables of many shapes and noises, under 1% are flagged."""

from __future__ import annotations

from types import ModuleType

import pytest

from fewmark.screening import screen

SHAPES = {
    "whole": {},
    "holes": {"drop": 0.4},
    "repeats": {"repeats": 3},
    "one deployment": {"n_models": 1, "n_chips": 1, "counts": (1,)},
    "online": {"online": True, "drop": 0.2},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grid", ["diagonal", "full", "one-axis", "sparse"])
@pytest.mark.parametrize("noise", [0.005, 0.1])
def test_sound_rows_pass(room: ModuleType, grid: str, noise: float, shape: str) -> None:
    options = {"n_models": 3, "n_chips": 2, "counts": (1, 2), **SHAPES[shape]}
    frame = room.make_table(room.GRIDS[grid](), noise=noise, seed=3, **options)
    flagged = {finding.row for finding in screen(frame) if finding.action != "warn"}
    assert len(flagged) < 0.01 * len(frame)


def test_repeats_within_noise_are_never_flagged(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=5, repeats=2, n_models=2, n_chips=2)
    assert not screen(frame)


def test_accelerators_that_differ_tenfold_are_no_conflict(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.01, seed=5, n_models=2, n_chips=2, counts=(1,))
    slow = frame["accelerator"] == "H100"
    room.set_latency(frame, frame.index[slow], frame.loc[slow, "e2e_latency_s"] * 10)
    assert not screen(frame)


def test_rounded_values_are_not_copies(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.01, seed=5)
    room.set_latency(frame, frame.index, frame["e2e_latency_s"].map(lambda value: float(f"{value:.2e}")))
    assert frame["e2e_latency_s"].duplicated().any()
    assert not [finding for finding in screen(frame) if finding.rule == "copied-values"]


def test_rows_without_any_metric_or_that_failed_pass(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.01, seed=5, n_models=1)
    frame.loc[frame.index[::7], ["e2e_latency_s", "throughput_tok_s", "total_throughput_tok_s"]] = float("nan")
    frame.loc[frame.index[3::7], "status"] = "out_of_memory"
    frame.loc[frame.index[3::7], "e2e_latency_s"] = 1e-3
    assert not screen(frame)
