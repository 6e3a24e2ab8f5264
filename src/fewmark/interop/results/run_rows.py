"""One row of the canonical table in the making, from a tool's result: zeros that mean unknown, units, notes, statuses.

All metrics of the table are positive, so a zero, a negative or a number that is not finite says "unknown" and is left
out. A value whose definition differs and cannot be converted keeps its own name with the tool's prefix.

Besides the canonical columns, rows have

``run_id``
    The same for every record of one run, be it a summary, its list of requests or a console block, so that the poorer
    ones can be dropped.
``detail``
    How much the record knows: ``requests`` (statistics made from single requests), ``summary``, ``console`` (rounded
    text), ``aggregate`` (of several runs, which may stand elsewhere one by one), ``mixed`` (of several loads).
``tool``, ``tool_version``
    What measured.
``duration_s``
    The window over which rates are counted.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.columns import CASE_COLUMNS
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.table.frame import build_frame

DETAILS: Final = ("requests", "summary", "console", "aggregate", "mixed")  # the richest first
PERCENTS: Final = (50, 90, 95, 99)
LARGEST: Final = 1e300  # below it a number is finite, whatever its type
TOLERANCE: Final = 0.01  # relative; below it a value made anew and the one in the file are the same
SECRET: Final = re.compile(r"(?i)(api_?key|token$|secret|passw|authorization|credential|bearer)")
_OUT_OF_MEMORY: Final = re.compile(r"(?i)out of memory|outofmemory|\bOOM\b|cannot allocate memory")
_TIMEOUT: Final = re.compile(r"(?i)time[d]?[ _-]?out|deadline exceeded")
_UNSUPPORTED: Final = re.compile(
    r"(?i)\b(400|404|405|422)\b|bad request|not found|unprocessable|maximum context length|not supported|unsupported"
)
_PERCENTILE: Final = re.compile(r"_p\d+_s$")
_KEPT_UP: Final = 0.8  # of the rate of finished requests that a rate of sending amounts to
_HELD_BACK: Final = 0.75  # mean in flight over the cap from which the cap is the load
_NO_VALUES: Final = frozenset(
    (
        *("source", "tool", "tool_version", "detail", "run_id", "n_requests", "n_failed", "duration_s"),
        *(*CASE_COLUMNS, "request_rate", "n_repeats"),
    )
)


def number(value: object) -> float | None:
    """The finite number that a JSON value or a cell is, also as text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        value = value.strip()
        if not value or "_" in value:
            return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def positive(value: object) -> float | None:
    """The number, if it is above zero; None otherwise, since zero and −1 stand for "unknown"."""
    found = number(value)
    return found if found is not None and found > 0 else None


def positives(values: Sequence[object]) -> list[float | None]:
    """`positive` of each value."""
    return [
        float(value)
        if isinstance(value, (float, int)) and not isinstance(value, bool) and 0 < value < LARGEST
        else positive(value)
        for value in values
    ]


def count(value: object) -> int | None:
    """A number of things: a whole number from zero; None otherwise."""
    found = number(value)
    return int(found) if found is not None and found >= 0 and found.is_integer() and found < 2**53 else None


def text(value: object) -> str | None:
    """A non-empty text; None otherwise. Numbers become text, so that a version 0.10 written as a number is kept."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None


def nested(value: Json, *path: str | int) -> Json:
    """What lies at the path of keys and positions in nested JSON; None where it ends early."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key) if isinstance(key, str) else None
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key] if -len(value) <= key < len(value) else None
        else:
            return None
    return value


def listed(value: object) -> list[Json]:
    """A JSON list; empty for anything else."""
    return value if isinstance(value, list) else []


def run_id(*parts: object) -> str:
    """A short name for a run from what every record of it says: numbers to seven digits, so that copies agree."""
    said = [f"{part:.7g}" if isinstance(part, float) else str(part) for part in parts]
    return hashlib.sha256("|".join(said).encode()).hexdigest()[:16]


def failure_status(errors: Iterable[object]) -> Status:
    """What the texts of errors say about why a run failed; a crash if nothing else."""
    joined = "\n".join(str(error) for error in errors)[:100_000]
    if _OUT_OF_MEMORY.search(joined):
        return Status.OUT_OF_MEMORY
    if _TIMEOUT.search(joined):
        return Status.TIMEOUT
    return Status.UNSUPPORTED if _UNSUPPORTED.search(joined) else Status.CRASHED


