"""Live: what is being measured into the store, as it comes; all that is shown is read from the store, and survives."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fewmark.core.metrics import ALL_TARGETS
from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

router = APIRouter()
MOST_CELLS: Final = 12


@router.get("/live")
def live(
    request: Request, service: Served, metric: Annotated[str, Query(max_length=100)] = "throughput_tok_s"
) -> HTMLResponse:
    """The page. It asks again by itself; what is shown is the store's, so that it survives a restart."""
    if not service.settings.is_writable:
        return render(request, "live", has_store=False)
    from fewmark.web.progress import progress_of

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    metric = metric if metric in ALL_TARGETS else ALL_TARGETS[0]
    found = snapshot.remember(("live", metric), lambda: progress_of(knowledge, metric, most_cells=MOST_CELLS))
    return render(request, "live", has_store=True, metric=metric, targets=snapshot.targets, found=found)
