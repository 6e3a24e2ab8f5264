"""Content changed at random: bytes anywhere, values within a structure, cells of a table."""

from __future__ import annotations

import copy
import functools
import json
import random
from typing import Any

import yaml

TOKENS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 401, b"1e999", b"-1", b"NaN", b"Infinity", b"null", b"[" * 5000),
    *(b'"', b"{", b"}", b",", b";", b"\t", b"\r\n", b"!!timestamp x", b"!!binary '*'", b"&a [*a]", b"<<: *a", b"'"),
    *(b"\xed\xa0\x80", b"=1", b"0x", b"1_000", b"%s" * 50, b"\x1b[2J", b"true", b"~", b"---\n", b"? ", b"|\n"),
    *(b"batch_size", b"e2e_latency_s", b"2001-99-99", b"!!omap [1]", b"- ", b"x" * 70_000, b"\n" * 3000),
    *(
        b",,,," * 500,
        b"PK\x03\x04",
        b"PAR1",
        b"\\ud800",
        b"\\u0000",
        b"1e308",
        b"\xe2\x80\xae",
        b"1:99:99",
        b"9" * 5000,
    ),
]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 1e308, -1e308, 1e-308, 10**400, 2**53 + 1, 2**63, 0.1, 1e6),
    *("", " ", "x", "\x1b[2J", "\ud800", "\0", "ok", "nan", "inf", "1", "1e999", "=1+1", "x" * 5000, "../../x", "[]"),
    *([], {}, [[]], {"a": {}}, [None] * 50, {"": ""}, [1, "a", None], {"a": [{"b": 1}]}, {"batch_size": 1}),
]


def mutated(content: bytes, rng: random.Random, suffix: str) -> bytes:
    """The content with something changed; half of the time what its kind of file is made of."""
    change = {".json": _json, ".jsonl": _lines, ".csv": _cells, ".yaml": _yaml}.get(suffix)
    if change is not None and rng.random() < 0.5:
        try:
            return change(content, rng)
        except (ValueError, RecursionError, yaml.YAMLError):
            pass  # it is not what its name says
    return with_bytes_changed(content, rng)


def with_bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """The content with some places changed."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not out:
            break
        at, length = rng.randrange(len(out)), rng.choice([1, 1, 2, 8, 64, 1024])
        kind = rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            out[at : at + length] = rng.choice(TOKENS)
        elif kind == 4:
            out[at:at] = out[at : at + length] * rng.choice([1, 2, 50])
        elif kind == 5:
            del out[at:]
        else:
            out[at : at + length] = rng.randbytes(min(length, len(out) - at))
    return bytes(out)


def with_value_changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of its values replaced, dropped, doubled, renamed or nested."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 3000:
        item = waiting.pop()
        if isinstance(item, (dict, list)):
            for key in list(item) if isinstance(item, dict) else range(len(item)):
                places.append((item, key))
                waiting.append(item[key])
    if not places:
        return rng.choice(ODD)
    for _ in range(rng.choice([1, 1, 2, 4])):
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        try:
            if kind == 0:
                del holder[key]
            elif kind == 1:
                holder[key] = [holder[key]]
            elif kind == 2 and isinstance(holder, dict):
                holder[str(rng.choice(ODD))[:100]] = holder.pop(key)
            elif kind == 3:
                other, place = rng.choice(places)
                holder[key] = json.loads(json.dumps(other[place]))
            else:
                holder[key] = rng.choice(ODD)
        except (LookupError, ValueError, RecursionError):
            continue
    return value


def _json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(with_value_changed(json.loads(content), rng), indent=rng.choice([None, None, 2])).encode()


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = lines[at] * 2 if rng.random() < 0.3 else _json(lines[at] or b"{}", rng)
    if rng.random() < 0.1:
        rng.shuffle(lines)
    return b"\n".join(lines)


def _cells(content: bytes, rng: random.Random) -> bytes:
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 8])):
        row = rows[0] if rng.random() < 0.2 else rng.choice(rows)
        at = rng.randrange(len(row))
        row[at] = rng.choice(
            [str(rng.choice(ODD))[:500], row[at] * 2, f'"{row[at]}"', "", rng.choice(rng.choice(rows))]
        )
    kind = rng.randrange(12)
    if kind == 0:
        rng.shuffle(rows)
    elif kind == 1:
        rows = [[*row, cell] for row, cell in zip(rows, rng.choice([rows[0], rows[-1]]) * len(rows), strict=False)]
    separator = rng.choice([",", ",", ",", ";", "\t"])
    return "\n".join(map(separator.join, rows)).encode("utf-8", "surrogatepass")


@functools.lru_cache(64)
def _loaded(content: bytes) -> Any:
    return yaml.safe_load(content)


def _yaml(content: bytes, rng: random.Random) -> bytes:
    value = with_value_changed(copy.deepcopy(_loaded(content)), rng)
    text = str(json.dumps(value) if rng.random() < 0.5 else yaml.safe_dump(value))
    return text.encode("utf-8", "surrogatepass")
