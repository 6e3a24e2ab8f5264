"""Planted faults are found, by the rule that knows them, with the numbers in the reason, and little else is flagged."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from fewmark.core.columns import METRIC_COLUMNS
from fewmark.screening import Finding, apply, screen


@pytest.fixture
def clean(room: ModuleType) -> pd.DataFrame:
    return room.make_table(room.diagonal(), noise=0.02, seed=11)


def rows_of(findings: list[Finding], rule: str | None = None) -> set[int]:
    """0-based rows that models would not see."""
    return {f.row - 1 for f in findings if f.action == "exclude" and rule in (None, f.rule)}


def pick(frame: pd.DataFrame, **values: object) -> list[int]:
    chosen = pd.Series(True, index=frame.index)
    for name, value in values.items():
        chosen &= frame[name] == value
    return frame.index[chosen].tolist()


@pytest.mark.parametrize(("factor", "share"), [(5.0, 0.8), (10.0, 0.85), (0.2, 0.9), (0.1, 0.9)])
def test_gross_outliers(room: ModuleType, clean: pd.DataFrame, factor: float, share: float) -> None:
    rows = np.random.default_rng(0).choice(len(clean), 40, replace=False).tolist()
    room.set_latency(clean, rows, clean.loc[rows, "e2e_latency_s"] * factor)
    found = rows_of(screen(clean))
    assert len(found & set(rows)) >= share * len(rows)
    assert len(found - set(rows)) < 0.005 * len(clean)


def test_a_single_outlier_of_a_single_deployment(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, n_models=1, n_chips=1, counts=(1,)).iloc[:20]
    row = pick(frame, input_tokens=512.0, batch_size=16.0)[0]
    room.set_latency(frame, [row], [frame.at[row, "e2e_latency_s"] * 4])
    assert rows_of(screen(frame)) == {row}


def test_a_far_repeat_is_told_from_its_siblings(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, repeats=5, n_models=1, n_chips=1, counts=(1,))
    room.set_latency(frame, [7], [frame.at[7, "e2e_latency_s"] * 2])
    assert rows_of(screen(frame), "contradicting-repeats") == {7}


def test_a_context_limit_makes_the_longest_rows_impossibly_fast(room: ModuleType, clean: pd.DataFrame) -> None:
    rows = pick(clean, model="beta-13b", engine="fast", input_tokens=2048.0)
    factors = np.random.default_rng(2).uniform(20, 170, len(rows))
    room.set_latency(clean, rows, clean.loc[rows, "e2e_latency_s"] / factors)
    findings = screen(clean)
    assert rows_of(findings, "impossible-speed") == set(rows) == rows_of(findings)
    assert all("times less than 1024→1024 tokens" in f.reason for f in findings)


@pytest.mark.parametrize("factor", [1.6, 3.0])
def test_first_points_that_were_not_warmed_up(room: ModuleType, clean: pd.DataFrame, factor: float) -> None:
    rows = pick(clean, model="alpha-7b", accelerator="H100", input_tokens=128.0, batch_size=1.0)
    room.set_latency(clean, rows, clean.loc[rows, "e2e_latency_s"] * factor)
    found = rows_of(screen(clean))
    assert len(found & set(rows)) >= 0.8 * len(rows)
    assert len(found - set(rows)) <= 1


def test_a_batch_that_is_a_chunk_size(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=11, n_models=2, n_chips=2)
    names = ["engine", "model", "accelerator", "accelerator_count", "input_tokens"]
    slow, batch = frame["engine"] == "slow", frame["batch_size"]
    single = frame["e2e_latency_s"].where(batch == 1).groupby([frame[name] for name in names]).transform("max")
    took = (single * np.where(batch == 1, 1.0, 0.6 - 0.001 * batch))[slow]
    frame.loc[slow, "e2e_latency_s"] = took
    frame.loc[slow, "total_throughput_tok_s"] = 2 * frame["input_tokens"] / took
    frame.loc[slow, "throughput_tok_s"] = np.nan
    findings = screen(frame)
    assert rows_of(findings, "batch-not-batch") == set(frame.index[slow & (batch > 1)]) == rows_of(findings)
    assert not [f for f in findings if f.action == "correct"]


def test_latency_that_falls_as_the_batch_rises_without_other_witness(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.01, seed=4, n_models=2, n_chips=1, counts=(1,))
    rows = pick(frame, model="alpha-7b", engine="fast")
    room.set_latency(
        frame, rows, [frame.at[r, "input_tokens"] * (0.02 + 0.02 / frame.at[r, "batch_size"]) for r in rows]
    )
    assert rows_of(screen(frame)) == {row for row in rows if frame.at[row, "batch_size"] > 1}


def test_a_forgotten_batch_is_corrected_where_latency_rises_with_it(clean: pd.DataFrame) -> None:
    truth = clean["total_throughput_tok_s"].copy()
    rows = clean.index[(clean["engine"] == "slow") & (clean["batch_size"] > 1)]
    clean.loc[rows, "total_throughput_tok_s"] /= clean.loc[rows, "batch_size"]
    findings = screen(clean)
    assert {(f.row - 1, f.action) for f in findings} == {(row, "correct") for row in rows}
    pd.testing.assert_series_equal(apply(clean, findings)["total_throughput_tok_s"], truth)


def test_throughput_that_contradicts_latency(clean: pd.DataFrame) -> None:
    clean.loc[[5, 105], "total_throughput_tok_s"] *= 1.37
    clean.loc[[7, 207], "throughput_tok_s"] *= 1e-3
    findings = [f for f in screen(clean) if f.rule == "inconsistent-throughput"]
    assert {(f.row - 1, f.action) for f in findings} == {
        (5, "exclude"),
        (105, "exclude"),
        (7, "correct"),
        (207, "correct"),
    }
    assert f"{clean.at[5, 'total_throughput_tok_s']:.4g}" in findings[0].reason


def test_one_chip_under_two_names(room: ModuleType, clean: pd.DataFrame) -> None:
    twin = clean[(clean["accelerator"] == "A100") & (clean["input_tokens"] <= 256)].copy()
    twin["accelerator"] = "NVIDIA A100-SXM4-80GB"
    room.set_latency(twin, twin.index, twin["e2e_latency_s"] * np.random.default_rng(0).uniform(3, 10, len(twin)))
    frame = pd.concat([clean, twin], ignore_index=True)
    shared = frame["accelerator"].isin(["A100", "NVIDIA A100-SXM4-80GB"]) & (frame["input_tokens"] <= 256)
    found = rows_of(screen(frame), "label-conflict")
    assert found == set(frame.index[shared])


def test_two_names_that_agree_are_no_conflict(room: ModuleType, clean: pd.DataFrame) -> None:
    twin = clean[clean["accelerator"] == "A100"].copy()
    twin["accelerator"] = "A100-PCIE-40GB"
    room.set_latency(twin, twin.index, twin["e2e_latency_s"] * np.random.default_rng(0).normal(1.15, 0.02, len(twin)))
    assert not rows_of(screen(pd.concat([clean, twin], ignore_index=True)))


def test_a_latency_copied_between_models(room: ModuleType, clean: pd.DataFrame) -> None:
    source, target = (
        pick(clean, model="alpha-7b", input_tokens=512.0)[0],
        pick(clean, model="beta-13b", input_tokens=512.0)[1],
    )
    room.set_latency(clean, [target], [clean.at[source, "e2e_latency_s"]])
    findings = screen(clean)
    assert {source, target} <= rows_of(findings, "copied-values")
    assert f"row {source + 1}" in next(f.reason for f in findings if f.row == target + 1)


def times(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with a first token and a time per token that agree with its latency."""
    ttft = 0.1 * frame["e2e_latency_s"]
    return frame.assign(ttft_s=ttft, tpot_s=(frame["e2e_latency_s"] - ttft) / (frame["output_tokens"] - 1))


