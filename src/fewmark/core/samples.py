"""A sample: one repeat of a case, raw. What follows from it by definition is derived, never written over it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fewmark.core.columns import COUNT_COLUMNS, METRIC_COLUMNS, SERVING_COLUMNS
from fewmark.core.errors import InputError
from fewmark.core.frozen import FrozenMap, as_number, thaw
from fewmark.core.json_types import Json
from fewmark.core.requests import Requests

_NUMBERS: Final = (*METRIC_COLUMNS, "output_tokens")
_STATISTICS: Final = frozenset((*SERVING_COLUMNS, *COUNT_COLUMNS))
_NONE: Final = FrozenMap()


@dataclass(frozen=True, slots=True)
class Sample:
    """One repeat, raw: what was read off the clock or the imported row. Seconds, tokens and requests per second, watts.

    `token_times_s` are the moments, since the request was sent, at which output steps came (the first is the first
    token); `output_tokens` is what was really produced by each sequence. A repeat of a serving benchmark is a window
    with many requests: its six numbers are means over them, `statistics` holds the further ones by their names in
    `SERVING_COLUMNS` and `COUNT_COLUMNS`, and `requests`, where they are known, are the requests themselves.
    """

    e2e_latency_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    throughput_tok_s: float | None = None
    total_throughput_tok_s: float | None = None
    power_w: float | None = None
    output_tokens: float | None = None
    token_times_s: tuple[float, ...] = ()
    statistics: FrozenMap = field(default=_NONE)
    requests: Requests | None = None

    def __post_init__(self) -> None:
        times = self.token_times_s
        if not isinstance(times, tuple) or any(type(moment) is not float for moment in times):
            if isinstance(times, (str, bytes)) or not isinstance(times, Iterable):
                raise InputError("token_times_s must be a list of numbers", got=times)
            object.__setattr__(self, "token_times_s", tuple(number("token_times_s", moment) for moment in times))
        elif not all(map(math.isfinite, times)):
            raise InputError("token_times_s must be finite numbers")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not (type(value) is float and math.isfinite(value)):
                object.__setattr__(self, name, number(name, value))
        if self.statistics is not _NONE:
            self._check_statistics()
        if isinstance(self.requests, Mapping):
            object.__setattr__(self, "requests", Requests.from_dict(self.requests))

    def to_dict(self) -> dict[str, Any]:
        """The known fields as a plain dictionary."""
        out: dict[str, Json] = {name: value for name in _NUMBERS if (value := getattr(self, name)) is not None}
        if self.token_times_s:
            out["token_times_s"] = list(self.token_times_s)
        if self.statistics:
            out["statistics"] = thaw(self.statistics)
        if self.requests is not None:
            out["requests"] = self.requests.to_dict()
        return out

    def known(self) -> dict[str, float]:
        """Every number of the sample by its column's name; what was stated goes before what its requests say.

        Who stated statistics knew all requests: a percentile that they left out for want of requests is not known.
        """
        out: dict[str, float] = {} if self.requests is None else self.requests.statistics()
        for name in self.requests.bounds() if self.requests is not None and self.statistics else ():
            out.pop(name, None)
        out |= self.statistics
        return out | {name: value for name in _NUMBERS if (value := getattr(self, name)) is not None}

    def _check_statistics(self) -> None:
        if not isinstance(self.statistics, Mapping):
            raise InputError("a sample's statistics map metrics to numbers", got=self.statistics)
        stated = {name: value for name, value in self.statistics.items() if value is not None}
        for name, value in stated.items():
            if name not in _STATISTICS:
                raise InputError("unknown statistic of a sample", got=name, hint=f"one of {', '.join(SERVING_COLUMNS)}")
            stated[name] = number(name, value)
        object.__setattr__(self, "statistics", FrozenMap(stated))


def number(name: str, value: object) -> float:
    """The number behind a value of any numeric type, NumPy's too. Raises `InputError` where it is none, or infinite."""
    found = as_number(value)
    if found is None:
        raise InputError(f"{name} must be a finite number or unknown", got=value)
    return found
