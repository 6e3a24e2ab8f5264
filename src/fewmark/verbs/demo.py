"""The demo: measure few cells of a grid on a real engine, predict the rest, then check the claim on unseen cells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Card, Case, FewmarkError, InputError, Measurement, Prediction
from fewmark.core.files import write_file
from fewmark.core.json_types import Json
from fewmark.engines.measuring.policy import Policy
from fewmark.interop import from_measurements
from fewmark.models.registry import make_model
from fewmark.reporting import render_html
from fewmark.runner import Runner, RunReport, RunSettings
from fewmark.store import Store, open_store
from fewmark.suites import load_suite
from fewmark.tables.identity import cell_columns
from fewmark.verbs.cards.overview import cost_card, environment_card
from fewmark.verbs.cards.prediction import accuracy_card, curves_card
from fewmark.verbs.report import report_title

TARGET: Final = "throughput_tok_s"
MAX_REPEATS: Final = 5  # of a cell: the demo is short
N_SENTINELS: Final = 3
TELLING_DRIFT: Final = 0.05
TOLERANCE: Final = 0.02  # how rarely a calibrated interval may be accused wrongly


DRIFT_HINT: Final = "Stop what else runs on it, delete the demo's folder, and run the demo again."


@dataclass(frozen=True)
class DemoResult:
    """What the demo did and found. Shares and errors are fractions, times seconds.

    `enough_inside` is the count below which intervals of this level would fall in one of fifty honest tries;
    `full_grid_s` is what measuring every cell of the grid in the same way would take, by the predictions. `drift` is
    by how much longer some of the first cells took when they were measured again at the end: the machine, not the
    model.
    """

    n_grid: int
    n_measured: int
    n_checked: int
    n_inside: int
    enough_inside: int
    confidence_level: float
    median_ape: float
    forecast_median_ape: float
    measured_s: float
    checked_s: float
    full_grid_s: float
    drift: float
    model: str
    report: str
    advice: tuple[Advice, ...]

    @property
    def claim_holds(self) -> bool:
        """Whether as many of the unseen cells fell inside their intervals as the intervals promise."""
        return self.n_inside >= self.enough_inside

    def to_dict(self) -> dict[str, Json]:
        """The result as JSON values."""
        return {**asdict(self), "claim_holds": self.claim_holds, "speed_up": self.full_grid_s / self.measured_s}


def demo(
    directory: str | Path = "fewmark-demo",
    *,
    suite: str = "demo",
    n_measure: int = 15,
    n_check: int = 15,
    model: str = "auto",
    confidence_level: float = 0.9,
    random_state: int = 0,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> DemoResult:
    """Measure `n_measure` cells of a suite's grid, predict the others, measure `n_check` unseen ones, and compare.

    Parameters
    ----------
    directory : path
        Gets the store (``measurements.db``), the report (``report.html``) and the result (``demo.json``). What an
        earlier demo measured there is used again.
    suite : str, default "demo"
        The grid: a suite's name or file.
    n_measure, n_check : int, default 15
        How many cells are measured, and how many unseen ones are checked.
    model : str, default "mechanistic"
        A name of `fewmark.models.registry`.
    confidence_level : float, default 0.9
        Of the intervals, a fraction.
    random_state : int, default 0
        Seed of prompts, order and the cells to check.
    quiet : bool, default False
        Whether no progress is shown.
    tell : callable, optional
        Gets each sentence of the story.

    Returns
    -------
    DemoResult
        What was measured, what was claimed, and whether the claim held.

    Raises
    ------
    FewmarkError
        If the suite, the model or the engine cannot be used, or too few cells could be measured.

    Examples
    --------
    >>> import fewmark
    >>> result = fewmark.demo("fewmark-demo")  # doctest: +SKIP
    >>> result.claim_holds  # doctest: +SKIP
    True
    """
    cases = load_suite(suite).cases
    if n_measure + n_check > len(cases) or min(n_measure, n_check) < 1:
        raise InputError("the grid must hold the cells to measure and those to check", got=len(cases))
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    grid = from_measurements(Measurement(case) for case in cases)
    predictor = make_model(model, target=TARGET, prior=True, random_state=random_state)
    chosen = sorted(int(position) for position in predictor.design(grid, n_measure))
    unseen = sorted(set(range(len(cases))) - set(chosen))
    checked = sorted(np.random.default_rng(random_state).choice(unseen, n_check, replace=False).tolist())

    with open_store(f"sqlite:///{folder / 'measurements.db'}") as store:
        tell(f"{len(cases)} cells of {cases[0].deployment.label}. Measuring {n_measure} that the model chose …")
        measured = _measure(store, [cases[i] for i in chosen], random_state=random_state, quiet=quiet)
        known = from_measurements(measured)
        predictor.fit(known, known[TARGET].to_numpy(float))
        predicted = grid.assign(**predictor.answer(grid, confidence_level).columns())
        store.add_predictions(
            _as_predictions([cases[i] for i in checked], predicted.iloc[checked], model, confidence_level)
        )
        forecast = predictor.forecast_error(grid.iloc[checked])
        tell(f"Predicted the other {len(unseen)} with {confidence_level:.0%} intervals. Measuring {n_check} unseen …")
        truth = _measure(store, [cases[i] for i in checked], random_state=random_state, quiet=quiet)
        drift = _drift(store, measured, random_state=random_state)
    compared = _compare(from_measurements(truth), predicted.iloc[checked])
    value, found = compared["value"].to_numpy(float), compared[TARGET].to_numpy(float)
    from scipy.stats import binom

    inside = (compared["low"].to_numpy(float) <= found) & (found <= compared["high"].to_numpy(float))
    result = DemoResult(
        n_grid=len(cases),
        n_measured=len(measured),
        n_checked=len(found),
        n_inside=int(inside.sum()),
        enough_inside=int(binom.ppf(TOLERANCE, len(found), confidence_level)),
        confidence_level=confidence_level,
        median_ape=float(np.median(np.abs(value - found) / found)),
        forecast_median_ape=float(forecast),
        measured_s=_spent(measured),
        checked_s=_spent(truth),
        full_grid_s=_full_grid(measured, predicted),
        drift=drift,
        model=model,
        report=str(folder / "report.html"),
        advice=_advice(measured, truth),
    )
    cards = [
        _claim_card(result),
        curves_card(known, predicted, TARGET, model=model, confidence_level=confidence_level),
        accuracy_card(
            compared,
            TARGET,
            how="Each of these cells was predicted before it was measured.",
            confidence_level=confidence_level,
        ),
        cost_card([*measured, *truth]),
        environment_card([*measured, *truth]),
    ]
    write_file(result.report, render_html(cards, report_title(suite, measured)))
    write_file(folder / "demo.json", json.dumps(result.to_dict(), indent=2) + "\n")
    return result


def _measure(store: Store, cases: Sequence[Case], *, random_state: int, quiet: bool) -> list[Measurement]:
    """The ok measurements of the cases, old and new; at least half of them, and never fewer than three."""
    runner = Runner(store, RunSettings(policy=Policy(max_repeats=MAX_REPEATS), seed=random_state), quiet=quiet)
    report: RunReport = runner.run(cases)
    wanted = {case.case_id: position for position, case in enumerate(cases)}
    found: dict[str, Measurement] = {}
    for measurement in store.measurements(case_ids=list(wanted), statuses=["ok"]):
        found.setdefault(measurement.case.case_id, measurement)  # a later one is a sentinel's
    if len(found) < max(3, len(cases) // 2):
        why = report.failures[0].error if report.failures else None
        raise FewmarkError(f"only {len(found)} of {len(cases)} cells could be measured", got=why)
    return [found[case_id] for case_id in wanted if case_id in found]


def _drift(store: Store, measured: Sequence[Measurement], *, random_state: int) -> float:
    """By how much longer, as a fraction, the last of the first cells take when they are measured again now."""
    sentinels = {m.case.case_id: m for m in measured[-N_SENTINELS:]}
    with open_store("sqlite:///:memory:") as apart:
        settings = RunSettings(policy=Policy(max_repeats=MAX_REPEATS), seed=random_state + 1)
        again = Runner(apart, settings, quiet=True).run([m.case for m in sentinels.values()]).measurements
    store.add(again)
    ratios = [
        (now.median("e2e_latency_s") or np.nan) / (sentinels[now.case.case_id].median("e2e_latency_s") or np.nan)
        for now in again
    ]
    return float(np.nanmedian(ratios)) - 1 if np.isfinite(ratios).any() else 0.0


def _as_predictions(cases: Sequence[Case], rows: pd.DataFrame, model: str, confidence_level: float) -> list[Prediction]:
    ends = rows[["value", "low", "high"]].to_numpy(float)
    return [
        Prediction(case, TARGET, end[0], end[1], end[2], confidence_level, str(provenance), model=model)
        for case, end, provenance in zip(cases, ends, rows["provenance"], strict=True)
        if np.isfinite(end).all()
    ]


def _compare(truth: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    keys = ["input_tokens", "output_tokens", "batch_size"]
    told = predicted[[*keys, "value", "low", "high", "provenance"]]
    return truth[[*cell_columns(truth), TARGET]].merge(told, on=keys, validate="one_to_one")


def _spent(measurements: Sequence[Measurement]) -> float:
    """Seconds that the measurements cost, the engine's start included."""
    return sum((m.cost.wall_s or 0.0) + (m.cost.startup_s or 0.0) for m in measurements)