def test_times_that_contradict_each_other(clean: pd.DataFrame) -> None:
    frame = times(clean)
    frame.loc[[3, 300], "tpot_s"] *= 1.5
    assert rows_of(screen(frame)) == {3, 300}


def test_a_deployment_copied_from_another_is_told_by_its_contradictions(clean: pd.DataFrame) -> None:
    frame = times(clean)
    original = frame[(frame["accelerator"] == "H100") & (frame["engine"] == "fast")]
    copy = original.assign(accelerator="H100-capped", ttft_s=original["ttft_s"] * 1.3)
    both = pd.concat([copy, frame], ignore_index=True)  # the copy comes first, so position does not tell
    found = rows_of(screen(both))
    assert found == set(range(len(copy)))


def test_values_that_cannot_be(clean: pd.DataFrame) -> None:
    frame = times(clean)
    frame.loc[4, "e2e_latency_s"] = 0.0
    frame.loc[5, "throughput_tok_s"] = -3.0
    frame.loc[6, "ttft_s"] = 2 * frame.at[6, "e2e_latency_s"]
    frame.loc[7, [*METRIC_COLUMNS]] = np.nan
    frame.loc[7, "ttft_s"] = 0.0  # and nothing else is known
    findings = screen(frame)
    assert rows_of(findings) == {6, 7}
    changed = {f.row - 1: dict(f.changes) for f in findings if f.action == "correct"}
    assert changed == {4: {"e2e_latency_s": None}, 5: {"throughput_tok_s": None}}
    seen = apply(frame, findings)
    assert np.isnan(seen.at[4, "e2e_latency_s"])
    assert seen.at[4, "ttft_s"] == frame.at[4, "ttft_s"]


def test_a_row_written_twice_is_a_warning(clean: pd.DataFrame) -> None:
    frame = pd.concat([clean, clean.iloc[[3]]], ignore_index=True)
    (finding,) = screen(frame)
    assert (finding.row, finding.rule, finding.action) == (len(frame), "duplicate", "warn")
    assert len(apply(frame, [finding])) == len(frame)
