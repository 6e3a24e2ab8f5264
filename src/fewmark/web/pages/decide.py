"""Decide: objectives and prices; what to deploy, how sure that is, what would change it, and what to measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pydantic
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fewmark.core.errors import FewmarkError, InputError
from fewmark.core.metrics import METRICS, PERCENTILE_METRICS
from fewmark.web.api import Served
from fewmark.web.pages.rendering import render

if TYPE_CHECKING:
    from fewmark.decide.prices import Prices
    from fewmark.web.knowledge import Snapshot

router = APIRouter()
MOST_ROWS: Final = 40
MAX_PARAMETERS: Final = 200
FACETS: Final = ("model", "accelerator", "engine")
TEXTS: Final = ("currency", "note", *FACETS)


@router.get("/decide")
def decide(request: Request, service: Served) -> HTMLResponse:
    """The page. Objectives are parameters named ``slo.METRIC``, prices ``price.ACCELERATOR``."""
    from fewmark.web.decisions import OPTIONS, decided
    from fewmark.web.knowledge import plain

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    if snapshot.sound.empty or "throughput_tok_s" not in snapshot.targets:
        return render(request, "decide", empty=True)
    accelerators = sorted(
        {str(i.values["accelerator"]) for i in snapshot.deployments.items if "accelerator" in i.values}
    )
    asked = dict(list(request.query_params.items())[:MAX_PARAMETERS])
    shown: dict[str, object] = {"decision": None, "problem": None}
    try:
        numbers = {name: _number(name, text) for name, text in asked.items() if text.strip() and name not in TEXTS}
        slo = {name[4:]: value for name, value in numbers.items() if name.startswith("slo.")}
        prices = _prices({n[6:]: v for n, v in numbers.items() if n.startswith("price.")}, asked.get("currency", "USD"))
        options: dict[str, float] = {name: numbers[name] for name in OPTIONS if name in numbers}
        where = {name: asked[name] for name in FACETS if asked.get(name)}
        key = ("decided", repr((slo, options, where)), None if prices is None else prices.model_dump_json())
        shown["decision"] = knowledge.promptly(
            snapshot, key, lambda: decided(knowledge, slo, prices, options, where, most=MOST_ROWS)
        )
    except FewmarkError as error:
        shown["problem"] = error.to_dict()
    objectives = [name for name in snapshot.targets if name != "total_throughput_tok_s"]
    tails = [name for name in objectives if name in PERCENTILE_METRICS]
    return render(
        request, "decide", empty=False, accelerators=accelerators, asked=asked, plain=plain,
        objectives=[name for name in objectives if name not in tails], tails=tails,
        asks_tails=any(asked.get(f"slo.{name}") for name in tails), facets=snapshot.deployments.facets(),
        higher={name for name in objectives if METRICS[name].higher_is_better},
        ranges=_ranges(snapshot, objectives, asked), **shown,
    )  # fmt: skip


def _ranges(
    snapshot: Snapshot, objectives: Sequence[str], asked: Mapping[str, str]
) -> dict[str, tuple[float, float, float]]:
    """Of each objective the least, the most and the place of its slider: logarithms (base 10) of what was measured."""
    out = {}
    for name in objectives:
        values = snapshot.cells(name)[name]
        values = values[values > 0]
        if len(values) and values.min() < values.max():
            low, high = (round(math.log10(end), 2) for end in (values.min(), values.max()))
            try:
                at = math.log10(_number(name, asked.get(f"slo.{name}", "")))
            except InputError:
                at = low if METRICS[name].higher_is_better else high  # where it rules nothing out
            out[name] = (low, high, round(min(max(at, low), high), 2))
    return out


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1e12:
        raise InputError(f"{name.split('.', 1)[-1]} must be a positive number", got=text)
    return value


def _prices(by_name: Mapping[str, float], currency: str) -> Prices | None:
    """The prices given, as a price file has them; None without any."""
    from fewmark.decide.prices import Prices

    if not by_name:
        return None
    try:
        return Prices.model_validate(
            {
                "currency": currency[:8] or "USD",
                "accelerators": [{"name": name, "per_hour": price} for name, price in by_name.items()],
            }
        )
    except pydantic.ValidationError as error:
        raise InputError("a price is wrong", got=error.errors(include_url=False)[0]["msg"]) from None
