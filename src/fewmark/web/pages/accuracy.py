"""Accuracy: every prediction on record, scored by what was measured after it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

router = APIRouter()
MOST_POINTS: Final = 2_000
MOST_GROUPS: Final = 200
Text = Annotated[str, Query(max_length=200)]


@router.get("/accuracy")
def accuracy(
    request: Request, service: Served, metric: Text = "", model: Text = "", accelerator: Text = ""
) -> HTMLResponse:
    """The page."""
    if not service.settings.is_writable:
        return render(request, "accuracy", has_store=False)
    from fewmark.web.scores import scored

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    wanted = {"metric": metric, "model": model, "accelerator": accelerator}
    found = scored(knowledge, snapshot, wanted, most_points=MOST_POINTS, most_groups=MOST_GROUPS)
    return render(request, "accuracy", has_store=True, picked=wanted, **found)
