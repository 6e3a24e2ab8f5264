"""The cards that are built for a report: what they count, compare and leave out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.core import CANONICAL_COLUMNS, Case, Cost, Deployment, Measurement, Sample, Status, Workload
from fewmark.core.columns import NUMERIC_COLUMNS
from fewmark.screening import Finding
from fewmark.tables.repeats import reduce_cells
from fewmark.verbs.cards.labels import with_labels
from fewmark.verbs.cards.overview import cost_card, environment_card, faults_card, summary_card
from fewmark.verbs.cards.prediction import accuracy_card, curves_card

TARGET = "throughput_tok_s"


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    base = {"engine": "vllm", "model": "m", "accelerator": "A100", "status": "ok", "batch_size": 1.0}
    frame = pd.DataFrame([base | {"input_tokens": 128.0, "output_tokens": 128.0} | row for row in rows])
    for name in CANONICAL_COLUMNS:
        if name not in frame:
            frame[name] = np.nan if name in NUMERIC_COLUMNS else None
    return frame


def measurement(
    label: str = "m", *, status: str = "ok", wall_s: float | None = None, **environment: Any
) -> Measurement:
    return Measurement(
        Case(Deployment("replay", label), Workload(8, 8, batch_size=1)),
        status=Status(status),
        samples=(Sample(e2e_latency_s=2.0),) if status == "ok" else (),
        cost=Cost(wall_s=wall_s, startup_s=None if wall_s is None else 1.0),
        environment=environment,  # type: ignore[arg-type]
    )


def test_labels_are_alike_for_alike_deployments_and_only_for_those() -> None:
    frame = with_labels(
        table(
            [
                {"accelerator_count": 4.0},
                {"accelerator_count": 4.0, "batch_size": 2.0},
                {"accelerator_count": 2.0},
                {"engine_version": "1.0"},
                {"engine_version": "2.0"},
                {},
                {"option.flag": True},
                {"placement": "disk"},
            ]
        )
    )
    labels = frame["deployment"].tolist()
    assert labels[0] == labels[1] == "m · vllm on 4×A100"
    assert len(set(labels)) == 7
    assert "engine_version 1.0" in labels[3]
    assert labels[7].endswith("(disk)")


def test_repeats_are_reduced_to_their_median_and_unknown_values_do_not_count() -> None:
    frame = table([{TARGET: v} for v in (1.0, 9.0, 2.0, None, 0.0)] + [{TARGET: 5.0, "batch_size": 4.0}])
    cells = reduce_cells(frame, TARGET)
    assert cells[TARGET].tolist() == [2.0, 5.0]
    assert cells["n_rows"].tolist() == [3, 1]


def test_projected_is_told_apart_from_measured_and_predicted() -> None:
    rows = [{TARGET: 100.0 * (i + 1), "batch_size": float(2**i)} for i in range(3)]
    frame = table(rows).assign(provenance=["measured", "projected", "measured"])
    cells = reduce_cells(frame, TARGET)
    assert cells["projected"].tolist() == [False, True, False]
    card = curves_card(cells, predicted([1.0] * 3, 0.1), TARGET, model="mechanistic")
    points = {series.name: series for series in card.charts[0].series if series.style == "points"}
    assert points["128 in · 128 out"].x == (1.0, 4.0)
    assert points["128 in · 128 out · projected"].x == (2.0,)
    assert points["128 in · 128 out · projected"].labels[0].startswith("projected at")
    assert "cut short" in card.text
    assert dict(summary_card(frame, TARGET, source="here").figures)["projected cells"] == "1"


def test_a_cell_keeps_the_interval_of_its_projection_unless_it_was_measured_too() -> None:
    ends = {"provenance": "projected", "e2e_latency_s_low": 1.0, "e2e_latency_s_high": 2.0}
    frame = table([{TARGET: 1.0, **ends}, {TARGET: 2.0, "batch_size": 8.0, **ends}, {TARGET: 3.0}])
    cells = reduce_cells(frame, TARGET)
    assert cells["e2e_latency_s_high"].isna().tolist() == [True, False]
    assert cells[TARGET].tolist() == [2.0, 2.0]


def test_what_was_projected_anew_or_measured_in_full_as_well_counts_once() -> None:
    anew = {TARGET: 2.0, "provenance": "projected", "flag": "projected-anew"}
    rows = [{TARGET: 1.0, "provenance": "projected"}, anew, {TARGET: 3.0, "provenance": "projected", "batch_size": 8.0}]
    figures = dict(summary_card(table(rows), TARGET, source="here").figures)
    assert (figures["cells"], figures["projected cells"]) == ("2", "2")
    both = table([*rows, {TARGET: 1.5, "provenance": "measured"}, {"status": "crashed", "provenance": "projected"}])
    assert dict(summary_card(both, TARGET, source="here").figures)["projected cells"] == "1"
    told = replace(measurement("a", wall_s=10.0, host="h"), provenance="projected")
    again = replace(told, cost=Cost(), flags=("projected-anew",))
    assert cost_card([told, again]).tables[0].rows == (("a · replay", 1, 10.0, 1.0),)
    assert "with 1 measurements" in environment_card([told, again]).text


def test_the_summary_counts_cells_not_rows() -> None:
    frame = table([{TARGET: 1.0}, {TARGET: 3.0}, {TARGET: 2.0, "batch_size": 8.0}, {"status": "timeout", "model": "n"}])
    card = summary_card(frame, TARGET, source="here")
    assert dict(card.figures) == {"deployments": "2", "cells": "3", "rows": "4", "models": "2", "failed": "1"}
    assert card.tables[0].rows[0] == ("m · vllm on A100", 2, "128", "128", "1–8", 1.0, 3.0)
    assert card.tables[0].rows[1][-2:] == (None, None)
    assert card.advice[0].code == "timeout"


def test_deployments_are_shown_side_by_side() -> None:
    frame = table([{TARGET: 10.0}, {TARGET: 30.0, "accelerator": "H100", "accelerator_count": 2.0}, {TARGET: 5.0}])
    [chart] = summary_card(frame, TARGET, source="here").charts
    assert {series.name: series.y for series in chart.series} == {"A100": (10.0, 5.0), "H100": (15.0,)}
    assert chart.x_name == "e2e_latency_s"
    assert summary_card(frame.iloc[[0, 2]], TARGET, source="here").charts == ()


def predicted(factors: list[float], width: float, provenance: str = "interpolated") -> pd.DataFrame:
    rows = [{"batch_size": float(2**i), TARGET: 100.0 * (i + 1)} for i in range(len(factors))]
    frame = table(rows)
    value = frame[TARGET] * np.array(factors)
    return frame.assign(value=value, low=value * (1 - width), high=value * (1 + width), provenance=provenance)


def test_accuracy_says_the_errors_and_how_many_intervals_held() -> None:
    card = accuracy_card(predicted([1.0, 1.1, 0.8, 1.0], 0.12), TARGET, how="So.", confidence_level=0.8)
    figures = dict(card.figures)
    assert figures["cells checked"] == "4"
    assert figures["median APE"] == "5.0%"
    assert figures["80% intervals that held"] == "75.0%"
    assert card.charts[0].diagonal
    assert card.tables[0].rows[0][-1] == pytest.approx(20.0)
    held, missed = card.charts[0].series
    assert held.x == (100.0, 200.0, 400.0)
    assert held.y == pytest.approx((100.0, 220.0, 400.0))
    assert (held.low[1], held.high[1]) == pytest.approx((220 * 0.88, 220 * 1.12))
    assert missed.name == "interpolated, interval missed"
    assert missed.x == (300.0,)
    assert "3 of 4 intervals of 80% held; if they keep their promise, 2 or more do" in card.text


def test_accuracy_tells_abstentions_apart() -> None:
    frame = predicted([1.0, 1.0], 0.1)
    frame.loc[1, ["value", "low", "high"]] = np.nan
    assert dict(accuracy_card(frame, TARGET, how="So.").figures)["abstained"] == "1"
    frame["value"] = np.nan
    card = accuracy_card(frame, TARGET, how="So.")
    assert "No prediction could be checked" in card.text
    assert not card.charts


def test_curves_show_points_and_bands_by_length() -> None:
    frame = pd.concat([predicted([1.0] * 4, 0.1), predicted([1.1] * 4, 0.1).assign(input_tokens=256.0)])
    card = curves_card(frame.iloc[:2], frame.drop(columns=TARGET), TARGET, model="mechanistic")
    [chart] = card.charts
    assert (chart.x_name, chart.group, chart.title) == ("batch_size", "Deployment", "m · vllm on A100")
    assert [(series.name, series.style, len(series.x)) for series in chart.series] == [
        ("128 in · 128 out", "line", 4),
        ("128 in · 128 out", "points", 2),
        ("256 in · 128 out", "line", 4),
    ]
    assert chart.series[0].low == pytest.approx((90.0, 180.0, 270.0, 360.0))
    assert chart.series[0].labels[0] == "interpolated"


def test_curves_of_many_lengths_are_parted_and_users_are_users() -> None:
    rows = [
        {"input_tokens": float(i), "output_tokens": float(o), "batch_size": None, "concurrency": float(c), TARGET: 1.0}
        for i in (8, 16, 32, 64) for o in (4, 8, 16) for c in (1, 2)
    ]  # fmt: skip
    frame = table(rows)
    card = curves_card(frame, frame.iloc[:0].assign(value=1.0, low=1.0, high=1.0, provenance="x"), TARGET, model="m")
    assert [chart.title[-8:] for chart in card.charts] == [" · 4 out", " · 8 out", "· 16 out"]
    assert {chart.x_name for chart in card.charts} == {"concurrency"}
    assert all(len(chart.series) == 4 for chart in card.charts)


def test_curves_follow_the_axis_that_varies() -> None:
    frame = table([{"input_tokens": float(i), "batch_size": 1.0, TARGET: 10.0 / i} for i in (8, 16, 32)])
    card = curves_card(frame, frame.iloc[:0].assign(value=1.0, low=1.0, high=1.0, provenance="x"), TARGET, model="m")
    [chart] = card.charts
    assert (chart.x_name, chart.title) == ("input_tokens", "m · vllm on A100 · along input tokens")
    assert chart.series[0].name == "128 out · batch 1"


def test_lengths_that_differ_at_every_load_make_one_curve() -> None:
    frame = table([{"input_tokens": 100.0 + b, "batch_size": b, TARGET: 10.0 * b} for b in (1.0, 2.0, 4.0)])
    told = frame.drop(columns=TARGET).assign(value=9.0, low=8.0, high=12.0, provenance="interpolated")
    [chart] = curves_card(frame, told, TARGET, model="m").charts
    assert [(series.name, len(series.x)) for series in chart.series] == [("mixed lengths", 3)] * 2
    assert chart.series[1].labels[2] == "measured at 104 in, 128 out"


def test_the_cost_adds_up_and_unknown_is_not_zero() -> None:
    card = cost_card([measurement("a", wall_s=10.0), measurement("a", wall_s=20.0), measurement("b", wall_s=150.0)])
    assert dict(card.figures) == {"measuring": "3.0 min", "engine start-up": "3.0 s"}
    assert card.tables[0].rows == (("b · replay", 1, 150.0, 1.0), ("a · replay", 2, 30.0, 2.0))
    twins = [measurement("a", wall_s=1.0), measurement("a", wall_s=2.0)]
    newer = Case(Deployment("replay", "a", engine_version="2"), twins[1].case.workload)
    assert len(cost_card([twins[0], replace(twins[1], case=newer)]).tables[0].rows) == 2
    unknown = cost_card([measurement("a"), measurement("b")])
    assert "not recorded" in unknown.text
    assert dict(unknown.figures) == {"one pass, at least": "4.0 s"}
    assert not cost_card([]).figures


def test_the_environment_says_what_varied() -> None:
    card = environment_card([
        measurement(host={"cpu_count": 2, "memory_total_bytes": 2**33}, load=0.5),
        measurement(host={"cpu_count": 2, "memory_total_bytes": 2**33}, load=1.5),
        measurement(),
    ])  # fmt: skip
    assert dict(card.tables[0].rows) == {
        "host · cpu_count": "2",
        "host · memory_total (GiB)": "8.0",
        "load": "0.5 to 1.5",
    }
    assert "not recorded" in environment_card([measurement()]).text


def test_faults_are_counted_by_row_and_listed_with_their_reasons() -> None:
    frame = table([{TARGET: 1.0}] * 3)
    findings = [
        Finding(2, "too-fast", "faster than light", "exclude"),
        Finding(2, "copied", "a copy of row 1", "exclude"),
        Finding(1, "cold-start", "first", "warn"),
    ]
    card = faults_card(frame, findings)
    assert dict(card.figures) == {"rows screened": "3", "excluded": "1", "corrected": "0", "with a warning": "1"}
    assert card.tables[1].rows[0] == (1, "warn", "cold-start", "first")
    assert "found no fault" in faults_card(frame, []).text
