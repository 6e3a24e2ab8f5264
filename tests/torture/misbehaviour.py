"""Every way in which a worker can misbehave in a conversation: at which moment, and in what shape."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from scripted_worker import ENDINGS

Json = dict[str, Any]
STALE_S: Final = 77.0  # the time of a result that nobody has asked for
SAMPLE: Final[Json] = {"e2e_latency_s": 1.0, "ttft_s": 0.5, "output_tokens": 2, "token_times_s": [0.5, 1.0]}
HELLO: Final[Json] = {"fewmark": 1, "event": "hello", "pid": 0, "environment": {"a": 1}, "scratch": None}
LOADED: Final[Json] = {"fewmark": 1, "event": "loaded", "environment": {"a": 1}, "recorded": False, "reusable": False}
RESULT: Final[Json] = {
    **{"fewmark": 1, "event": "result", "status": "ok", "samples": [SAMPLE], "wall_s": 1.0, "flags": [], "number": 1},
    **{"energy_j": 1.0, "extra": {"a": 1}, "error": None, "provenance": "measured"},
}
CLOSED: Final[Json] = {"fewmark": 1, "event": "closed"}
# What a worker sends for a deployment of two cases, and when.
MOMENTS: Final[tuple[tuple[str, Json], ...]] = (
    ("the hello", HELLO),
    ("the loading", LOADED),
    ("the first result", RESULT),
    ("the last result", {**RESULT, "number": 2, "samples": [{**SAMPLE, "e2e_latency_s": 2.0}]}),
    ("the close", CLOSED),
)
GOOD: Final = {str(message["event"]): message for _, message in MOMENTS[:3] + MOMENTS[4:]}
EVENTS: Final = {
    **GOOD,
    "result": {**RESULT, "number": 0, "samples": [{**SAMPLE, "e2e_latency_s": STALE_S}]},
    "failed": {"fewmark": 1, "event": "failed", "status": "unsupported", "error": "no"},
    "sample": {"fewmark": 1, "event": "sample", "sample": SAMPLE, "number": 0},
    "unavailable": {"fewmark": 1, "event": "unavailable", "error": "not installed"},
    "refused": {"fewmark": 1, "event": "refused", "error": "too old"},
    "examined": {"fewmark": 1, "event": "examined", "findings": [], "noise": {}},
    "of no known name": {"fewmark": 1, "event": "x"},
    "without an event": {"fewmark": 1},
}
VALUES: Final[dict[str, Any]] = {
    **{"null": None, "true": True, "zero": 0, "a negative number": -1, "a small number": 1e-308, "a fraction": 0.1},
    **{"a huge number": 1e308, "a number of 401 digits": 10**400, "a number beyond 64 bits": 2**63},
    **{"not a number": float("nan"), "an infinite number": float("inf")},
    **{"an empty text": "", "a text": "x", "a number as text": "1", "a long text": "x" * 5000, "NUL": "\0"},
    **{"half a character": "\ud800", "what steers a terminal": "\x1b[2J", "a secret": "HF_TOKEN=hf_abcdefghijklmnopq"},
    **{"a path": "../../x", "an empty list": [], "a list in a list": [[]], "a list of nulls": [None] * 50},
    **{"an empty mapping": {}, "a mapping": {"a": {"b": [1]}}, "a mapping of no name": {"": ""}},
    "a long list": list(range(20_000)),
    "a deep list": json.loads("[" * 500 + "]" * 500),
}
# Changes of the text of a message.
TEXTS: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "cut short": lambda text, rng: text[: rng.randrange(len(text))],
    "without a line feed": lambda text, rng: text.rstrip("\n"),
    "behind a banner": lambda text, rng: "Welcome to host\n" + text,
    "behind a prompt": lambda text, rng: "$ " + text,
    "twice": lambda text, rng: text * 2,
    "5000 times": lambda text, rng: text * 5000,
    "in two lines": lambda text, rng: text[:20] + "\n" + text[20:],
    "nested deeply": lambda text, rng: '{"fewmark": ' * 3000 + "\n",
    "a list without an end": lambda text, rng: '{"fewmark": 1, "event": ' + "[" * 10_000 + "\n",
    "no text": lambda text, rng: "\udcff\udcfe" * 10 + "\n",
    "with NUL": lambda text, rng: text.replace("event", "ev\0ent"),
    "with CR LF": lambda text, rng: text.replace("\n", "\r\n"),
    "with a BOM": lambda text, rng: "\ufeff" + text,
    "of another protocol": lambda text, rng: text.replace('"fewmark": 1', '"fewmark": 2'),
    "in single quotes": lambda text, rng: text.replace('"', "'"),
    "empty": lambda text, rng: "",
    "a blank line": lambda text, rng: "\n",
    "2 MB long": lambda text, rng: text.replace('"event"', f'"x": "{"y" * 2_000_000}", "event"'),
    "20 MB long": lambda text, rng: text.replace('"event"', f'"x": "{"y" * 20_000_000}", "event"'),
    "with all numbers not a number": lambda text, rng: text.replace("1.0", "NaN").replace('"a": 1', '"a": NaN'),
    "with all numbers infinite": lambda text, rng: text.replace("1.0", "1e999").replace('"a": 1', '"a": -Infinity'),
    "with negative times": lambda text, rng: text.replace("1.0", "-1.0"),
    "with numbers of 5000 digits": lambda text, rng: text.replace("1", "9" * 5000),
    "with times of the world's age": lambda text, rng: text.replace("1.0", "1e18"),
    "with a key twice": lambda text, rng: text.replace('"event"', '"event": "x", "event"'),
    "with comments": lambda text, rng: text.replace(",", ", /* a */"),
    "with a comma at its end": lambda text, rng: text.replace("}\n", ",}\n"),
    "as a list": lambda text, rng: "[" + text.strip() + "]\n",
    "as a text": lambda text, rng: json.dumps(text) + "\n",
    "in UTF-16": lambda text, rng: "\udcff\udcfe" + "\0".join(text) + "\n",
}


@dataclass(frozen=True)
class Way:
    """One way: its name, at which answer of a conversation, and the pieces that are sent in its place.

    A piece is made from the number of a try; None is the message as it should be. `ending` is what comes after.
    """

    name: str
    at: int
    pieces: tuple[Callable[[random.Random], bytes] | None, ...]
    ending: str | None = None
    at_once: int = 1 << 20
    pause_s: float = 0.0

    def plan(self, rng: random.Random, *, always: bool) -> Json:
        """What the scripted worker is told; `always` makes it misbehave after every start."""
        sent = [None if piece is None else base64.b64encode(piece(rng)).decode() for piece in self.pieces]
        rest: Json = {"ending": self.ending, "at_once": self.at_once, "pause_s": self.pause_s, "good": GOOD}
        return {"at": self.at, "pieces": sent, "always": always, **rest}


def ways() -> list[Way]:
    """Every single way."""
    return [way for at in range(len(MOMENTS)) for way in _at(at)]


def combined(rng: random.Random, all_ways: list[Way]) -> Way:
    """A way, and an end that follows it."""
    way, ending = rng.choice(all_ways), rng.choice(list(ENDINGS))
    return way if way.ending is not None else replace(way, name=f"{way.name}, then {ending}", ending=ending)


def _at(at: int) -> Iterator[Way]:
    moment, message = MOMENTS[at]
    text = json.dumps(message) + "\n"
    for how, change in TEXTS.items():
        yield Way(f"{moment}: {how}", at, (partial(_rewritten, text, change),))
    for word, other in EVENTS.items():
        what = _said(other)
        if other["fewmark"] and other.get("event") != message["event"]:
            yield Way(f"{moment}: the message {word} in its place", at, (what,))
        yield Way(f"{moment}: the message {word} before it", at, (what, None))
        yield Way(f"{moment}: the message {word} after it, unasked", at, (None, what))
    for ending in ENDINGS:
        yield Way(f"{moment}: {ending} before it", at, (), ending)
        yield Way(f"{moment}: {ending} after it", at, (None,), ending)
        yield Way(f"{moment}: {ending} in the middle of it", at, (lambda rng: _bytes(text[: len(text) // 2]),), ending)
    yield Way(f"{moment}: a byte at a time", at, (None,), at_once=1, pause_s=0.001)
    yield Way(f"{moment}: some bytes at a time", at, (None,), at_once=7, pause_s=0.005)
    long = text.replace('"event"', f'"x": "{"y" * 1_000_000}", "event"')
    yield Way(f"{moment}: 1 MB in pieces", at, (lambda rng: _bytes(long),), at_once=65536, pause_s=0.001)
    if at != 3:  # as the first result
        for key in (*message, "new"):
            yield from _changed(at, f"{moment}: {key}", message, lambda key, value: {key: value}, key)
    if at == 2:
        for key in (*SAMPLE, "tpot_s", "power_w", "new"):
            yield from _changed(
                at,
                f"{moment}: a sample's {key}",
                message,
                lambda key, value: {"samples": [{**SAMPLE, key: value}]},
                key,
            )
        for name, value in VALUES.items():
            sent = _said({"fewmark": 1, "event": "sample", "sample": value, "number": 1})
            yield Way(f"{moment}: a sample sent before it is {name}", at, (sent, None))


def _changed(at: int, what: str, message: Json, change: Callable[[str, Any], Json], key: str) -> Iterator[Way]:
    if key in message:
        yield Way(f"{what} is missing", at, (_said({k: v for k, v in message.items() if k != key}),))
    for name, value in VALUES.items():
        yield Way(f"{what} is {name}", at, (_said({**message, **change(key, value)}),))


def _rewritten(text: str, change: Callable[[str, random.Random], str], rng: random.Random) -> bytes:
    return _bytes(change(text, rng))


def _said(message: Json) -> Callable[[random.Random], bytes]:
    return lambda rng: _bytes(json.dumps(message) + "\n")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape" if "\udcff" in text else "surrogatepass")
