"""How a load is driven: in a closed loop or by a schedule, by how many workers, and within which limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, Literal

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json

MAX_WORKERS: Final = 256
Transport = Literal["sockets", "aiohttp"]


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """The limits of a load.

    Parameters
    ----------
    concurrency : int or None
        Requests in flight in a closed loop. None: an open loop, each request at its plan's `planned_send_s`.
    max_in_flight : int or None
        In an open loop, a request over this number waits, late, until another has ended.
    workers : int
        Worker processes; 0 drives the load in the calling process.
    duration_s : float or None
        No request is sent later than this after the start. None: until the plans are used up.
    drain_s : float
        How long after that the requests in flight may take; then they are cancelled.
    connect_timeout_s, stall_timeout_s, request_timeout_s : float
        Limits on making a connection, on the time without a further byte, on one request as a whole.
    max_answer_bytes : int
        Limit on one answer.
    keep_chunks : bool
        Keep each chunk's time and text in the result.
    transport : {"sockets", "aiohttp"}
        The client's own, or aiohttp's, for proxies and servers that this one cannot talk to.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    concurrency: int | None = None
    max_in_flight: int | None = None
    workers: int = 1
    duration_s: float | None = None
    drain_s: float = 60.0
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 300.0
    request_timeout_s: float = 900.0
    max_answer_bytes: int = 1 << 26
    keep_chunks: bool = False
    transport: Transport = "sockets"

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_in_flight", "max_answer_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be a whole number of at least 1", got=value)
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or not 0 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers must be a whole number from 0 to {MAX_WORKERS}", got=self.workers)
        for name in ("duration_s", "connect_timeout_s", "stall_timeout_s", "request_timeout_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} must be a positive number of seconds", got=value)
        if not (self.drain_s >= 0 and math.isfinite(self.drain_s)):
            raise InputError("drain_s must be a number of seconds, 0 or more", got=self.drain_s)
        if self.transport not in ("sockets", "aiohttp"):
            raise InputError("unknown transport", got=self.transport, hint="sockets or aiohttp")

    def to_dict(self) -> dict[str, Json]:
        """The fields, for a worker process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