def _full_grid(measured: Sequence[Measurement], predicted: pd.DataFrame) -> float:
    """Seconds for the whole grid: each cell's predicted latency, times how many times its latency a cell cost."""
    start = sum(m.cost.startup_s or 0.0 for m in measured)
    per_latency = sum(m.cost.wall_s or 0.0 for m in measured) / sum(m.median("e2e_latency_s") or 0.0 for m in measured)
    latency = predicted["batch_size"] * predicted["output_tokens"] / predicted["value"]
    return float(start + per_latency * latency.sum())


def _advice(*groups: Sequence[Measurement]) -> tuple[Advice, ...]:
    every = [m for group in groups for m in group]
    counts = Counter(flag for m in every for flag in set(m.flags))
    if not counts:
        return ()
    told = ", ".join(f"{n} {flag}" for flag, n in counts.most_common())
    marked = sum(bool(m.flags) for m in every)
    hint = "Medians hold; fewmark doctor says what disturbs this machine, and fewmark show CASE lists the repeats."
    return (Advice("marks", f"{marked} of {len(every)} measurements carry a mark: {told}.", hint),)


def drift_text(result: DemoResult) -> str:
    """What to say of a machine that changed while the demo ran; empty where it did not."""
    if abs(result.drift) < TELLING_DRIFT:
        return ""
    how = "longer" if result.drift > 0 else "shorter"
    return (
        f"The machine changed meanwhile: {N_SENTINELS} of the first cells, measured again at the end, took "
        f"{abs(result.drift):.0%} {how}."
    )


def _claim_card(result: DemoResult) -> Card:
    verdict = (
        "The claim holds."
        if result.claim_holds
        else "The claim fails here: the intervals promised more than they kept. The environment may tell why."
    )
    return Card(
        "claim",
        "The claim, checked",
        f"{result.n_measured} of {result.n_grid} cells were measured and the rest predicted with "
        f"{result.confidence_level:.0%} intervals. Then {result.n_checked} unseen cells were measured: "
        f"{result.n_inside} fell inside. {verdict}",
        figures=(
            ("unseen cells inside their interval", f"{result.n_inside} of {result.n_checked}"),
            ("median error, forecast", f"{result.forecast_median_ape:.1%}"),
            ("median error, found", f"{result.median_ape:.1%}"),
            ("time to know the grid", f"{result.measured_s:.0f} s"),
            ("time to measure the grid", f"{result.full_grid_s:.0f} s"),
        ),
        advice=(*result.advice, *((Advice("drift", text, DRIFT_HINT),) if (text := drift_text(result)) else ())),
    )
