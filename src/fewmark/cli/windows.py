"""One window of requests to a server as text: each metric with its interval, who says what, why it is not valid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fewmark.cli.figures import UNKNOWN, figure, heading, text_table

PERCENT: Final = frozenset({"busiest_worker", "idle_share", "coalesced_share"})
RATES: Final = ("_tok_s", "_req_s")
SKIPPED: Final = "_from_schedule_"  # but for the JSON, which has them all


def window_lines(window: Mapping[str, Any], title: str) -> Iterator[str]:
    """Lines of a window as `fewmark.engines.openai.account.make_facts` tells of it."""
    requests = window.get("requests", {})
    told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in requests.items() if count)
    steady = f"{figure(window['window_s'])} s steady" if window.get("window_s") else "no steady part"
    yield f"{title}: {'valid' if window.get('valid') else 'not valid'}, {steady}; requests: {told or 'none'}"
    for reason in window.get("reasons", ()):
        yield f"  {reason['code']}: {reason['message']}"
    for error in window.get("errors", ()):
        yield f"  error: {error}"
    level = window.get("confidence_level")
    rows: list[tuple[str, ...]] = [("metric", "value", f"{level:.0%} low" if level else "low", "high", "of")]
    rows += [_row(name, told) for name, told in window.get("estimates", {}).items() if SKIPPED not in name]
    if len(rows) > 1:
        yield from (f"  {line}" for line in text_table(rows, left=(0,)).splitlines())
    for tier in window.get("attainment", ()):
        limits = ", ".join(f"{name} ≤ {value:g}" for name, value in tier["limits"].items())
        share, goodput = _interval(tier["share"], 100), _interval(tier["goodput_req_s"])
        yield f"  {limits}: met by {share}% of requests, {goodput} req/s"
    if client := window.get("client"):
        yield f"  client: {_facts(client)}"
    yield from _server(window.get("server") or {})


def _server(server: Mapping[str, Any]) -> Iterator[str]:
    for name, beside in server.get("beside_the_client", {}).items():
        title, scale = heading(name, [beside[side] for side in ("client", "server") if beside.get(side) is not None])
        sides = [_number(beside.get(side), scale) for side in ("client", "server")]
        said = f"  {title.replace('_', ' ')}: client {sides[0]}, server {sides[1]}"
        yield said + (" (they differ)" if beside.get("flagged") else "") + _noted(beside)
    rest = {name: value for name, value in server.items() if name not in ("beside_the_client", "notes") and value}
    if rest:
        yield f"  server: {_facts(rest)}"
    yield from (f"  {note}" for note in server.get("notes", ()))


def _noted(beside: Mapping[str, Any]) -> str:
    return f"; {beside['note']}" if beside.get("note") else ""


def _row(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    known = [told[part] for part in ("value", "low", "high") if told.get(part) is not None]
    title, scale = heading(name, known)
    parts = (None if told.get(part) is None else told[part] * scale for part in ("value", "low", "high"))
    counted = "parts" if name.endswith(RATES) else "requests" if "gap" not in name and "itl_p" not in name else "gaps"
    return (title, *map(figure, parts), f"{told['n']:,} {counted}" if told.get("n") else UNKNOWN)


def _interval(told: Mapping[str, Any], scale: float = 1.0) -> str:
    value, low, high = (None if told.get(part) is None else told[part] * scale for part in ("value", "low", "high"))
    return figure(value) if low is None else f"{figure(value)} [{figure(low)}, {figure(high)}]"


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.removesuffix('_s').replace('_', ' ')} {_fact(name, value)}" for name, value in facts.items()
    )


def _fact(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if name in PERCENT:
        return f"{value:.0%}"
    return f"{_number(value, 1e3)} ms" if name.endswith("_s") else _number(value)


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if scale == 1 and float(value).is_integer() else figure(value * scale)
