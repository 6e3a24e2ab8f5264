"""A sample: one repeat of a case, raw. What follows from it by definition is derived, never written over it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fewmark.core.columns import COUNT_COLUMNS, METRIC_COLUMNS, SERVING_COLUMNS
from fewmark.core.errors import InputError
from fewmark.core.frozen import FrozenMap, thaw
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
        if not isinstance(self.token_times_s, tuple):
            object.__setattr__(self, "token_times_s", tuple(self.token_times_s))
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not _is_finite_number(value):
                raise InputError(f"{name} must be a finite number or unknown", got=value)
        if self.statistics is not _NONE:
            self._check_statistics()
        if isinstance(self.requests, Mapping):
            object.__setattr__(self, "requests", Requests.from_dict(self.requests))

    def to_dict(self) -> dict[str, Any]:
        """The known fields as a plain dictionary."""
        out: dict[str, Any] = {name: value for name in _NUMBERS if (value := getattr(self, name)) is not None}
        if self.token_times_s:
            out["token_times_s"] = list(self.token_times_s)
        if self.statistics:
            out["statistics"] = thaw(self.statistics)
        if self.requests is not None:
            out["requests"] = self.requests.to_dict()
        return out

    def known(self) -> dict[str, float]:
        """Every number of the sample by its column's name; what was stated goes before what its requests say."""
        out: dict[str, float] = {} if self.requests is None else self.requests.statistics()
        out |= self.statistics
        return out | {name: value for name in _NUMBERS if (value := getattr(self, name)) is not None}

    def _check_statistics(self) -> None:
        if not isinstance(self.statistics, Mapping):
            raise InputError("a sample's statistics map metrics to numbers", got=self.statistics)
        stated = {name: value for name, value in self.statistics.items() if value is not None}
        for name, value in stated.items():
            if name not in _STATISTICS:
                raise InputError("unknown statistic of a sample", got=name, hint=f"one of {', '.join(SERVING_COLUMNS)}")
            if not _is_finite_number(value):
                raise InputError(f"{name} must be a finite number or unknown", got=value)
        object.__setattr__(self, "statistics", FrozenMap(stated))


def _is_finite_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
