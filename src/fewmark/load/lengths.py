"""Distributions of token counts: what a request's prompt and answer are drawn from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fewmark.core.errors import InputError

MAX_TOKENS: Final = 100_000_000
_MAX_DRAWS: Final = 1000


class Lengths(Protocol):
    """A distribution of whole numbers of at least 1."""

    def draw(self, rng: random.Random) -> int:
        """One length."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLength:
    """Always the same."""

    tokens: int

    def __post_init__(self) -> None:
        _check_range(self.tokens, self.tokens)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class UniformLength:
    """Each whole number from `low` to `high`, both included, equally often."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return rng.randint(self.low, self.high)


@dataclass(frozen=True, slots=True)
class NormalLength:
    """Normal with this mean and standard deviation, drawn again while outside `low` to `high`, rounded."""

    mean: float
    sd: float
    low: int = 1
    high: int = MAX_TOKENS

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        _check_moments(self.mean, self.sd, self.low, self.high)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return _within(lambda: rng.gauss(self.mean, self.sd), self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogNormalLength:
    """Log-normal with this mean and standard deviation, drawn again while outside `low` to `high`, rounded.

    Prompts and answers of users are skewed to the right; this is the usual two-parameter stand-in.
    """

    mean: float
    sd: float
    low: int = 1
    high: int = MAX_TOKENS

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        _check_moments(self.mean, self.sd, self.low, self.high)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        variance = math.log1p((self.sd / self.mean) ** 2)
        mu = math.log(self.mean) - variance / 2
        return _within(lambda: rng.lognormvariate(mu, math.sqrt(variance)), self.low, self.high)


def parse_lengths(text: str | int) -> Lengths:
    """From ``128``, ``64-256`` (uniform), ``normal:mean=128,sd=20`` or ``lognormal:mean=128,sd=90,low=4,high=2048``.

    Raises `InputError` if the text is none of these.
    """
    spec = str(text).strip().lower()
    kind, colon, rest = spec.partition(":")
    try:
        if not colon:
            low, dash, high = spec.partition("-")
            return UniformLength(int(low), int(high)) if dash else FixedLength(int(low))
        values = {name.strip(): float(value) for name, _, value in (part.partition("=") for part in rest.split(","))}
        bounds = {name: int(values.pop(name)) for name in ("low", "high") if name in values}
        mean, sd = values.pop("mean"), values.pop("sd")
        if not values and kind == "normal":
            return NormalLength(mean, sd, **bounds)
        if not values and kind == "lognormal":
            return LogNormalLength(mean, sd, **bounds)
    except (ValueError, KeyError, OverflowError):
        pass
    raise InputError(
        "lengths are 128, 64-256, normal:mean=…,sd=… or lognormal:mean=…,sd=…[,low=…][,high=…]", got=str(text)
    )


def _within(draw: Callable[[], float], low: int, high: int) -> int:
    value = low
    for _ in range(_MAX_DRAWS):
        value = round(draw())
        if low <= value <= high:
            return value
    return min(max(value, low), high)


def _check_range(low: int, high: int) -> None:
    if not 1 <= low <= high <= MAX_TOKENS:
        raise InputError(f"lengths are whole numbers from 1 to {MAX_TOKENS}, the least first", got=f"{low} to {high}")


def _check_moments(mean: float, sd: float, low: int, high: int) -> None:
    if not (math.isfinite(mean) and math.isfinite(sd) and sd >= 0 and low <= mean <= high):
        raise InputError("a mean length lies between low and high, and sd is at least 0", got=f"mean {mean}, sd {sd}")
