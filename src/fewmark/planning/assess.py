"""Strategies side by side on recorded data: what each costs, how accurate it is, and who is on the frontier.

Each deployment of the table in turn is the one that nobody has measured yet. With relatives, all other deployments'
cells are known: a model is fitted once a fold, on the other folds, and then takes in the rest of its own fold, so that
neither what it learned nor what it knows ever saw the one (a model that cannot take in more goes without its fold).
Without relatives nothing is known.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, TypedDict, runtime_checkable

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.evaluation.meta_metrics import Charges
from fewmark.models.base import Model
from fewmark.planning.belief import Belief
from fewmark.planning.planner import COST, Planner
from fewmark.planning.replay import Replay, replay, run_seconds
from fewmark.planning.space import Space
from fewmark.planning.strategies import Strategy, make_strategy
from fewmark.planning.surrogate import believe, fit, prior_belief
from fewmark.tables.arrays import FloatArray
from fewmark.tables.identity import deployment_codes

N_FOLDS: Final = 5
BUDGETS: Final = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0)
ORACLE_ERRORS: Final = (0.034, 0.02)
MIN_CELLS: Final = 8
MIN_LENGTHS: Final = 1
MIN_LOADS: Final = 1


class FrontierPoint(TypedDict):
    """The errors after a share of the reference's time, fractions; `n` deployments had an answer by then."""

    share_of_time: float
    n: int
    median_ape: float | None
    mean_ape: float | None


class ParetoPoint(TypedDict):
    """A contender's error after a share of the reference's time, fractions."""

    strategy: str
    share_of_time: float
    median_ape: float


@runtime_checkable
class GrowingModel(Protocol):
    """A model that takes in further cells without learning anew (optional; `auto` does)."""

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements."""


@dataclass(frozen=True)
class Subject:
    """One recorded deployment as if it were new: its cells and what is believed of them before any is seen."""

    label: str
    space: Space
    truth: FloatArray
    latency_s: FloatArray
    ttft_s: FloatArray
    belief: Belief


@dataclass(frozen=True)
class Contender:
    """A strategy in the contest, perhaps with an error at which it is to stop by its own estimate."""

    strategy: str
    target_error: float | None = None
    mean_error: bool = False

    @property
    def name(self) -> str:
        """The strategy's name and, where there is one, the accuracy to reach."""
        if self.target_error is None:
            return self.strategy
        return f"{self.strategy} to {100 * (1 - self.target_error):g}%{' mean' if self.mean_error else ''}"


