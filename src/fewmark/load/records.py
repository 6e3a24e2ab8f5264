"""What a load is made of: planned requests, what became of each, and the whole run's account.

Times are seconds of the system's real-time clock as floats (resolution about 0.2 µs), None where something did not
happen or is not known. Tokens are counted by the server's usage, never by events.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RequestStatus(StrEnum):
    """How a request ended. A failed request is a record, not an exception."""

    OK = "ok"
    SHORT = "short"  # a whole answer with fewer tokens, by usage, than were asked for
    REFUSED = "refused"  # no connection: refused, unreachable, no such host
    TLS_ERROR = "tls_error"  # no connection that can be trusted
    HTTP_ERROR = "http_error"  # an answer whose status is not 200, or an error event inside a stream
    REDIRECT = "redirect"  # sent elsewhere; never followed
    TIMEOUT = "timeout"  # a time limit passed before the answer's end
    CUT = "cut"  # the connection closed before the answer's end
    MALFORMED = "malformed"  # not HTTP/1.1, not an event stream, not the protocol's JSON
    TOO_LARGE = "too_large"  # more bytes than the limit on one answer
    CANCELLED = "cancelled"  # the run ended first: in flight if `send_s` is known, else never sent


FINISHED = frozenset({RequestStatus.OK, RequestStatus.SHORT})
GIVEN_UP = frozenset({RequestStatus.TIMEOUT, RequestStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """One request to be sent.

    Parameters
    ----------
    index : int
        Position in the load; the record carries it.
    body : bytes
        The JSON body, complete.
    path : str
        The route, appended to the endpoint's base URL.
    stream : bool
        Whether the body asks for a stream of events.
    planned_send_s : float or None
        Seconds after the start of the load (open loop); None: as soon as a stream is free, or, within a session,
        `think_s` after the turn before has ended.
    input_tokens, output_tokens : int or None
        What is asked for, in tokens; None where it is not known.
    session : str or None
        Turns of one conversation share a name; they are sent in order, each after the end of the one before.
    think_s : float
        Pause between the end of the session's previous turn and this one.
    model : str or None
        The model (or adapter) named in the body.
    """

    index: int
    body: bytes
    path: str = "/v1/completions"
    stream: bool = True
    planned_send_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    session: str | None = None
    think_s: float = 0.0
    model: str | None = None


def _no_gaps() -> array[float]:
    return array("d")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What became of one request.

    Parameters
    ----------
    index, stream : int
        The plan's index; the worker's slot that carried it (numbered over all workers), -1 if it was never sent.
    status : RequestStatus
    planned_send_s : float or None
        When it should have been sent: the schedule's time, or in a closed loop the time its stream became free.
    send_s, connect_s : float or None
        First byte of the request written; connection made, TLS included (None when an open one was reused).
    reused : bool
        Whether the connection had served before.
    first_byte_s, first_chunk_s, first_output_s, second_token_s, last_token_s, end_s : float or None
        First byte of the answer; first chunk with tokens; first chunk with tokens of the answer itself, after any
        reasoning; second chunk with tokens if it came in a later read than the first; last chunk with tokens; end of
        the answer, or when it was given up. None of the chunks' times exists for an answer that is not streamed.
    input_tokens_asked, output_tokens_asked : int or None
        As planned.
    prompt_tokens, completion_tokens, reasoning_tokens : int or None
        By the server's usage; None where it gave none.
    n_chunks : int
        Events that carried tokens.
    n_coalesced : int
        Of these, the ones that came in one read with a later one, so that their own time is not known.
    chunk_gaps_s : array of float
        Gaps between successive reads that carried tokens, ``n_chunks - n_coalesced - 1`` of them.
    kernel_stamps : bool
        Whether the receive times are the kernel's; otherwise they were taken when the process came to read.
    finish_reason : str or None
    http_status : int or None
    error : str or None
        What went wrong, bounded and without the key.
    model : str or None
        As planned.
    session : str or None
        As planned.
    """

    index: int
    status: RequestStatus
    stream: int = -1
    planned_send_s: float | None = None
    send_s: float | None = None
    connect_s: float | None = None
    reused: bool = False
    first_byte_s: float | None = None
    first_chunk_s: float | None = None
    first_output_s: float | None = None
    second_token_s: float | None = None
    last_token_s: float | None = None
    end_s: float | None = None
    input_tokens_asked: int | None = None
    output_tokens_asked: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    n_chunks: int = 0
    n_coalesced: int = 0
    chunk_gaps_s: array[float] = field(default_factory=_no_gaps)
    kernel_stamps: bool = False
    finish_reason: str | None = None
    http_status: int | None = None
    error: str | None = None
    model: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A jump of the real-time clock against the monotonic one while the load ran."""

    at_s: float
    step_s: float


@dataclass(frozen=True, slots=True)
class WorkerUse:
    """What one worker process did: times of the real-time clock, CPU seconds of user and system together.

    `longest_pause_s` is the longest time between two polls of its sockets: how late it may have been to send.
    """

    worker: int
    started_s: float
    ended_s: float
    cpu_s: float
    n_requests: int
    longest_pause_s: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A whole load: its records in the order of their index, and what the client itself used and suffered."""

    records: tuple[RequestRecord, ...]
    started_s: float
    ended_s: float
    workers: tuple[WorkerUse, ...] = ()
    clock_steps: tuple[ClockStep, ...] = ()
    transport: str = "sockets"  # or "aiohttp"
    chunks: Mapping[int, tuple[tuple[float, str], ...]] = field(default_factory=dict)  # by index, where they are kept

    @property
    def client_cpu_s(self) -> float:
        """CPU seconds of all workers."""
        return sum(use.cpu_s for use in self.workers)

    @property
    def lateness_s(self) -> tuple[float, ...]:
        """Actual minus planned send time of each request that was sent, in order of sending plan."""
        return tuple(
            record.send_s - record.planned_send_s
            for record in self.records
            if record.send_s is not None and record.planned_send_s is not None
        )