class RunRow:
    """A row being filled in.

    Parameters
    ----------
    tool : the tool's name, also the prefix of what keeps its own name
    detail : one of `DETAILS`
    """

    def __init__(self, tool: str, detail: str = "summary") -> None:
        self.tool = tool
        self.cells: Row = {"source": tool, "tool": tool, "detail": detail}
        self.notes: list[str] = []

    def put(self, name: str, value: object, scale: float = 1.0) -> float | None:
        """Set a column to a positive number times `scale`, unless that is unknown. Returns what was set."""
        found = positive(value)
        if found is not None:
            self.cells[name] = found * scale
            return found * scale
        return None

    def own(self, name: str, value: object, scale: float = 1.0) -> float | None:
        """As `put`, under the tool's own prefix: a value whose definition is not ours."""
        return self.put(f"{self.tool}.{name}", value, scale)

    def known(self, name: str) -> float | None:
        """The number in a column; None where nothing was put."""
        found = self.cells.get(name)
        return found if isinstance(found, (int, float)) else None

    def put_goodput(self, value: object) -> None:
        """Set the goodput, of which zero is a measurement: no request met the objectives."""
        found = number(value)
        if found is not None and found >= 0:
            self.cells["goodput_req_s"] = found

    def name_run(self, done: int | None, e2e_latency_s: float | None, *otherwise: object) -> None:
        """Give the run the name that each of its records gives it: by its requests, or by `otherwise` without any."""
        if done and e2e_latency_s:
            self.cells["run_id"] = run_id("requests", done, e2e_latency_s)
        else:
            load = [self.cells.get(name) for name in ("model", "batch_size", "concurrency", "request_rate", "n_failed")]
            self.cells["run_id"] = run_id("failed", self.tool, *load, *otherwise)

    def say(self, name: str, value: object) -> None:
        """Set a column to a text, unless that is empty."""
        found = text(value)
        if found is not None:
            self.cells[name] = found

    def note(self, words: str) -> None:
        """Add what was converted, or what to know about the row."""
        if words and words not in self.notes:
            self.notes.append(words)

    def drop(self, *names: str) -> None:
        """Forget columns that turned out to be no measurements."""
        for name in names:
            self.cells.pop(name, None)

    def counts(self, done: int | None, failed: int | None) -> None:
        """How many requests succeeded and failed; notes failures beside successes."""
        if done is not None:
            self.cells["n_requests"] = done
        if failed is not None:
            self.cells["n_failed"] = failed
        if done and failed:
            self.note(f"{failed} of {done + failed} requests failed; statistics are of the others")

    def fail(self, status: Status, why: str) -> None:
        """Make the row one of a run without values: only what was asked for stays."""
        self.cells = {
            name: value
            for name, value in self.cells.items()
            if name in _NO_VALUES or name.startswith(("option.", "workload."))
        }
        self.cells["status"] = str(status)
        self.note(why)

    def compare(self, recomputed: Mapping[str, float], told: Mapping[str, float]) -> None:
        """Put values made anew from single requests, and note where the file's own differ by more than 1 %."""
        self.cells |= recomputed
        apart = {
            name: f"{recomputed[name]:.4g} (the file says {said:.4g})"
            for name, said in told.items()
            if name in recomputed and abs(recomputed[name] / said - 1) > TOLERANCE
        }
        means = [f"{name} {words}" for name, words in apart.items() if not _PERCENTILE.search(name)]
        self.note("recomputed from single requests" + (": " + ", ".join(means) if means else ", as the file says"))
        percentiles = [f"{name} {words}" for name, words in apart.items() if _PERCENTILE.search(name)]
        if percentiles:
            self.note("percentiles are values of requests, not between two: " + ", ".join(percentiles))

    def check_rate(self) -> None:
        """Note a rate that was not kept up with: n requests take (n − 1)/rate and a latency, or a little longer."""
        rate, reached, e2e, n = (
            self.known(name) for name in ("request_rate", "request_throughput_req_s", "e2e_latency_s", "n_requests")
        )
        sent = (n or 0) + (self.known("n_failed") or 0)
        if not (rate and reached and e2e and n) or reached > _KEPT_UP * n / ((sent - 1) / rate + e2e):
            return
        words = f"the rate was not kept up with: {reached:.3g} of {rate:.3g} req/s finished"
        cap = self.known("workload.max_concurrency")
        if cap and reached * e2e >= _HELD_BACK * cap:
            words += f", with {reached * e2e:.3g} in flight on the average: the cap of {cap:.0f} was the load"
        self.note(words)

    def finish(self) -> Row:
        """The cells, with what a mean is said and the notes joined."""
        self.check_rate()
        if self.cells.get("status") is None and self.cells.get("statistic") is None:
            self.cells["statistic"] = "mean"
        if self.notes:
            self.cells["note"] = "; ".join(self.notes)
        return self.cells


def rows_to_frame(rows: Sequence[JsonObject]) -> pd.DataFrame:
    """The canonical table of rows. Raises `FormatError` if there are none."""
    if not rows:
        raise FormatError("the file holds no result")
    names = dict.fromkeys(name for row in rows for name in row)
    return build_frame({name: [row.get(name) for row in rows] for name in names}, verbatim=True)