@dataclass(repr=False)
class Assessment:
    """What `assess` finds; `to_dict` is its JSON."""

    target: str
    relatives: bool
    subjects: Sequence[Subject]
    replays: dict[str, list[Replay]] = field(default_factory=dict)
    contenders: dict[str, Contender] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what was done to the measurements

    def __repr__(self) -> str:
        lines = [f"Assessment({self.target}): {len(self.subjects)} deployments; medians against the reference"]
        for name in self.replays:
            gain, kept = self._speed_up(name), self._relative_accuracy(name)
            speed_up = "unknown" if gain is None else f"{gain:.1f}x"
            accuracy = "unknown" if kept is None else f"{kept:.1%}"
            lines.append(f"  {name}: {speed_up} faster, {self._n_cells(name):.0f} cells, relative accuracy {accuracy}")
        return "\n".join(lines)

    def summary(self, name: str) -> dict[str, object]:
        """Medians over deployments for one contender.

        `right` is the share of deployments that kept what they were to reach. `oracle_speed_up_A` is the gain had the
        contender been stopped as soon as its true accuracy was A% and stayed so: comparable between strategies, but
        no strategy can know it. A contender that never gets there counts as 1.
        """
        contender, runs = self.contenders[name], self.replays[name]
        errors = [run.account.accuracy[self.target]["all"] for run in runs]
        savings = [s for run in runs if (s := run.account.resource_saving) is not None]
        out: dict[str, object] = {
            "speed_up": self._speed_up(name),
            "resource_saving": float(np.median(savings)) if savings else None,
            "relative_accuracy": self._relative_accuracy(name),
            "relative_accuracy_mean": _median(error.relative_accuracy_mean for error in errors),
            "p90_ape": _median(error.p90_ape for error in errors),
            "worst_ape": _median(error.worst_ape for error in errors),
            "n_cells": self._n_cells(name),
            "ended": {kind: sum(run.ended == kind for run in runs) for kind in sorted({run.ended for run in runs})},
        }
        for error in ORACLE_ERRORS:
            times = [run.time_to_s(error) for run in runs]
            gains = [run.account.reference.time_s / t if t else 1.0 for run, t in zip(runs, times, strict=True)]
            out[f"oracle_speed_up_{100 * (1 - error):g}"] = float(np.median(gains))
        if contender.target_error is not None:
            out["forecast_error"] = float(
                np.median([run.forecast.mean_ape if contender.mean_error else run.forecast.median_ape for run in runs])
            )
            actual = [error.mean_ape if contender.mean_error else error.median_ape for error in errors]
            out["target_error"] = contender.target_error
            out["right"] = float(np.mean([a is not None and a <= contender.target_error for a in actual]))
        return out

    def end(self, name: str) -> tuple[float, float] | None:
        """The share of the reference's time at which a contender ended, and its error then; None where unknown."""
        speed_up, relative_accuracy = self._speed_up(name), self._relative_accuracy(name)
        return (1 / speed_up, 1 - relative_accuracy) if speed_up and relative_accuracy is not None else None

    def _speed_up(self, name: str) -> float | None:
        return _finite(np.median([run.account.speed_up or np.inf for run in self.replays[name]]))

    def _relative_accuracy(self, name: str) -> float | None:
        return _median(run.account.accuracy[self.target]["all"].relative_accuracy for run in self.replays[name])

    def _n_cells(self, name: str) -> float:
        return float(np.median([len(run.steps) for run in self.replays[name]]))

    def frontier(self, name: str) -> list[FrontierPoint]:
        """The errors after each share of the reference's time: medians over the deployments that had an answer by then.

        A strategy that ends earlier keeps its last error. `n` is the number of deployments with an answer.
        """
        rows: list[FrontierPoint] = []
        for share in BUDGETS:
            medians, means = [], []
            for run in self.replays[name]:
                last = [step for step in run.steps if step.spent_s <= share * run.account.reference.time_s * (1 + 1e-9)]
                if last:
                    medians.append(last[-1].median_ape)
                    means.append(last[-1].mean_ape)
            # a median over those that happened to afford a cell would flatter whoever buys cheap ones only
            enough = len(medians) > 0.5 * len(self.subjects)
            rows.append(
                {
                    "share_of_time": share,
                    "n": len(medians),
                    "median_ape": float(np.median(medians)) if enough else None,
                    "mean_ape": float(np.median(means)) if enough else None,
                }
            )
        return rows

    def pareto(self) -> list[ParetoPoint]:
        """The points that no other one beats in both time and error (medians), cheapest first.

        Points are where a contender ended, and, for those that do not stop by themselves, every row of `frontier`.
        """
        points = []
        for name, contender in self.contenders.items():
            if (end := self.end(name)) is not None:
                points.append((*end, name))
            if contender.target_error is None:
                rows = self.frontier(name)
                points += [(r["share_of_time"], r["median_ape"], name) for r in rows if r["median_ape"] is not None]
        out: list[ParetoPoint] = []
        for share, error, name in sorted(points):
            if not out or error < out[-1]["median_ape"] - 1e-9:
                out.append({"strategy": name, "share_of_time": share, "median_ape": max(error, 0.0)})
        return out

    def to_dict(self) -> dict[str, object]:
        """JSON-ready: for each contender its summary, frontier and accounts by deployment; the Pareto frontier."""
        return {
            "target": self.target,
            "relatives": self.relatives,
            "n_deployments": len(self.subjects),
            "n_cells": sum(len(subject.space) for subject in self.subjects),
            "strategies": {
                name: {
                    **self.summary(name),
                    "frontier": self.frontier(name),
                    "deployments": [
                        {"deployment": subject.label, "ended": run.ended, **run.account.to_dict()}
                        for subject, run in zip(self.subjects, runs, strict=True)
                    ],
                }
                for name, runs in self.replays.items()
            },
            "pareto": self.pareto(),
        }


