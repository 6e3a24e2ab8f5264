"""Messages between the driver of a load and its workers: plain values, each with its length before it.

Both ends are the same interpreter on the same machine, so values travel by `marshal`, which holds no code to be run.
"""

from __future__ import annotations

import marshal
import struct
from array import array
from dataclasses import fields
from typing import Any, Final

from fewmark.load.records import RequestPlan, RequestRecord, RequestStatus

HEAD: Final = struct.Struct("<Q")
MAX_FRAME: Final = 1 << 32
PLAN_FIELDS: Final = tuple(field.name for field in fields(RequestPlan))
RECORD_FIELDS: Final = tuple(field.name for field in fields(RequestRecord))


def pack(*message: Any) -> bytes:
    """A message as bytes."""
    data = marshal.dumps(message)
    return HEAD.pack(len(data)) + data


class FrameReader:
    """Puts messages together from what a pipe brings."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Any, ...]]:
        """The messages that are whole now. Raises ValueError if what comes are no messages."""
        buffer = self._buffer
        buffer += data
        messages = []
        at = 0
        while len(buffer) - at >= HEAD.size:
            (size,) = HEAD.unpack_from(buffer, at)
            if size > MAX_FRAME:
                raise ValueError("not a message")
            end = at + HEAD.size + size
            if len(buffer) < end:
                break
            messages.append(marshal.loads(memoryview(buffer)[at + HEAD.size : end]))
            at = end
        if at:
            del buffer[:at]
        return messages


def plan_values(plan: RequestPlan) -> tuple[object, ...]:
    """The plan's fields."""
    return tuple(getattr(plan, name) for name in PLAN_FIELDS)


def record_values(record: RequestRecord) -> tuple[object, ...]:
    """The record's fields, as plain values."""
    values = [getattr(record, name) for name in RECORD_FIELDS]
    values[1] = str(record.status)
    values[RECORD_FIELDS.index("chunk_gaps_s")] = record.chunk_gaps_s.tobytes()
    return tuple(values)


def value_record(values: tuple[Any, ...]) -> RequestRecord:
    """A record from its fields."""
    fields_ = dict(zip(RECORD_FIELDS, values, strict=True))
    gaps: array[float] = array("d")
    gaps.frombytes(fields_["chunk_gaps_s"])
    fields_["chunk_gaps_s"] = gaps
    fields_["status"] = RequestStatus(fields_["status"])
    return RequestRecord(**fields_)
