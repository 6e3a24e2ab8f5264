"""Recorded traffic: when requests came and how long they were, read from a file.

Three formats: Mooncake's JSON lines (``timestamp`` in milliseconds, ``input_length``, ``output_length``, ``hash_ids``
of blocks of 512 prompt tokens; requests that begin with the same ids share that prefix), BurstGPT's CSV (``Timestamp``
in seconds, ``Model``, ``Request tokens``, ``Response tokens``; 0 response tokens mark a failed request) and a CSV of
one's own (``time_s``, ``input_tokens``, ``output_tokens``, and if wanted ``model`` and ``session``).
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, Literal

from fewmark.core.errors import FormatError, InputError

TraceFormat = Literal["mooncake", "burstgpt", "csv"]
MOONCAKE_BLOCK_TOKENS: Final = 512
MAX_REQUESTS: Final = 1_000_000
MAX_LINE_CHARS: Final = 10_000_000
MAX_TOKENS: Final = 100_000_000  # of one request: more is a fault of the file

_OWN_COLUMNS: Final = ("time_s", "input_tokens", "output_tokens")
_BURSTGPT_COLUMNS: Final = ("Timestamp", "Model", "Request tokens", "Response tokens")


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One recorded request.

    Parameters
    ----------
    time_s : float
        Arrival, seconds after the first request that was kept.
    input_tokens, output_tokens : int
        At least 1 each.
    blocks : tuple of int
        Ids of the prompt's blocks, in order; equal leading ids are a shared prefix. Empty where the trace has none.
    block_tokens : int
        Tokens of a block; the last one may hold fewer.
    model, session : str or None
        As recorded.
    """

    time_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = MOONCAKE_BLOCK_TOKENS
    model: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Which part of a trace is used, and how fast.

    Parameters
    ----------
    speed : float
        How many times faster than recorded it is replayed.
    start_s, duration_s : float
        The part of the recording that is used, in recorded seconds after its first request.
    max_requests : int
        At most so many are kept.
    max_input_tokens, max_total_tokens : int or None
        Requests with a longer prompt, or a longer prompt and answer together, are left out and counted.
    """

    speed: float = 1.0
    start_s: float = 0.0
    duration_s: float = math.inf
    max_requests: int = MAX_REQUESTS
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise InputError("speed must be a positive number", got=self.speed)
        if not (math.isfinite(self.start_s) and self.start_s >= 0 and self.duration_s > 0):
            raise InputError(
                "the part of a trace is start_s ≥ 0 and duration_s > 0", got=(self.start_s, self.duration_s)
            )
        if not 1 <= self.max_requests <= MAX_REQUESTS:
            raise InputError(f"max_requests is 1 to {MAX_REQUESTS}", got=self.max_requests)


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests that are to be replayed, in order of time, and what was left out and why."""

    requests: tuple[TraceRequest, ...]
    left_out: Mapping[str, int]
    recorded_s: float

    @property
    def mean_request_rate(self) -> float | None:
        """Requests per second over the replay; None for fewer than two."""
        if len(self.requests) < 2 or self.requests[-1].time_s <= 0:
            return None
        return (len(self.requests) - 1) / self.requests[-1].time_s