def subjects(
    known: pd.DataFrame,
    target: str,
    make_model: Callable[[], Model] | None,
    *,
    relatives: bool = True,
    reference: str = "full",
    minimum: tuple[int, int, int] = (MIN_CELLS, MIN_LENGTHS, MIN_LOADS),
    at_most: int | None = None,
    random_state: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Subject]:
    """The deployments of a table of measured cells that are worth replaying, each with the belief before it is seen.

    Parameters
    ----------
    known : DataFrame of distinct measured cells (`known.measured_cells`)
    make_model : makes an unfitted model of the target; None: nothing but smoothness is assumed
    relatives : whether the other deployments are known
    reference : the strategy whose cells are the reference, played to its end without a measurement
    minimum : cells, distinct lengths and distinct loads that a deployment must have
    at_most : replay only so many, drawn by the seed; their folds are as large as with all of them

    Raises
    ------
    InputError
        If no deployment has the minimum.
    """
    code = deployment_codes(known)
    chosen = [one for one in np.unique(code) if _is_worth_replaying(known.loc[code == one], minimum)]
    if not chosen:
        raise InputError(
            "no deployment has the {} cells, {} lengths and {} loads that a replay needs".format(*minimum),
            got=f"{len(known)} cells of {len(np.unique(code))} deployments",
        )
    narrow = make_strategy(reference)
    dealt = np.random.default_rng(random_state).permutation(chosen)[:at_most]
    pooled = relatives and make_model is not None
    n_folds = max(1, round(N_FOLDS * len(dealt) / len(chosen))) if pooled else 1
    out: dict[int, Subject] = {}
    for fold in range(n_folds):
        mine = dealt[fold::n_folds]
        others = known.loc[~np.isin(code, mine)] if relatives else known.iloc[:0]
        model = fit(make_model() if make_model is not None else None, others, target)
        progress(f"fold {fold + 1} of {n_folds}: {len(others)} cells known, {len(mine)} deployments to replay")
        for one in mine:
            table = _reference_cells(known.loc[code == one].reset_index(drop=True), narrow)
            space = Space.from_table(table)
            rest = known.loc[np.isin(code, mine) & (code != one)] if relatives else known.iloc[:0]
            out[int(one)] = Subject(
                label=_label(table),
                space=space,
                truth=table[target].to_numpy(dtype=float),
                latency_s=run_seconds(table, space, target),
                ttft_s=table["ttft_s"].to_numpy(dtype=float),
                belief=believe(space, others, target, _grown(model, rest, target)),
            )
    return [out[one] for one in sorted(out)]


def assess(
    found: Sequence[Subject],
    contenders: Sequence[Contender],
    *,
    target: str,
    relatives: bool = True,
    charges: Charges | None = None,
    assurance: float = 0.85,
    random_state: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Assessment:
    """Replay every contender on every subject.

    Raises
    ------
    InputError
        If a subject's latencies are not all known: what is not known cannot be charged.
    """
    for subject in found:
        if not np.isfinite(subject.latency_s).all():
            raise InputError(
                f"{subject.label}: a replay needs the latency of every cell",
                hint="give e2e_latency_s, or a target that implies it",
            )
    out = Assessment(target, relatives, list(found))
    for contender in contenders:
        progress(contender.name)
        out.contenders[contender.name] = contender
        out.replays[contender.name] = [
            replay(
                subject.space, subject.truth, subject.latency_s, subject.belief, make_strategy(contender.strategy),
                target=target, charges=charges, ttft_s=subject.ttft_s, target_error=contender.target_error,
                mean_error=contender.mean_error, assurance=assurance, random_state=random_state,
            )
            for subject in found
        ]  # fmt: skip
    return out


def _grown(model: Model | None, rest: pd.DataFrame, target: str) -> Model | None:
    """The model with further cells taken in, where it can; the one given stays as it is."""
    if not isinstance(model, GrowingModel) or rest.empty:
        return model
    grown = copy.deepcopy(model).add(rest, rest[target].to_numpy(dtype=float))
    assert isinstance(grown, Model)
    return grown


def _reference_cells(table: pd.DataFrame, narrow: Strategy) -> pd.DataFrame:
    """The rows of a deployment's table that the reference strategy would measure."""
    space = Space.from_table(table)
    asked = Planner(space, prior_belief(space, COST), narrow, target=COST).ask(len(space))
    return table.iloc[sorted(proposal.position for proposal in asked)].reset_index(drop=True)


def _is_worth_replaying(table: pd.DataFrame, minimum: tuple[int, int, int]) -> bool:
    loads = table.reindex(columns=list(LOAD_COLUMNS)).drop_duplicates()
    lengths = table[["input_tokens", "output_tokens"]].drop_duplicates()
    return all(len(rows) >= least for rows, least in zip((table, lengths, loads), minimum, strict=True))


def _label(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    parts = [row.get(name) for name in ("model", "engine", "accelerator", "accelerator_count", "precision")]
    return " · ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts if pd.notna(part))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _finite(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
