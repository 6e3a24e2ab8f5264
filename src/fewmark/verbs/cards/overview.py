"""Cards about what was measured: the summary, its faults, its cost, and where it ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Card, Chart, Deployment, Measurement, Series, Status, Table
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json
from fewmark.runner.projection.truncation import REFRESHED
from fewmark.screening import Finding
from fewmark.tables.columns import accelerator_counts, load_label, load_of, numbers_of
from fewmark.tables.identity import cell_columns
from fewmark.tables.metrics import derive
from fewmark.verbs.cards.labels import LABEL, with_labels

MAX_FINDINGS: Final = 500
MAX_BARS: Final = 25
MAX_VALUES: Final = 3
MAX_GROUPS: Final = 8


def summary_card(frame: pd.DataFrame, target: str, *, source: str) -> Card:
    """How much there is of what: rows, cells, deployments, failures; a line a deployment.

    Parameters
    ----------
    frame : DataFrame
        The canonical table, as it was read.
    target : str
        The metric whose range each line shows.
    source : str
        Where the table comes from, for people.
    """
    cells = frame[cell_columns(frame)].drop_duplicates()
    labelled = with_labels(frame).assign(load=load_of(frame))
    rows = []
    for label, part in labelled.groupby(LABEL, sort=True):
        good = part.loc[part["status"] == Status.OK, target].dropna()
        spans = (_span(part[name]) for name in ("input_tokens", "output_tokens", "load"))
        rows.append((label, len(part[cell_columns(frame)].drop_duplicates()), *spans, _least(good), _most(good)))
    projected = _n_projected(frame)
    failed = {str(status): int(n) for status, n in frame["status"].value_counts().items() if status != Status.OK}
    advice = tuple(
        Advice(status, f"{count} rows ended as {status.replace('_', ' ')}.", "They count as results, not as speed.")
        for status, count in failed.items()
    )
    columns = ("deployment", "cells", "input_tokens", "output_tokens", "batch_or_users")
    return Card(
        "summary",
        "Summary",
        f"What was measured, from {source}." + _origin(frame),
        figures=(
            ("deployments", f"{labelled[LABEL].nunique():,}"),
            ("cells", f"{len(cells):,}"),
            ("rows", f"{len(frame):,}"),
            *((("models", f"{frame['model'].nunique():,}"),) if frame["model"].nunique() > 1 else ()),
            *((("accelerators", f"{frame['accelerator'].nunique():,}"),) if frame["accelerator"].nunique() > 1 else ()),
            *((("projected cells", f"{projected:,}"),) if projected else ()),
            *((("failed", f"{sum(failed.values()):,}"),) if failed else ()),
        ),
        tables=(Table("Deployments", (*columns, f"lowest_{target}", f"highest_{target}"), tuple(rows)),),
        charts=_across(labelled),
        advice=advice,
    )


def _across(labelled: pd.DataFrame) -> tuple[Chart, ...]:
    """Throughput per accelerator against latency of every cell that has both; nothing for a single deployment."""
    rows = derive(labelled.loc[labelled["status"] == Status.OK])
    count = accelerator_counts(rows)
    throughput = numbers_of(rows, "throughput_tok_s") / np.where(np.isnan(count), 1.0, count)
    names = [name for name in ("tpot_s", "e2e_latency_s") if (np.isfinite(numbers_of(rows, name) * throughput)).any()]
    if not names or rows[LABEL].nunique() < 2:
        return ()
    latency = numbers_of(rows, names[0])
    known = np.isfinite(latency * throughput) & (latency > 0) & (throughput > 0)
    rows = rows.assign(x=latency, y=throughput).loc[known]
    about = "accelerator" if rows["accelerator"].notna().any() else LABEL
    groups = rows[about].astype(object).where(rows[about].notna(), "unknown")
    common = groups.value_counts().index[: MAX_GROUPS - 1]
    series = tuple(
        Series(
            str(name),
            tuple(part["x"].astype(float)),
            tuple(part["y"].astype(float)),
            style="points",
            labels=tuple(
                f"{row[LABEL]}: {row['input_tokens']:g} in, {row['output_tokens']:g} out, {load_label(row)}"
                for row in part.to_dict("records")
            ),
        )
        for name, part in rows.groupby(groups.where(groups.isin(common), "others"), sort=True)
    )
    title = "All deployments: throughput per accelerator against latency; up and to the left is better"
    return (Chart(title, names[0], "throughput_per_accelerator_tok_s", series, log_x=True, log_y=True),)


def faults_card(frame: pd.DataFrame, findings: Sequence[Finding]) -> Card:
    """What screening found: how many rows by rule, and each finding with its reason."""
    if not findings:
        return Card("faults", "Data faults", f"Screening went through {len(frame):,} rows and found no fault.")
    by_rule = Counter((finding.rule, finding.action) for finding in findings)
    rows_by_action = {
        action: len({finding.row for finding in findings if finding.action == action})
        for action in ("exclude", "correct", "warn")
    }
    shown = sorted(findings, key=lambda finding: (finding.row, finding.rule))[:MAX_FINDINGS]
    more = len(findings) - len(shown)
    return Card(
        "faults",
        "Data faults",
        "Rows that screening marks, and why. Models do not see excluded rows and see corrected ones as corrected; "
        "nothing is deleted." + (f" The first {MAX_FINDINGS} of {len(findings):,} findings are shown." if more else ""),
        figures=(
            ("rows screened", f"{len(frame):,}"),
            ("excluded", f"{rows_by_action['exclude']:,}"),
            ("corrected", f"{rows_by_action['correct']:,}"),
            ("with a warning", f"{rows_by_action['warn']:,}"),
        ),
        tables=(
            Table("By rule", ("rule", "action", "rows"), tuple((*key, n) for key, n in by_rule.most_common())),
            Table(
                "Findings",
                ("row", "action", "rule", "reason"),
                tuple((finding.row, finding.action, finding.rule, finding.reason) for finding in shown),
            ),
        ),
    )


def cost_card(measurements: Iterable[Measurement]) -> Card:
    """What measuring cost: time, accelerator time and energy, start-up apart, by deployment."""
    by_deployment = _by_deployment(each_run_once(measurements))
    parts = {label: _cost(part) for label, part in by_deployment.items()}
    total = {name: _sum(part[name] for part in parts.values()) for name in _COSTS}
    if total["wall_s"] is None:
        generated = total["recorded_s"]
        text = "What measuring cost was not recorded with these data."
        if generated is not None:
            text += " A single pass over all rows takes at least the sum of their latencies."
        figures = (("one pass, at least", _duration(generated)),) if generated is not None else ()
        return Card("cost", "What it cost", text, figures=figures)
    columns = [name for name in _COSTS if name != "recorded_s" and total[name] is not None]
    ranked = sorted(parts.items(), key=lambda item: -(item[1]["wall_s"] or 0.0))
    bars = ranked[:MAX_BARS]
    chart = Chart(
        "Time spent, by deployment" + (f" (the {MAX_BARS} dearest)" if len(ranked) > MAX_BARS else ""),
        "deployment",
        "wall_s",
        (Series("measuring", tuple(k for k, _ in bars), tuple(v["wall_s"] for _, v in bars), style="bars"),),
    )
    return Card(
        "cost",
        "What it cost",
        "Wall-clock time of every case, warm-up and all repeats included; the engine's start is listed by itself.",
        figures=tuple(
            (title, _duration(value) if name.endswith("_s") else f"{value:,.0f} J")
            for name, title in _COSTS.items()
            if name in columns and (value := total[name]) is not None
        ),
        tables=(
            Table(
                "Cost by deployment",
                ("deployment", "cases", *columns),
                tuple((label, len(by_deployment[label]), *(part[name] for name in columns)) for label, part in ranked),
            ),
        ),
        charts=(chart,) if len(bars) > 1 else (),
    )


def environment_card(measurements: Iterable[Measurement]) -> Card:
    """Where it ran: each fact, and how it varied over the measurements."""
    facts: dict[str, Counter[str | float]] = {}
    n_known = 0
    for measurement in each_run_once(measurements):
        n_known += bool(measurement.environment)
        for name, value in _flatten(thaw(measurement.environment)):
            facts.setdefault(name, Counter())[value] += 1
    if not n_known:
        return Card("environment", "Environment", "Where these data were measured was not recorded with them.")
    rows = tuple((name, _values(seen)) for name, seen in sorted(facts.items()))
    return Card(
        "environment",
        "Environment",
        f"Where it ran, as recorded with {n_known:,} measurements.",
        tables=(Table("Facts", ("fact", "value"), rows),),
    )


def each_run_once(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The measurements without those that are projections made anew of samples that others hold already."""
    return [measurement for measurement in measurements if REFRESHED not in measurement.flags]


