"""What a generation cut short says of the whole one: end-to-end latencies projected to the full output length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from fewmark.core.errors import InputError
from fewmark.core.frozen import as_number
from fewmark.core.json_types import Json

PROJECTION_COLUMNS: Final = (
    "projection_rule",
    "generated_tokens",
    "e2e_latency_s_low",
    "e2e_latency_s_high",
    "projection_confidence_level",
)


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection of a measurement's samples; the samples themselves stay as they were read off the clock.

    Parameters
    ----------
    rule : str
        Who projected: ``growth``, ``mean`` or ``flexllmgen``.
    generated_tokens : int
        Output tokens that each sequence really produced.
    e2e_latency_s : tuple of float
        Projected seconds of the full generation, one for each sample.
    low_s, high_s : float, optional
        Ends of the interval that a full measurement (the median of as many runs) falls into with probability
        `confidence_level`; None where the rule knows no error.
    """

    rule: str
    generated_tokens: int
    e2e_latency_s: tuple[float, ...]
    low_s: float | None = None
    high_s: float | None = None
    confidence_level: float = 0.9

    def __post_init__(self) -> None:
        times = self.e2e_latency_s
        ends = (self.low_s, self.high_s)
        if isinstance(times, (str, bytes)) or not isinstance(times, Iterable):
            raise InputError("a projection's latencies are a list of numbers", got=times)
        object.__setattr__(self, "e2e_latency_s", tuple(times))
        if any(as_number(value) is None for value in (*self.e2e_latency_s, *(end for end in ends if end is not None))):
            raise InputError("a projection's latencies are finite numbers", got=(*self.e2e_latency_s, *ends))

    def to_dict(self) -> dict[str, Json]:
        """The known fields, JSON-ready."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["e2e_latency_s"] = list(self.e2e_latency_s)
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Projection:
        """The projection behind `to_dict`. Raises `InputError` where it is malformed."""
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError("not a projection", got=data, hint=str(error)) from None

    @classmethod
    def of_columns(cls, cells: dict[str, Json], e2e_latency_s: float | None) -> Projection | None:
        """What `columns` told of the projection to this latency, taken out of the cells; None if they tell of none."""
        rule, *told = [cells.pop(name, None) for name in PROJECTION_COLUMNS]
        generated, low_s, high_s, level = map(_float, told)
        if e2e_latency_s is None or rule is None or generated is None:
            return None
        return cls(str(rule), int(generated), (e2e_latency_s,), low_s, high_s, 0.9 if level is None else level)

    def columns(self) -> dict[str, Json]:
        """What the canonical table says of it, by `PROJECTION_COLUMNS`."""
        values = (self.rule, self.generated_tokens, self.low_s, self.high_s, self.confidence_level)
        known = zip(PROJECTION_COLUMNS, values, strict=True)
        return {name: value for name, value in known if value is not None}


def _float(value: Json) -> float | None:
    if value is None:
        return None
    found = as_number(value)
    if found is None:
        raise InputError("a projection's columns are finite numbers", got=value)
    return found
