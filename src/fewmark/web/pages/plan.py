"""Plan: a space of cells and a budget; the cells worth measuring, in order, and the error to expect after each."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fewmark.core.errors import FewmarkError, InputError
from fewmark.core.metrics import TARGETS
from fewmark.web.api import Served
from fewmark.web.pages.explore import MOST_SHOWN, matching
from fewmark.web.pages.rendering import render
from fewmark.web.schemas import MAX_CASES

if TYPE_CHECKING:
    import pandas as pd

    from fewmark.web.deployments import Deployments
    from fewmark.web.knowledge import Knowledge

router = APIRouter()
MOST_DEPLOYMENTS: Final = 20
FIRST_PAIRS: Final = 6
MOST_NUMBERS: Final = 64
Text = Annotated[str, Query(max_length=2_000)]
ANSWERS: Final = ("expected_gain", "predicted_cost_s", "forecast_error_before", "forecast_error_after")


@router.get("/plan")
def plan(
    request: Request,
    service: Served,
    d: Annotated[list[str], Query(max_length=64)] = [],  # noqa: B006  FastAPI copies it
    q: Text = "",
    target: Text = "",
    lengths: Text = "",
    loads: Text = "",
    ask: Annotated[int, Query(ge=1, le=50)] = 8,
    load_s: Annotated[float, Query(ge=0, le=1e6)] = 10.0,
    repeats: Annotated[int, Query(ge=1, le=100)] = 3,
) -> HTMLResponse:
    """The page. Without deployments it asks for some; it plans when it is told to."""
    from fewmark.web import curves
    from fewmark.web.campaigns.control import Campaigns

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    campaigns = Campaigns(service.settings)
    if not snapshot.targets:
        return render(request, "plan", empty=True, campaigns=campaigns, targets=[*TARGETS], target=target)
    target = target if target in snapshot.targets else snapshot.targets[0]
    cells, deployments = curves.known_cells(snapshot, target)
    chosen = deployments.chosen(d, MOST_DEPLOYMENTS)
    pairs = curves.lengths_of(snapshot, target)[0][:FIRST_PAIRS]
    lengths = lengths or ", ".join(f"{a:g}-{b:g}" for a, b, _ in pairs)
    loads = loads or "1, 2, 4, 8, 16, 32, 64"
    planned, problem, suite = None, None, None
    try:
        if chosen:
            space = _space(cells, deployments, chosen, lengths, loads)
            key = ("plan", repr(space), target, ask, load_s, repeats)
            planned = knowledge.promptly(
                snapshot, key, lambda: _planned(knowledge, space, target, ask, load_s, repeats)
            )
            if planned is not None and service.settings.is_writable:
                suite = _suite(knowledge, [deployments.items[at].key for at in chosen], lengths, loads)
    except FewmarkError as error:
        problem = error.to_dict()
    found = matching(deployments, q, {})
    return render(
        request, "plan", empty=False, planned=planned, suite=suite, campaigns=campaigns,
        problem=problem, targets=snapshot.targets, target=target,
        lengths=lengths, loads=loads, ask=ask, load_s=load_s, repeats=repeats, q=q,
        chosen=[deployments.items[at] for at in chosen],
        others=[deployments.items[at] for at in found if at not in chosen][:MOST_SHOWN],
        n_found=len(found), n_all=len(deployments.items), most=MOST_DEPLOYMENTS,
    )  # fmt: skip


def _space(
    cells: pd.DataFrame, deployments: Deployments, chosen: Sequence[int], lengths: str, loads: str
) -> list[dict[str, object]]:
    """Every chosen deployment at every pair of lengths and every load, of the kind that it was measured at."""
    from fewmark.core.columns import LOAD_COLUMNS
    from fewmark.tables.columns import load_kind_of
    from fewmark.tables.identity import deployment_columns

    pairs, values = _axes(lengths, loads)
    if len(chosen) * len(pairs) * len(values) > MAX_CASES or len(values) > MOST_NUMBERS:
        raise InputError("the space is too large", got=f"{len(chosen) * len(pairs) * len(values):,} cells",
                         hint=f"at most {MAX_CASES:,}")  # fmt: skip
    out = []
    for at in chosen:
        own = cells.iloc[deployments.rows(at)]
        row = own.iloc[[0]]
        kind = LOAD_COLUMNS[int(load_kind_of(row)[0])]
        names = deployment_columns(row)
        identity = {name: row[name].iloc[0] for name in names}
        for a, b in pairs:
            out += [{**identity, "input_tokens": a, "output_tokens": b, kind: load} for load in values]
    return out


def _axes(lengths: str, loads: str) -> tuple[list[list[float]], list[float]]:
    """The pairs of lengths and the loads that were typed. Raises `InputError`."""
    pairs = [_numbers(part, "-", "lengths are pairs, as in 512-128") for part in lengths.split(",") if part.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError("lengths are pairs of tokens in and out", got=lengths, hint="512-128, 2048-256")
    return pairs, _numbers(loads, ",", "loads are numbers, as in 1, 2, 4")


def suite_of(knowledge: Knowledge, keys: Sequence[str], target: str, lengths: str, loads: str) -> str:
    """The suite (YAML) of the space that a form describes. Raises `InputError`."""
    from fewmark.web import curves
    from fewmark.web.campaigns.planned import planned_suite

    snapshot = knowledge.now()
    cells, deployments = curves.known_cells(snapshot, target)
    chosen = deployments.chosen(keys, MOST_DEPLOYMENTS)
    if not chosen:
        raise InputError("a plan needs deployments", hint="choose them on the page Plan")
    _space(cells, deployments, chosen, lengths, loads)  # raises where it is too large
    return planned_suite(knowledge.store(), snapshot, keys, *_axes(lengths, loads))


def _suite(knowledge: Knowledge, keys: Sequence[str], lengths: str, loads: str) -> dict[str, object]:
    """The suite for the page, or why there is none; and what of it may not be started from here."""
    from fewmark.web.campaigns.planned import not_run_here, planned_suite

    try:
        text = planned_suite(knowledge.store(), knowledge.now(), keys, *_axes(lengths, loads))
    except InputError as error:
        return {"text": None, "why": error.what, "strange": []}
    return {"text": text, "why": None, "strange": not_run_here(knowledge.store(), text)}


def _numbers(text: str, separator: str, what: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(separator) if part.strip()]
    except ValueError:
        raise InputError(what, got=text) from None
    if not values or not all(0 < value < 1e9 for value in values):
        raise InputError(what, got=text, hint="positive numbers")
    return values


def _planned(
    knowledge: Knowledge, space: list[dict[str, object]], target: str, ask: int, load_s: float, repeats: int
) -> dict[str, object]:
    from fewmark.tables.columns import load_label
    from fewmark.web.decisions import plan_for
    from fewmark.web.knowledge import plain, records

    cells, planner = plan_for(knowledge, space, target=target, ask=ask, load_s=load_s, repeats=repeats)
    rows = records(cells)
    forecast = planner.forecast()
    text = io.StringIO()
    names = [str(name) for name in cells if name not in ANSWERS and cells[name].notna().any()]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    errors = [row["forecast_error_after"] for row in rows]
    steps = list(range(1, len(rows) + 1))
    return {
        "rows": [{**row, "load": load_label(row)} for row in rows],
        "csv": text.getvalue(),
        "n_space": len(planner.space),
        "n_measured": int(planner.observed.sum()),
        "infeasible": len(planner.infeasible),
        "now": plain(forecast.median_ape),
        "after": errors[-1] if errors else None,
        "cost_s": sum(row["predicted_cost_s"] or 0.0 for row in rows),
        "budget": f"{max(math.ceil(sum(row['predicted_cost_s'] or 0.0 for row in rows)), 1)}s",
        "chart": {
            "title": "Median error to expect over the space, after each measurement",
            "x": {"label": "Cells measured", "log": False, "whole": True},
            "y": {"label": "Forecast median error (%)", "log": False, "zero": True},
            "level": 0,
            "series": [
                {
                    "name": "forecast",
                    "line": {
                        "x": steps, "value": [None if e is None else 100 * e for e in errors],
                        "low": [None] * len(steps), "high": [None] * len(steps),
                        "load": [f"after {n} cells" for n in steps], "provenance": ["forecast"] * len(steps),
                    },
                    "points": {"x": [], "y": [], "load": [], "provenance": [], "n_rows": []},
                }
            ],
        },
    }  # fmt: skip