def read_trace(path: Path, trace_format: TraceFormat | None = None, options: TraceOptions | None = None) -> Trace:
    """Read a trace.

    Parameters
    ----------
    path : Path
    trace_format : {"mooncake", "burstgpt", "csv"}, optional
        None looks at the file.
    options : TraceOptions, optional

    Raises
    ------
    FormatError
        If the file is not in the format, with the number of the line.
    InputError
        If it cannot be read, or nothing is left of it.
    """
    options = options or TraceOptions()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(MAX_LINE_CHARS)
            found = trace_format or _format_of(first, path)
            file.seek(0)
            recorded = list(_bounded(_READERS[found](file, path), path))
    except OSError as error:
        raise InputError("a trace cannot be read", got=f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError("a trace must be UTF-8 text", got=str(path)) from error
    return _select(recorded, options, path)


def _select(recorded: list[TraceRequest | None], options: TraceOptions, path: Path) -> Trace:
    left_out: Counter[str] = Counter()
    known = sorted((r for r in recorded if r is not None), key=lambda request: request.time_s)
    if len(known) < len(recorded):
        left_out["recorded as failed"] = len(recorded) - len(known)
    origin = known[0].time_s if known else 0.0
    kept: list[TraceRequest] = []
    for request in known:
        elapsed = request.time_s - origin - options.start_s
        reason = _left_out_for(request, elapsed, len(kept), options)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(replace(request, time_s=elapsed))
    if not kept:
        raise InputError(
            "nothing of the trace is left to replay",
            got=f"{path}: {', '.join(f'{n} {why}' for why, n in left_out.items()) or 'no requests'}",
        )
    first = kept[0].time_s
    kept = [replace(request, time_s=(request.time_s - first) / options.speed) for request in kept]
    return Trace(tuple(kept), dict(left_out), known[-1].time_s - origin)


def _left_out_for(request: TraceRequest, elapsed: float, n_kept: int, options: TraceOptions) -> str | None:
    if not 0 <= elapsed < options.duration_s:
        return "outside the chosen time"
    if options.max_input_tokens is not None and request.input_tokens > options.max_input_tokens:
        return f"with more than {options.max_input_tokens} input tokens"
    if options.max_total_tokens is not None and request.input_tokens + request.output_tokens > options.max_total_tokens:
        return f"with more than {options.max_total_tokens} tokens in all"
    if n_kept >= options.max_requests:
        return f"after the first {options.max_requests}"
    return None


def _format_of(first_line: str, path: Path) -> TraceFormat:
    if first_line.lstrip().startswith("{"):
        return "mooncake"
    columns = {column.strip() for column in first_line.split(",")}
    if columns.issuperset(_BURSTGPT_COLUMNS):
        return "burstgpt"
    if columns.issuperset(_OWN_COLUMNS):
        return "csv"
    raise FormatError(
        "not a trace that is known",
        got=f"{path}: {first_line.strip()[:120] or 'an empty file'}",
        hint=f"Mooncake JSON lines, BurstGPT CSV, or a CSV with {', '.join(_OWN_COLUMNS)}",
    )


def _bounded(requests: Iterator[TraceRequest | None], path: Path) -> Iterator[TraceRequest | None]:
    for n, request in enumerate(requests):
        if n >= MAX_REQUESTS:
            raise InputError(f"a trace has at most {MAX_REQUESTS} requests", got=str(path), hint="cut the file")
        yield request


def _read_mooncake(file: IO[str], path: Path) -> Iterator[TraceRequest]:
    number = 0
    while line := file.readline(MAX_LINE_CHARS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARS:
            raise FormatError(
                f"a line of a trace has at most {MAX_LINE_CHARS} characters", got=f"{path}, line {number}"
            )
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError("a line of a Mooncake trace is a JSON object", got=f"{where}: {line[:80]}") from error
        if not isinstance(value, dict):
            raise FormatError("a line of a Mooncake trace is a JSON object", got=f"{where}: {line[:80]}")
        input_tokens = _tokens(value.get("input_length"), "input_length", where)
        yield TraceRequest(
            _seconds(value.get("timestamp"), "timestamp", where) / 1000,
            input_tokens,
            _tokens(value.get("output_length"), "output_length", where),
            _blocks(value.get("hash_ids"), input_tokens, where),
        )


def _blocks(value: object, input_tokens: int, where: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        raise FormatError("hash_ids is a list of integers", got=f"{where}: {value!r}")
    # ids beyond the prompt's length would lengthen it
    return tuple(value[: -(-input_tokens // MOONCAKE_BLOCK_TOKENS)])


def _read_burstgpt(file: IO[str], path: Path) -> Iterator[TraceRequest | None]:
    for row, where in _rows(file, path, _BURSTGPT_COLUMNS):
        output_tokens = _tokens(row["Response tokens"], "Response tokens", where, at_least=0)
        if output_tokens == 0:
            yield None
            continue
        yield TraceRequest(
            _seconds(row["Timestamp"], "Timestamp", where),
            _tokens(row["Request tokens"], "Request tokens", where),
            output_tokens,
            model=row["Model"] or None,
            session=row.get("Session ID") or None,
        )


def _read_own(file: IO[str], path: Path) -> Iterator[TraceRequest]:
    for row, where in _rows(file, path, _OWN_COLUMNS):
        yield TraceRequest(
            _seconds(row["time_s"], "time_s", where),
            _tokens(row["input_tokens"], "input_tokens", where),
            _tokens(row["output_tokens"], "output_tokens", where),
            model=row.get("model") or None,
            session=row.get("session") or None,
        )


def _rows(file: IO[str], path: Path, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, str], str]]:
    reader = csv.reader(file)
    try:
        header = [column.strip() for column in next(reader, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            raise FormatError(f"the trace lacks {', '.join(missing)}", got=f"{path}: {', '.join(header)}")
        for cells in reader:
            if not cells:
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(header):
                raise FormatError(f"a row has {len(header)} cells", got=f"{where}: {len(cells)}")
            yield dict(zip(header, (cell.strip() for cell in cells), strict=True)), where
    except csv.Error as error:
        raise FormatError("the trace is not CSV", got=f"{path}, line {reader.line_num}: {error}") from error


def _seconds(value: object, name: str, where: str) -> float:
    number = _number(value, name, where)
    if number < 0:
        raise FormatError(f"{name} must not be negative", got=f"{where}: {value!r}")
    return number


def _tokens(value: object, name: str, where: str, at_least: int = 1) -> int:
    number = _number(value, name, where)
    if number != int(number) or not at_least <= number <= MAX_TOKENS:
        raise FormatError(f"{name} is a whole number from {at_least} to {MAX_TOKENS}", got=f"{where}: {value!r}")
    return int(number)


def _number(value: object, name: str, where: str) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise FormatError(f"{name} must be a number", got=f"{where}: {value!r}")
    return number


_READERS: Final[dict[TraceFormat, Callable[[IO[str], Path], Iterator[TraceRequest | None]]]] = {
    "mooncake": _read_mooncake,
    "burstgpt": _read_burstgpt,
    "csv": _read_own,
}
