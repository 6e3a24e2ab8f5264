"""Live: a campaign as it runs, or everything that was run into the store. All of it is read from the store and from the
campaign's folder, so that it survives a restart of the server."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from fewmark.core.metrics import ALL_TARGETS
from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

router = APIRouter()
MOST_CELLS: Final = 12
EVERYTHING: Final = "all"
Text = Annotated[str, Query(max_length=100)]


@router.get("/live")
def live(
    request: Request, service: Served, metric: Text = "throughput_tok_s", campaign: Text = "", seen: Text = ""
) -> Response:
    """The page. It asks again by itself, and gets nothing (204) where there is nothing new since `seen`."""
    if not service.settings.is_writable:
        return render(request, "live", has_store=False)
    from fewmark.web.campaigns.control import Campaigns
    from fewmark.web.campaigns.progress import shown_campaign, version_of
    from fewmark.web.progress import progress_of

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    campaigns = Campaigns(service.settings)
    known = campaigns.all()
    one = None
    if campaign != EVERYTHING and (campaign or known):
        one = campaigns.get(campaign) if campaign else known[0]
    version = version_of(campaigns, one, snapshot.latest)
    if seen == version and "hx-request" in request.headers:
        return Response(status_code=204)
    metric = one.request.target if one is not None else metric if metric in ALL_TARGETS else ALL_TARGETS[0]
    if one is not None:
        chosen = one
        shown = snapshot.remember(
            ("campaign", version), lambda: shown_campaign(knowledge, campaigns, chosen, most_cells=MOST_CELLS)
        )
        found = shown.progress
    else:
        shown = None
        found = snapshot.remember(("live", metric), lambda: progress_of(knowledge, metric, most_cells=MOST_CELLS))

    def answer() -> Response:
        return render(
            request, "live", has_store=True, metric=metric, found=found, shown=shown, revision=version, all=known,
            may_start=campaigns.may_start,
        )  # fmt: skip

    if "hx-request" not in request.headers:
        return answer()
    # all who watch see the same part: it is written once
    part = snapshot.remember(
        ("live part", version, metric, campaigns.may_start, len(known)), lambda: bytes(answer().body)
    )
    return HTMLResponse(part)