_COSTS: Final = {
    "wall_s": "measuring",
    "startup_s": "engine start-up",
    "accelerator_s": "device time",
    "energy_j": "energy",
    "recorded_s": "recorded",
}


def _by_deployment(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements by their deployments' labels, made distinct where two look alike."""
    groups: dict[Deployment, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(measurement.case.deployment, []).append(measurement)
    seen = Counter(deployment.label for deployment in groups)
    return {
        deployment.label + (f" [{deployment.deployment_id[:6]}]" if seen[deployment.label] > 1 else ""): part
        for deployment, part in groups.items()
    }


def _cost(measurements: Sequence[Measurement]) -> dict[str, float | None]:
    out = {
        name: _sum(getattr(measurement.cost, name) for measurement in measurements)
        for name in _COSTS
        if name != "recorded_s"
    }
    return out | {"recorded_s": _sum(measurement.median("e2e_latency_s") for measurement in measurements)}


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _flatten(value: Json, prefix: str = "") -> Iterable[tuple[str, str | float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix} · {key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        for item in value:
            assert isinstance(item, Mapping)
            said = [str(item[key]) for key in ("verdict", "seen", "advice") if item.get(key)]
            yield f"{prefix} · {item['name']}", ": ".join(said)
    elif isinstance(value, list):
        yield prefix, ", ".join(str(item) for item in value)
    elif isinstance(value, (str, int, float)):
        if prefix.endswith("_bytes") and not isinstance(value, str):
            yield prefix.removesuffix("_bytes") + " (GiB)", round(value / 2**30, 2)
        else:
            yield prefix, value


def _values(seen: Counter[str | float]) -> str:
    numbers = [value for value in seen if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == len(seen) > 1:
        return f"{min(numbers):g} to {max(numbers):g}"
    common = [str(value) for value, _ in seen.most_common(MAX_VALUES)]
    rest = len(seen) - len(common)
    return "; ".join(common) + (f"; and {rest} more" if rest else "")


def _n_projected(frame: pd.DataFrame) -> int:
    """How many cells were projected and never measured in full, however often they were projected."""
    if "provenance" not in frame:
        return 0
    columns, projected = cell_columns(frame), frame["provenance"] == "projected"
    full = frame.loc[~projected & (frame["status"] == Status.OK), columns].drop_duplicates()
    cut = frame.loc[projected & (frame["status"] == Status.OK), columns].drop_duplicates()
    return len(cut) - len(cut.merge(full, on=columns))


def _origin(frame: pd.DataFrame) -> str:
    known = {name: frame.attrs[name] for name in ("licence", "citation") if frame.attrs.get(name)}
    return "".join(f"\n\n{name.capitalize()}: {value}" for name, value in known.items())


def _span(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "unknown"
    low, high = known.min(), known.max()
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _least(values: pd.Series) -> float | None:
    return None if values.empty else float(values.min())


def _most(values: pd.Series) -> float | None:
    return None if values.empty else float(values.max())
