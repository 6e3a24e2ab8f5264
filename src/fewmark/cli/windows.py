"""One window of requests to a server as text: each metric with its interval, who says what, why it is not valid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fewmark.cli.figures import UNKNOWN, figure, heading, text_table
from fewmark.core.json_types import Json, JsonObject

PERCENT: Final = frozenset({"busiest_worker", "idle_share", "coalesced_share"})
RATES: Final = ("_tok_s", "_req_s")
SKIPPED: Final = "_from_schedule_"  # but for the JSON, which has them all


def window_lines(window: JsonObject, title: str) -> Iterator[str]:
    """Lines of a window as `fewmark.engines.openai.account.make_facts` tells of it."""
    told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in _parts(window, "requests") if count)
    lasted_s = _known(window.get("window_s"))
    steady = "no steady part" if lasted_s is None else f"{figure(lasted_s)} s steady"
    yield f"{title}: {'valid' if window.get('valid') else 'not valid'}, {steady}; requests: {told or 'none'}"
    for reason in _items(window, "reasons"):
        yield f"  {reason.get('code')}: {reason.get('message')}"
    errors = window.get("errors")
    yield from (f"  error: {error}" for error in (errors if isinstance(errors, list) else ()))
    level = _known(window.get("confidence_level"))
    rows: list[tuple[str, ...]] = [("metric", "value", "low" if level is None else f"{level:.0%} low", "high", "of")]
    rows += [_row(name, _mapping(told)) for name, told in _parts(window, "estimates") if SKIPPED not in name]
    if len(rows) > 1:
        yield from (f"  {line}" for line in text_table(rows, left=(0,)).splitlines())
    for tier in _items(window, "attainment"):
        limits = ", ".join(f"{name} ≤ {value}" for name, value in _parts(tier, "limits"))
        share, goodput = _interval(_mapping(tier.get("share")), 100), _interval(_mapping(tier.get("goodput_req_s")))
        yield f"  {limits}: met by {share}% of requests, {goodput} req/s"
    if client := _mapping(window.get("client")):
        yield f"  client: {_facts(client)}"
    yield from _server(_mapping(window.get("server")))


def _server(server: JsonObject) -> Iterator[str]:
    for name, told in _parts(server, "beside_the_client"):
        beside = _mapping(told)
        sides = [_known(beside.get(side)) for side in ("client", "server")]
        title, scale = heading(name, [side for side in sides if side is not None])
        said = f"  {title.replace('_', ' ')}: client {_number(sides[0], scale)}, server {_number(sides[1], scale)}"
        note = f"; {beside['note']}" if beside.get("note") else ""
        yield said + (" (they differ)" if beside.get("flagged") else "") + note
    rest = {name: value for name, value in server.items() if name not in ("beside_the_client", "notes") and value}
    if rest:
        yield f"  server: {_facts(rest)}"
    notes = server.get("notes")
    yield from (f"  {note}" for note in (notes if isinstance(notes, list) else ()))


def _row(name: str, told: JsonObject) -> tuple[str, ...]:
    ends = [_known(told.get(part)) for part in ("value", "low", "high")]
    title, scale = heading(name, [end for end in ends if end is not None])
    shown = (figure(None if end is None else end * scale) for end in ends)
    counted = "parts" if name.endswith(RATES) else "requests" if "gap" not in name and "itl_p" not in name else "gaps"
    n = _known(told.get("n"))
    return (title, *shown, UNKNOWN if n is None else f"{n:,.0f} {counted}")


def _interval(told: JsonObject, scale: float = 1.0) -> str:
    ends = [_known(told.get(part)) for part in ("value", "low", "high")]
    value, low, high = (None if end is None else end * scale for end in ends)
    return figure(value) if low is None else f"{figure(value)} [{figure(low)}, {figure(high)}]"


def _facts(facts: JsonObject) -> str:
    said = (f"{name.removesuffix('_s').replace('_', ' ')} {_fact(name, value)}" for name, value in facts.items())
    return ", ".join(said)


def _fact(name: str, value: Json) -> str:
    number = _known(value)
    if number is None:
        return str(value)
    if name in PERCENT:
        return f"{number:.0%}"
    return f"{_number(number, 1e3)} ms" if name.endswith("_s") else _number(number)


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if scale == 1 and value.is_integer() else figure(value * scale)


def _known(value: Json) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)


def _mapping(value: Json) -> JsonObject:
    return value if isinstance(value, Mapping) else {}


def _parts(held: JsonObject, name: str) -> Iterator[tuple[str, Json]]:
    yield from _mapping(held.get(name)).items()


def _items(held: JsonObject, name: str) -> Iterator[JsonObject]:
    value = held.get(name)
    yield from (_mapping(item) for item in (value if isinstance(value, list) else ()))
