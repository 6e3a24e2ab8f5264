"""Meta-metrics: what a benchmark costs and how accurate it is, against a reference (a larger body of measurements).

Notation: n cells; L_i latency of one run of cell i in seconds; T_i its one-token run (time to first token); w warm-up
runs and r repeats a cell; d deployments, each loaded once, S seconds a load; a_i accelerators of cell i's deployment.

    time of a plan      d S + Σ (w + r) L_i + Σ' (w + r) T_i     (Σ': distinct but for output length; if asked)
    accelerator-hours   the same sum, each term times its a_i, / 3600
    speed-up            time of the reference / time of the plan
    resource saving     1 - accelerator-hours of the plan / those of the reference
    relative accuracy   1 - the median (or mean) of |estimate - reference| / reference over the reference's cells

Source: the meta-metrics are FMwork's idea (arXiv 2508.10251), of which only the abstract is public; the formulas are
fewmark's own. Unknown is None: a plan whose accelerators are not known has no accelerator-hours, not zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import WORKLOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.core.json_types import Json
from fewmark.tables.arrays import AnyArray, FloatArray
from fewmark.tables.columns import accelerator_counts
from fewmark.tables.identity import cell_codes, deployment_codes

KINDS: Final = ("measured", "projected", "predicted")
_SECONDS_AN_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Charges:
    """How running is charged: seconds a load, runs a cell, whether TTFT needs runs of its own with one output token."""

    load_s: float = 10.0
    warmup: int = 1
    repeats: int = 3
    one_token_runs: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.load_s) and self.load_s >= 0):
            raise InputError("seconds a load must be a finite number, at least 0", got=self.load_s)
        if self.warmup < 0 or self.repeats < 1:
            raise InputError(
                "a cell needs at least one repeat and no negative warm-up",
                got={"warmup": self.warmup, "repeats": self.repeats},
            )

    @property
    def runs(self) -> int:
        """Runs a cell."""
        return self.warmup + self.repeats


@dataclass(frozen=True, slots=True)
class PlanCost:
    """What a plan costs, by part, in seconds; accelerator-hours, money and joules where they are known."""

    n_cells: int
    n_loads: int
    loading_s: float
    warmup_s: float
    repeats_s: float
    one_token_s: float
    accelerator_hours: float | None = None
    money: float | None = None
    energy_j: float | None = None

    @property
    def time_s(self) -> float:
        """All parts together."""
        return self.loading_s + self.warmup_s + self.repeats_s + self.one_token_s

    def to_dict(self) -> dict[str, Json]:
        """The parts and their sum, JSON-ready."""
        return {**asdict(self), "time_s": self.time_s}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors of n estimates against the reference, as fractions; None where there is nothing to compare."""

    n: int
    median_ape: float | None = None
    mean_ape: float | None = None
    p90_ape: float | None = None
    worst_ape: float | None = None

    @property
    def relative_accuracy(self) -> float | None:
        """1 - median APE."""
        return None if self.median_ape is None else 1.0 - self.median_ape

    @property
    def relative_accuracy_mean(self) -> float | None:
        """1 - mean APE."""
        return None if self.mean_ape is None else 1.0 - self.mean_ape

    def to_dict(self) -> dict[str, Json]:
        """Errors and accuracies, JSON-ready."""
        return {
            **asdict(self),
            "relative_accuracy": self.relative_accuracy,
            "relative_accuracy_mean": self.relative_accuracy_mean,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the reference's space has a value, as shares of its cells.

    `answered`: any value; `measured`, `projected`, `predicted`: by where it comes from; `inside`: cells that lie
    between measured ones of their deployment on every axis (lengths and load), so that no answer is extrapolated.
    """

    answered: float
    measured: float
    projected: float
    predicted: float
    inside: float


@dataclass(frozen=True, slots=True)
class Account:
    """A plan against a reference: both costs, gain, accuracy by metric and kind (`all` and `KINDS`), coverage.

    `forecast` tells an account of a plan that has not run from one of a plan that has.
    """

    plan: PlanCost
    reference: PlanCost
    accuracy: Mapping[str, Mapping[str, Accuracy]] = field(default_factory=dict)
    coverage: Coverage | None = None
    forecast: bool = False

    @property
    def speed_up(self) -> float | None:
        """Time of the reference over time of the plan; None if the plan takes none."""
        return _ratio(self.reference.time_s, self.plan.time_s)

    @property
    def resource_saving(self) -> float | None:
        """Share of the reference's accelerator-hours that is saved; negative if the plan needs more."""
        return _saving(self.plan.accelerator_hours, self.reference.accelerator_hours)

    @property
    def money_saving(self) -> float | None:
        """Share of the reference's money that is saved."""
        return _saving(self.plan.money, self.reference.money)

    @property
    def energy_saving(self) -> float | None:
        """Share of the reference's energy that is saved."""
        return _saving(self.plan.energy_j, self.reference.energy_j)

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return {
            "forecast": self.forecast,
            "plan": self.plan.to_dict(),
            "reference": self.reference.to_dict(),
            "speed_up": self.speed_up,
            "resource_saving": self.resource_saving,
            "money_saving": self.money_saving,
            "energy_saving": self.energy_saving,
            "accuracy": {
                metric: {kind: value.to_dict() for kind, value in kinds.items()}
                for metric, kinds in self.accuracy.items()
            },
            "coverage": None if self.coverage is None else asdict(self.coverage),
        }


def price_plan(
    cells: pd.DataFrame,
    latency_s: FloatArray,
    charges: Charges,
    *,
    ttft_s: FloatArray | None = None,
    price_per_accelerator_hour: FloatArray | None = None,
    power_w: FloatArray | None = None,
) -> PlanCost:
    """What it costs to measure cells.

    Parameters
    ----------
    cells : DataFrame (n,), one row a cell with the canonical case columns
    latency_s : array (n,), seconds of one run, of the output length that is really generated
    charges : how running is charged
    ttft_s : array (n,), seconds of a one-token run; needed if `charges.one_token_runs`
    price_per_accelerator_hour : array (n,), money; NaN unknown
    power_w : array (n,), watts of all the deployment's accelerators together; NaN unknown. Loading is charged at the
        deployment's mean power

    Raises
    ------
    InputError
        If a latency is missing or not positive: what is not known cannot be priced.
    """
    latency = _checked("a latency", latency_s, len(cells))
    deployment = deployment_codes(cells)
    first = np.unique(deployment, return_index=True)[1]
    one_token = np.zeros(len(cells))
    if charges.one_token_runs:
        if ttft_s is None:
            raise InputError("one-token runs are charged by the time to first token", hint="give ttft_s")
        runs = cells.drop(columns="output_tokens", errors="ignore")
        apart = np.unique(cell_codes(runs), return_index=True)[1]
        one_token[apart] = charges.runs * _checked("a time to first token", ttft_s, len(cells))[apart]
    loading = np.zeros(len(cells))
    loading[first] = charges.load_s
    seconds = loading + charges.runs * latency + one_token
    hours = seconds * accelerator_counts(cells) / _SECONDS_AN_HOUR
    money = hours * price_per_accelerator_hour if price_per_accelerator_hour is not None else None
    energy = None
    if power_w is not None:
        mean_power = pd.Series(np.asarray(power_w, dtype=float)).groupby(deployment).transform("mean").to_numpy()
        energy = (seconds - loading) * power_w + loading * mean_power
    return PlanCost(
        n_cells=len(cells),
        n_loads=len(first),
        loading_s=float(loading.sum()),
        warmup_s=float(charges.warmup * latency.sum()),
        repeats_s=float(charges.repeats * latency.sum()),
        one_token_s=float(one_token.sum()),
        accelerator_hours=_known_sum(hours),
        money=_known_sum(money),
        energy_j=_known_sum(energy),
    )


def accuracy(reference: FloatArray, estimate: FloatArray, kind: AnyArray) -> dict[str, Accuracy]:
    """Errors over all cells and by kind (`KINDS`); arrays (n,); cells without an estimate or a reference are left out.

    Raises
    ------
    InputError
        If a reference value is not positive, or a kind is unknown.
    """
    reference, estimate = np.asarray(reference, dtype=float), np.asarray(estimate, dtype=float)
    unknown = sorted(set(map(str, kind)) - {*KINDS, ""})
    if unknown:
        raise InputError("unknown kind of value", got=unknown, hint=f"one of {', '.join(KINDS)}")
    if (reference[np.isfinite(reference)] <= 0).any():
        raise InputError("a reference value must be positive", got=float(np.nanmin(reference)))
    ape = np.abs(estimate - reference) / reference
    ok = np.isfinite(ape)
    out = {"all": _accuracy(ape[ok])}
    for name in KINDS:
        out[name] = _accuracy(ape[ok & (np.asarray(kind) == name)])
    return out


def coverage(cells: pd.DataFrame, kind: AnyArray) -> Coverage:
    """How much of a space has a value; `kind` (n,) is one of `KINDS`, or empty for cells without."""
    kind = np.asarray(kind, dtype=str)
    shares = {name: float(np.mean(kind == name)) if len(kind) else 0.0 for name in KINDS}
    seen = kind == "measured"
    inside = np.zeros(len(cells), dtype=bool)
    axes = cells.reindex(columns=list(WORKLOAD_COLUMNS)).to_numpy(dtype=float)
    deployment = deployment_codes(cells)
    for code in np.unique(deployment[seen]):
        mine = deployment == code
        low, high = np.fmin.reduce(axes[mine & seen]), np.fmax.reduce(axes[mine & seen])
        within = (axes >= low) & (axes <= high) | np.isnan(axes)
        inside |= mine & within.all(axis=1)
    return Coverage(answered=sum(shares.values()), inside=float(inside.mean()) if len(cells) else 0.0, **shares)


def _checked(what: str, values: FloatArray, n: int) -> FloatArray:
    out = np.asarray(values, dtype=float)
    if out.shape != (n,) or not np.isfinite(out).all() or (out <= 0).any():
        raise InputError(f"{what} of each cell must be known and positive to price a plan", got=out[:5].tolist())
    return out


def _accuracy(ape: FloatArray) -> Accuracy:
    if not len(ape):
        return Accuracy(0)
    return Accuracy(
        n=len(ape),
        median_ape=float(np.median(ape)),
        mean_ape=float(ape.mean()),
        p90_ape=float(np.quantile(ape, 0.9)),
        worst_ape=float(ape.max()),
    )


def _known_sum(values: FloatArray | None) -> float | None:
    if values is None or not np.isfinite(values).all():
        return None
    return float(values.sum())


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _saving(plan: float | None, reference: float | None) -> float | None:
    return None if plan is None or not reference else 1.0 - plan / reference
