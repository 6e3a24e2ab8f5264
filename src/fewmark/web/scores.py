"""The ledger by LLM and accelerator: how the predictions on record turned out.

Notation: n outcomes, each a prediction and a measurement of its case that came after it; APE = |predicted − measured| /
measured, a fraction.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fewmark.core.metrics import ALL_TARGETS
from fewmark.reporting.display import quantity
from fewmark.verbs.ledger import Ledger, read_ledger
from fewmark.web.knowledge import Knowledge, Snapshot, plain

COLUMNS = ("metric", "model", "accelerator")


def scored(
    knowledge: Knowledge, snapshot: Snapshot, wanted: Mapping[str, str], *, most_points: int, most_groups: int
) -> dict[str, object]:
    """The ledger, the errors by metric, LLM and accelerator, and predicted against measured of those wanted."""
    store = knowledge.store()
    ledger: Ledger = snapshot.remember(("ledger",), lambda: read_ledger(store, ALL_TARGETS))
    outcomes: pd.DataFrame = snapshot.remember(("outcomes",), lambda: _outcomes(knowledge))
    groups: list[tuple[int, dict[str, object]]] = []
    for key, part in outcomes.groupby(list(COLUMNS), sort=True) if len(outcomes) else ():
        held = part["held"].dropna()
        group: dict[str, object] = {
            **dict(zip(COLUMNS, key, strict=True)),
            "n": len(part),
            "median_ape": float(part["ape"].median()),
            "p90_ape": float(part["ape"].quantile(0.9)),
            "held": float(held.mean()) if len(held) else None,
        }
        groups.append((len(part), group))
    chosen = outcomes
    for name, value in wanted.items():
        if value and len(chosen):
            chosen = chosen[chosen[name] == value]
    metric = str(chosen["metric"].mode().iloc[0]) if len(chosen) else ""
    chosen = chosen[chosen["metric"] == metric].tail(most_points) if len(chosen) else chosen
    return {
        "ledger": ledger,
        "groups": [group for _, group in sorted(groups, key=lambda pair: -pair[0])[:most_groups]],
        "chart": _chart(chosen, metric) if len(chosen) else None,
    }


def _outcomes(knowledge: Knowledge) -> pd.DataFrame:
    rows = []
    for metric in ALL_TARGETS:
        for outcome in knowledge.store().outcomes(metric):
            made = outcome.prediction
            if made.value is None or outcome.actual <= 0:
                continue
            known = made.low is not None and made.high is not None
            rows.append(
                {
                    "metric": metric,
                    "model": made.case.deployment.model,
                    "accelerator": made.case.deployment.accelerator or "unknown",
                    "load": made.case.workload.load_label,
                    "provenance": made.provenance,
                    "predicted": made.value,
                    "actual": outcome.actual,
                    "ape": abs(made.value - outcome.actual) / outcome.actual,
                    "held": float(made.low <= outcome.actual <= made.high) if known else None,  # type: ignore[operator]
                }
            )
    return pd.DataFrame(rows)


def _chart(outcomes: pd.DataFrame, metric: str) -> dict[str, object]:
    shown = quantity(metric, [*outcomes["predicted"], *outcomes["actual"]])
    low = float(outcomes[["predicted", "actual"]].min().min()) * shown.scale
    high = float(outcomes[["predicted", "actual"]].max().max()) * shown.scale
    line = {"x": [low, high], "value": [low, high], "low": [None] * 2, "high": [None] * 2}
    series: list[dict[str, object]] = [
        {
            "name": "equal",
            "line": {**line, "load": ["", ""], "provenance": ["equal", "equal"]},
            "points": {"x": [], "y": [], "load": [], "provenance": [], "n_rows": []},
        }
    ]
    for provenance, part in outcomes.groupby("provenance"):
        series.append(
            {
                "name": str(provenance),
                "line": {"x": [], "value": [], "low": [], "high": [], "load": [], "provenance": []},
                "points": {
                    "x": [plain(v * shown.scale) for v in part["predicted"]],
                    "y": [plain(v * shown.scale) for v in part["actual"]],
                    "load": part["load"].tolist(),
                    "provenance": part["provenance"].tolist(),
                    "n_rows": [1] * len(part),
                },
            }
        )
    return {
        "title": f"Measured against predicted: {shown.label}",
        "x": {"label": f"Predicted {shown.label}", "log": True},
        "y": {"label": f"Measured {shown.label}", "log": True},
        "level": 0,
        "series": series,
    }
