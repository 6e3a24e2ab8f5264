"""Claims and verdicts: what a paper says, what was found, and whether that confirms it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CONFIRMED: Final = "confirmed"
NOT_CONFIRMED: Final = "not confirmed"
CANNOT_BE_TOLD: Final = "cannot be told"
_Unit = TypeVar("_Unit")
_SURE: Final = 0.95
_RESAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the paper, what was found here, the verdict, and how sure it is (the share of resamples or seeds
    in which the claim holds; None where nothing was resampled)."""

    paper: str
    found: str
    verdict: str
    holds_in: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One research question: its design in words, its claims, and the data that its figure shows."""

    name: str
    title: str
    design: str
    claims: tuple[Claim, ...]
    data: Mapping[str, Any]


def judge(paper: str, found: str, holds_in: float) -> Claim:
    """The verdict on a claim that holds in a share of the resamples: confirmed from 95%, not confirmed below 5%."""
    sure = CONFIRMED if holds_in >= _SURE else NOT_CONFIRMED if holds_in <= 1 - _SURE else CANNOT_BE_TOLD
    return Claim(paper=paper, found=found, verdict=sure, holds_in=holds_in)


def resample(
    units: list[_Unit], holds: Callable[[list[_Unit]], bool], rng: np.random.Generator, n: int = _RESAMPLES
) -> float:
    """The share of bootstrap resamples of the units (deployments) in which a claim holds."""
    draws = rng.integers(len(units), size=(n, len(units)))
    return float(np.mean([holds([units[k] for k in draw]) for draw in draws]))
