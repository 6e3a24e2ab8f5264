"""What a worker says, line by line: messages, and what they tell of where it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from fewmark.core import FrozenMap, InputError
from fewmark.core.errors import MALFORMED
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.worker.program import PROTOCOL

MARK: Final = b'{"fewmark": '
NO_MESSAGE: Final = MARK + b'1, "event": "malformed"}'
PEAK: Final = "peak_memory_bytes"


def message_of(line: bytes) -> dict[str, Json]:
    """The message of a line; a login banner or a stray print may stand before it. What is none is ``malformed``."""
    try:
        answer = json.loads(line[line.find(MARK) :])
    except MALFORMED:
        answer = {"fewmark": PROTOCOL}
    return answer if isinstance(answer.get("event"), str) else {**answer, "event": "malformed"}


def facts_of(message: JsonObject) -> FrozenMap:
    """The environment that a message tells of. Raises `InputError` where it is none."""
    facts = message.get("environment")
    if not isinstance(facts, Mapping):
        raise InputError("an environment is a mapping", got=facts)
    try:
        return FrozenMap(facts)
    except MALFORMED as error:
        raise InputError("an environment holds JSON values", got=str(error)) from None


def together(ours: JsonObject, its: JsonObject) -> dict[str, Json]:
    """What we saw and what the worker tells, which knows better but for the memory of processes that it started."""
    peaks = [peak for facts in (ours, its) if isinstance(peak := facts.get(PEAK), (int, float))]
    return {**ours, **its, **({PEAK: max(peaks)} if peaks else {})}
