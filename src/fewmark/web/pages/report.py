"""Report: the document to send, made of everything that is known; a file that needs no server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

if TYPE_CHECKING:
    from fewmark.web.knowledge import Knowledge

router = APIRouter()
SUFFIXES: Final = {"html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8", "csv": "text/csv"}
Target = Annotated[str, Query(max_length=100)]


@router.get("/report")
def report(request: Request, service: Served, target: Target = "") -> Response:
    """The page. It makes the report, and offers it when it is made."""
    knowledge = service.knowledge()
    snapshot = knowledge.now()
    if not snapshot.targets:
        return render(request, "report", empty=True)
    target = target if target in snapshot.targets else snapshot.targets[0]
    made = knowledge.promptly(snapshot, ("report", target), lambda: _made(knowledge, target))
    sizes = None if made is None else {suffix: len(content) for suffix, content in made.items()}
    return render(request, "report", empty=False, target=target, targets=snapshot.targets, sizes=sizes)


@router.get("/report/fewmark.{suffix}")
def download(service: Served, suffix: str, target: Target = "") -> Response:
    """The report as a file; to the page where it is not made yet."""
    knowledge = service.knowledge()
    snapshot = knowledge.now()
    made = snapshot.answers.get(("report", target))
    if made is None or suffix not in made:
        return RedirectResponse("/report", status_code=303)
    headers = {"content-disposition": f'attachment; filename="fewmark.{suffix}"'}
    return Response(made[suffix], media_type=SUFFIXES[suffix], headers=headers)


def _made(knowledge: Knowledge, target: str) -> dict[str, bytes]:
    """What `fewmark report` writes, in each format."""
    from fewmark.reporting import RENDERERS
    from fewmark.verbs.report import report as report_verb
    from fewmark.web.settings import Settings

    settings = knowledge.settings
    model = (
        None if settings.model == Settings.model else settings.model
    )  # left to the report, it minds how much there is
    with tempfile.TemporaryDirectory(prefix="fewmark-report-") as folder:
        path = Path(folder) / "fewmark.html"
        cards = report_verb(
            path, store=settings.store, data=settings.data, model=model, target=target, prior=settings.prior
        )
        out = {"html": path.read_bytes()}
    return out | {name: RENDERERS[f".{name}"](cards, settings.name).encode() for name in SUFFIXES if name != "html"}
