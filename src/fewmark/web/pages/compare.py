"""Compare: two parts of what was measured (engines, versions, accelerators, imports) over their common cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fewmark.core.errors import FewmarkError
from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

if TYPE_CHECKING:
    import pandas as pd

    from fewmark.verbs.compare import Compared

router = APIRouter()
COLUMNS: Final = ("engine_version", "engine", "precision", "accelerator", "accelerator_count", "model", "source")
MOST_VALUES: Final = 500
MOST_CELLS: Final = 200
MAX_TEXT: Final = 200


@router.get("/compare")
def compare(
    request: Request,
    service: Served,
    metric: Annotated[str, Query(max_length=MAX_TEXT)] = "",
    threshold: Annotated[float, Query(gt=0, lt=1)] = 0.1,
) -> HTMLResponse:
    """The page. What A and B are is in parameters named ``a.COLUMN`` and ``b.COLUMN``."""
    from fewmark.verbs.cards.comparison import comparison_card
    from fewmark.web.knowledge import records

    snapshot = service.knowledge().now()
    if snapshot.table.empty:
        return render(request, "compare", empty=True)
    choices = _choices(snapshot.sound)
    asked = {name: value[:MAX_TEXT] for name, value in request.query_params.items() if value}
    where = [{name: asked.get(f"{side}.{name}", "") for name in choices} for side in ("a", "b")]
    if not any(any(one.values()) for one in where) and choices:
        name = next((n for n in COLUMNS if n in choices), next(iter(choices)))
        where[0][name], where[1][name] = choices[name][:2]
    found, problem = None, None
    try:
        found = snapshot.remember(
            ("compare", repr(where), metric, threshold), lambda: _compared(snapshot.sound, where, metric, threshold)
        )
    except FewmarkError as error:
        problem = error.to_dict()
    return render(
        request, "compare", empty=False, choices=choices, where=where, metric=metric, threshold=threshold,
        targets=snapshot.targets, found=found, problem=problem,
        card=None if found is None else comparison_card(found),
        cells=[] if found is None else records(_worst_first(found).head(MOST_CELLS)),
        most=MOST_CELLS,
    )  # fmt: skip


def _compared(table: pd.DataFrame, where: list[dict[str, str]], metric: str, threshold: float) -> Compared:
    from fewmark.verbs.compare import compare as compare_verb

    chosen = [{name: value for name, value in one.items() if value} for one in where]
    return compare_verb(
        table, table, metric=metric or None, threshold=threshold, where_a=chosen[0], where_b=chosen[1], screened=False
    )


def _worst_first(found: Compared) -> pd.DataFrame:
    if found.cells.empty:
        return found.cells
    return found.cells.sort_values("ratio", ascending=found.higher_is_better, kind="stable")


def _choices(table: pd.DataFrame) -> Mapping[str, list[str]]:
    """The columns with several values, and these, the commonest first."""
    out = {}
    for name in COLUMNS:
        if name not in table:
            continue
        values = table[name].dropna().map(lambda cell: f"{cell:g}" if isinstance(cell, (int, float)) else str(cell))
        counts = values.value_counts()
        if 1 < len(counts) <= MOST_VALUES:
            out[name] = [str(value) for value in counts.index]
    return out
