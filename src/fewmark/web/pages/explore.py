"""Explore: choose deployments, a metric and an axis; curves with their bands, and where each number comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

if TYPE_CHECKING:
    import pandas as pd

    from fewmark.web.deployments import Deployments

router = APIRouter()
MOST_SHOWN: Final = 40  # deployments listed to choose from
MOST_CHOSEN: Final = 8
FIRST_CHOSEN: Final = 3
LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
Text = Annotated[str, Query(max_length=200)]
Keys = Annotated[list[str], Query(max_length=64)]


@router.get("/explore")
def explore(
    request: Request,
    service: Served,
    y: Text = "",
    x: Text = "load",
    d: Keys = [],  # noqa: B006  FastAPI copies it
    lengths: Text = "",
    level: Annotated[float, Query(gt=0, lt=1)] = 0.9,
    q: Text = "",
    model: Text = "",
    accelerator: Text = "",
    engine: Text = "",
) -> HTMLResponse:
    """The page."""
    from fewmark.web import curves

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    if not snapshot.targets:
        return render(request, "explore", empty=True)
    target = y if y in snapshot.targets else snapshot.targets[0]
    can_interact = "tpot_s" in snapshot.targets and "throughput_tok_s" in snapshot.targets
    if x == curves.INTERACTIVITY and can_interact:
        target = "throughput_tok_s"
    cells, deployments = curves.known_cells(snapshot, target)
    pairs, has_curves = curves.lengths_of(snapshot, target)
    pair = next((p for p in pairs if f"{p[0]:g}-{p[1]:g}" == lengths), None)
    if pair is None and (x in curves.LENGTHS or has_curves):
        pair = pairs[0]
    at = None if pair is None else pair[:2]
    loads = snapshot.remember(("load_axes", target, at), lambda: curves.load_axes(cells, at))
    axes = loads | {name: curves.AXES[name] for name in curves.LENGTHS}
    if can_interact:
        axes[curves.INTERACTIVITY] = curves.AXES[curves.INTERACTIVITY]
    axis = x if x in axes else next(iter(axes))
    chosen = deployments.chosen(d, MOST_CHOSEN) or _first(cells, deployments, pair, axis)
    found = matching(deployments, q, {"model": model, "accelerator": accelerator, "engine": engine})
    keys = tuple(deployments.items[at].key for at in chosen)
    view = curves.View(target, axis, None if pair is None else (pair[0], pair[1]), keys, level)
    chart, is_whole = curves.chart(knowledge, snapshot, view)
    return render(
        request,
        "explore",
        empty=False,
        chart=chart,
        is_whole=is_whole,
        view=view,
        axes=axes,
        pairs=pairs[:200],
        has_own_lengths=not has_curves,
        levels=LEVELS,
        targets=snapshot.targets,
        chosen=[deployments.items[at] for at in chosen],
        others=[deployments.items[at] for at in found if at not in chosen][:MOST_SHOWN],
        n_found=len(found),
        n_all=len(deployments.items),
        facets=deployments.facets(),
        picked={"q": q, "model": model, "accelerator": accelerator, "engine": engine},
    )


def matching(deployments: Deployments, text: str, values: dict[str, str]) -> list[int]:
    """The positions of the deployments whose label holds every word, and whose columns have these values."""
    words = text.casefold().split()
    return [
        at
        for at, item in enumerate(deployments.items)
        if all(word in item.label.casefold() for word in words)
        and all(not value or str(item.values.get(name)) == value for name, value in values.items())
    ]


def _first(
    cells: pd.DataFrame, deployments: Deployments, pair: tuple[float, float, int] | None, axis: str
) -> list[int]:
    """What to show at first: the deployments with most cells at these lengths, of the axis' kind of load."""
    shown = cells[axis].notna() if axis in cells else cells["input_tokens"].notna()
    if pair is not None:
        shown &= (cells["input_tokens"] == pair[0]) & (cells["output_tokens"] == pair[1])
    codes = deployments.code[shown.to_numpy()]
    counts: dict[int, int] = {}
    for code in codes.tolist():
        counts[code] = counts.get(code, 0) + 1
    return sorted(sorted(counts, key=lambda code: (-counts[code], code))[:FIRST_CHOSEN])
