"""Campaigns: started from a plan or a suite's name, stopped, gone on with. Where the server may: ``--allow-runs``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from fewmark.core.errors import InputError
from fewmark.core.metrics import ALL_TARGETS
from fewmark.web.api import Served

if TYPE_CHECKING:
    from fewmark.web.campaigns.folder import CampaignFolder
    from fewmark.web.service import Service

router = APIRouter()
MOST_FIELDS: Final = 100
MAX_TEXT: Final = 2_000


@router.post("/campaigns")
async def start(request: Request, service: Served) -> Response:
    """Start the plan that the form describes, or a suite by its name."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        campaign = await anyio.to_thread.run_sync(_start, service, form)
    return _to(request, campaign)


@router.post("/campaigns/{name}/stop")
def stop(request: Request, service: Served, name: str) -> Response:
    """Stop one; what is finished is kept."""
    from fewmark.web.campaigns.control import Campaigns

    campaigns = Campaigns(service.settings)
    campaign = campaigns.get(name)
    campaigns.stop(campaign)
    return _to(request, campaign)


@router.post("/campaigns/{name}/continue")
def go_on(request: Request, service: Served, name: str) -> Response:
    """Go on with one that was stopped or killed."""
    from fewmark.web.campaigns.control import Campaigns

    campaigns = Campaigns(service.settings)
    campaign = campaigns.get(name)
    campaigns.go_on(campaign)
    return _to(request, campaign)


@router.get("/campaigns/{name}/log")
def log(service: Served, name: str) -> PlainTextResponse:
    """The end of its log."""
    from fewmark.web.campaigns.control import Campaigns

    return PlainTextResponse(Campaigns(service.settings).get(name).log())


def _to(request: Request, campaign: CampaignFolder) -> Response:
    address = f"/live?campaign={campaign.name}"
    if "hx-request" in request.headers:
        return Response(headers={"hx-redirect": address})
    return RedirectResponse(address, status_code=303)


def _start(service: Service, form: FormData) -> CampaignFolder:
    from fewmark.suites import load_suite
    from fewmark.verbs.campaign import seconds
    from fewmark.web.campaigns.control import Campaigns
    from fewmark.web.campaigns.folder import SUITE
    from fewmark.web.campaigns.folder import Request as Asked
    from fewmark.web.campaigns.planned import not_run_here
    from fewmark.web.pages.plan import suite_of

    campaigns = Campaigns(service.settings)
    campaigns.require_permission()
    named, budget, target = (_text(form, name) for name in ("suite", "budget", "target"))
    error = _fraction(form, "target_error")
    price = _number(form, "price_per_h")
    if not budget and error is None:
        raise InputError("a campaign needs a budget or an error to reach", hint="a budget as in 90s, 30m, 1h30m")
    if budget:
        seconds(budget)  # raises
    if target not in ALL_TARGETS:
        raise InputError("unknown metric", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    text = None
    if named:
        if named not in campaigns.suites:
            raise InputError("that suite is not one of those offered", got=named, hint="fewmark serve --suite FILE")
        named = campaigns.suites[named]
        load_suite(named)  # raises
    else:
        knowledge = service.knowledge()
        keys = [key for key in form.getlist("d") if isinstance(key, str)]
        text = suite_of(knowledge, keys, target, _text(form, "lengths"), _text(form, "loads"))
        if strange := not_run_here(knowledge.store(), text):
            raise InputError(
                "only what was run into this store before is started from here", got="; ".join(strange),
                hint="copy the suite, look through it, and start it yourself with fewmark run",
            )  # fmt: skip
    settings = service.settings
    asked = Asked(
        named or SUITE, target, settings.model, settings.prior, budget or None, error, price,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    return campaigns.start(asked, text)


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.strip()[:MAX_TEXT] if isinstance(value, str) else ""


def _number(form: FormData, name: str) -> float | None:
    text = _text(form, name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1e9:
        raise InputError(f"{name.replace('_', ' ')} must be a positive number", got=text)
    return value


def _fraction(form: FormData, name: str) -> float | None:
    """A percentage as a fraction."""
    value = _number(form, name)
    if value is not None and value >= 100:
        raise InputError("the error to reach must be below 100%", got=f"{value:g}%")
    return None if value is None else value / 100
