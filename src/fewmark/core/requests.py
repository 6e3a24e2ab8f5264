"""The requests of one serving measurement, kept by columns, and the statistics that follow from them.

Notation: n requests that succeeded, x_(1) ≤ … ≤ x_(n) their ordered values. The p-th percentile is the order statistic
x_(⌈p·n/100⌉), so no value is made up between two measured ones. Of fewer than 100 / (100 − p) requests it is their
maximum, which only bounds the percentile from below.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json
from fewmark.core.metrics import PERCENTILE_METRICS, PERCENTS, tpot_s

MAX_REQUESTS: Final = 10_000
"""The most requests that a measurement keeps; of more, every k-th (`Requests.thinned`)."""
_LOG_BIN: Final = math.log(1.01)  # gaps are kept to half a percent
_COLUMNS: Final = ("sent_s", "ttft_s", "e2e_latency_s", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in the order they were sent, one entry of each column a request.

    Parameters
    ----------
    e2e_latency_s : sequence of float or None
        Seconds from sending to the last token; None where the request failed.
    ttft_s : sequence of float or None
        Seconds from sending to the first output token.
    sent_s : sequence of float
        Seconds since the measurement began; empty if unknown.
    input_tokens, output_tokens : sequence of int or None
        As the server counts them; empty if unknown.
    gaps : sequence of (bin, count)
        The gaps between consecutive output tokens of all requests, as `gap_bins` counts them.
    n_all : int, optional
        How many requests there were, where only every k-th is kept.

    Raises
    ------
    InputError
        If columns differ in length, there are more than `MAX_REQUESTS`, or a number is not finite.
    """

    e2e_latency_s: tuple[float | None, ...] = ()
    ttft_s: tuple[float | None, ...] = ()
    sent_s: tuple[float | None, ...] = ()
    input_tokens: tuple[float | None, ...] = ()
    output_tokens: tuple[float | None, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    n_all: int | None = None

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            column = tuple(getattr(self, name))
            if column and len(column) != len(self.e2e_latency_s):
                raise InputError(
                    f"requests need one {name} for each e2e_latency_s",
                    got=f"{len(column)} for {len(self.e2e_latency_s)}",
                    hint="leave the column away where it is unknown; None where one request failed",
                )
            if any(value is not None and not _is_finite(value) for value in column):
                raise InputError(f"{name} of a request must be a finite number or unknown")
            object.__setattr__(self, name, column)
        if len(self.e2e_latency_s) > MAX_REQUESTS:
            raise InputError(
                f"a measurement keeps at most {MAX_REQUESTS} requests",
                got=len(self.e2e_latency_s),
                hint="make it with Requests.thinned",
            )
        try:
            object.__setattr__(self, "gaps", tuple((int(place), int(count)) for place, count in self.gaps))
        except (TypeError, ValueError):
            raise InputError("gaps are pairs of a bin and a count", got=self.gaps) from None

    @classmethod
    def thinned(cls, columns: Mapping[str, Sequence[float | None]], gaps: Iterable[float] = ()) -> Requests:
        """The requests by their columns, every k-th where there are more than `MAX_REQUESTS`; all the gaps, in seconds.

        Statistics of those left out are lost: give the exact ones to `Sample.statistics`.
        """
        n = len(columns["e2e_latency_s"])
        step = -(-n // MAX_REQUESTS) or 1
        kept = {name: tuple(values[::step]) for name, values in columns.items()}
        return cls(**kept, gaps=gap_bins(gaps), n_all=n if step > 1 else None)

    def to_dict(self) -> dict[str, Json]:
        """The known fields, JSON-ready."""
        data = {name: list(getattr(self, name)) for name in _COLUMNS}
        data["gaps"] = [list(pair) for pair in self.gaps]
        return {name: value for name, value in data.items() if value} | ({"n_all": self.n_all} if self.n_all else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Requests:
        """The requests behind `to_dict`. Raises `InputError` on unknown or invalid fields."""
        if not isinstance(data, Mapping) or not set(data) <= {item.name for item in fields(cls)}:
            raise InputError("requests need the columns " + ", ".join(_COLUMNS), got=data)
        return cls(**data)

    def statistics(self) -> dict[str, float]:
        """Means, percentiles and counts over the requests that succeeded, by the metrics' names.

        Rates are not among them: they need the window's length and what was in flight at its ends.
        """
        values = self._values()
        out: dict[str, float] = {name: statistics.fmean(found) for name, found in values.items() if found}
        ordered = {name: sorted(found) for name, found in values.items() if found}
        for name, (base, percent) in PERCENTILE_METRICS.items():
            if base in ordered:
                out[name] = order_statistic(ordered[base], percent)
        out |= _of_gaps(self.gaps)
        if self.e2e_latency_s and self.n_all is None:
            out["n_requests"] = len(values["e2e_latency_s"])
            out["n_failed"] = len(self.e2e_latency_s) - len(values["e2e_latency_s"])
        return out

    def bounds(self) -> tuple[str, ...]:
        """The percentiles for which there are too few requests, so that their values are only lower bounds."""
        sizes = {name: len(found) for name, found in self._values().items()}
        sizes["itl_s"] = sum(count for _, count in self.gaps)
        return tuple(
            name
            for name, (base, percent) in PERCENTILE_METRICS.items()
            if 0 < sizes.get(base, 0) < n_needed(percent) and percent != PERCENTS[0]
        )

    def _values(self) -> dict[str, list[float]]:
        done = [i for i, latency in enumerate(self.e2e_latency_s) if latency is not None]
        e2e = [value for value in self.e2e_latency_s if value is not None]
        first = [self.ttft_s[i] for i in done] if self.ttft_s else []
        each = [
            tpot_s(self.e2e_latency_s[i], self.ttft_s[i], self.output_tokens[i] or 0) if self.output_tokens else None
            for i in done
            if self.ttft_s
        ]
        return {
            "e2e_latency_s": e2e,
            "ttft_s": [value for value in first if value is not None],
            "tpot_s": [value for value in each if value is not None],
        }


def order_statistic(ordered: Sequence[float], percent: int) -> float:
    """The percentile of values in ascending order, as one of them: the ⌈percent·n/100⌉-th."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def n_needed(percent: int) -> int:
    """The fewest values of which the percentile is more than a bound."""
    return -(-100 // (100 - percent))


def gap_bins(gaps_s: Iterable[float]) -> tuple[tuple[int, int], ...]:
    """Positive gaps, in seconds, counted in logarithmic bins one percent wide: pairs of a bin and a count."""
    found = Counter(round(math.log(gap) / _LOG_BIN) for gap in gaps_s if gap > 0)
    return tuple(sorted(found.items()))


def _of_gaps(gaps: Sequence[tuple[int, int]]) -> dict[str, float]:
    total = sum(count for _, count in gaps)
    if not total:
        return {}
    out = {"itl_s": sum(math.exp(place * _LOG_BIN) * count for place, count in gaps) / total}
    for percent in PERCENTS:
        rank, passed = -(-percent * total // 100), 0
        for place, count in sorted(gaps):
            passed += count
            if passed >= rank:
                out[f"itl_p{percent}_s"] = math.exp(place * _LOG_BIN)
                break
    return out


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
