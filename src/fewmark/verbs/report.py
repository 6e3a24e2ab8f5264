"""`fewmark report`: what was measured, what a model makes of it, and how far that can be trusted, in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from fewmark import datasets
from fewmark.core import Advice, Card, InputError, Measurement, ModelError, Status
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.files import write_file
from fewmark.core.fractions import require_fraction
from fewmark.core.metrics import ALL_TARGETS
from fewmark.interop import from_measurements, is_complete, to_measurements
from fewmark.models.base import Model
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.gp.threads import single_threaded
from fewmark.models.registry import make_model
from fewmark.reporting import RENDERERS, figures
from fewmark.runner.advice import result_advice
from fewmark.screening import Finding, apply, screen
from fewmark.store import Outcome, open_store
from fewmark.tables.identity import cell_columns, deployment_columns
from fewmark.tables.precision import INTERVAL
from fewmark.tables.repeats import measured_cells, reduce_cells, with_doubt
from fewmark.tables.spellings import NOTES, one_spelling
from fewmark.verbs.cards.decision import decision_card, forecasts_chart
from fewmark.verbs.cards.engines import engines_card
from fewmark.verbs.cards.overview import cost_card, environment_card, faults_card, summary_card
from fewmark.verbs.cards.prediction import accuracy_card, curves_card, has_load_curves
from fewmark.verbs.learning import fitted_model
from fewmark.verbs.ledger import Ledger, read_ledger
from fewmark.verbs.recommend import recommend
from fewmark.verbs.results import read_results
from fewmark.verbs.source import AS_READ, Tabular, in_memory, screen_notes

DEFAULT_MODEL: Final = "auto"
MAX_GOT: Final = 200  # characters of a wrong request that are repeated
QUICK_MODEL: Final = "mechanistic"
MAX_DEFAULT_CELLS: Final = 500
"""The most cells of which a report fits `auto` six times, once for its curves and five times for its check."""
N_FOLDS: Final = 5
TABS: Final = ("throughput_tok_s", "ttft_s", "tpot_s", "e2e_latency_s")


@dataclass(frozen=True)
class _Source:
    """What a report is about."""

    name: str
    frame: pd.DataFrame
    measurements: tuple[Measurement, ...]
    target: str
    outcomes: tuple[Outcome, ...] = ()
    ledger: Ledger | None = None


@single_threaded
def report(
    out: str | Path,
    *,
    store: str | None = None,
    data: Tabular | None = None,
    model: str | None = None,
    target: str | None = None,
    slo: Sequence[str] = (),
    prices: str | Path | None = None,
    svg: str | Path | None = None,
    confidence_level: float = 0.9,
    random_state: int = 0,
    prior: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Card]:
    """Write a report on a store's measurements, or on a file's, and return its cards.

    Parameters
    ----------
    out : path
        Its suffix says the format: .html, .md, .json or .csv.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    data : table or str, optional
        Instead of a store: rows or columns in memory, a file that `import_files` reads, or a packaged dataset's name.
    model : str, optional
        The model that predicts; by default `auto`, and `mechanistic` where there are more than `MAX_DEFAULT_CELLS`
        cells: the report says so.
    target : str, optional
        The metric; by default the first of `ALL_TARGETS` of which there is the most.
    slo : sequence of str, optional
        Objectives of the recommendation, as in `recommend`: ``["ttft_s=0.5"]``.
    prices : path, optional
        Price file of the recommendation; without, accelerators are counted.
    svg : path, optional
        A folder to write every figure to as well, one SVG file each.
    confidence_level : float, default 0.9
        Of the intervals, a fraction.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table. The report says so.
    cache : bool, default True
        Whether a model fitted on the same data before is used again (`fewmark.models.cache`).
    progress : callable, optional
        Gets the name of each stage.

    Returns
    -------
    list of Card
        What the report shows.

    Raises
    ------
    InputError, FormatError, StoreError, ModelError
        If the request, a file, the store or the model's name is wrong.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> datasets.example().head(8).to_csv("measured.csv", index=False)
    >>> cards = fewmark.report("report.md", data="measured.csv", model="mechanistic", cache=False)
    >>> [card.kind for card in cards][:2]
    ['summary', 'decision']
    """
    require_fraction("the confidence level", confidence_level)
    path = check_output(Path(out))
    if svg is not None:
        figures.require(Path(svg))
    progress("reading")
    source = _read(store, data, target)
    target = source.target
    if model is not None:
        make_model(model, target=target)  # a wrong name is told before any work is done
    progress("screening")
    source = replace(source, frame=one_spelling(source.frame))
    findings = screen(source.frame)
    sound = with_doubt(apply(source.frame, findings))
    cells = reduce_cells(sound[(sound["status"] == Status.OK) & is_complete(sound)], target)
    cards = [_with_notes(summary_card(source.frame, target, source=source.name), source.frame, findings, data)]
    if warned := tuple(result_advice(source.measurements)):
        cards[0] = replace(cards[0], advice=(*cards[0].advice, *_merged(warned)))
    models = FittedModels(cache_folder() if cache else None)
    decision = None
    quick = model is None and len(cells) > MAX_DEFAULT_CELLS
    model = model or (QUICK_MODEL if quick else DEFAULT_MODEL)
    try:
        progress(f"fitting {model}")
        cards += _prediction_cards(
            cells, sound, source, model, confidence_level, random_state, prior=prior, models=models
        )
        progress("deciding")
        decision = _decision(sound, slo, prices, model, random_state, prior=prior, models=models)
    except ModelError as error:
        advice = Advice("no-model", error.what, error.hint or "Measure more cells, or choose another model.")
        cards.append(
            Card("curves", "Predictions", f"The model '{model}' cannot learn from these data.", advice=(advice,))
        )
    if quick:
        advice = Advice(
            "quick-model",
            f"The model is '{QUICK_MODEL}', not '{DEFAULT_MODEL}' as elsewhere: that one would be fitted six times to "
            f"{len(cells):,} cells, which takes minutes.",
            f"--model {DEFAULT_MODEL} does it all the same.",
        )
        cards[1] = replace(cards[1], advice=(*cards[1].advice, advice))
    if decision is not None:
        cards.insert(1, decision)
    models.keep()
    if source.ledger is not None and source.ledger.n_predictions:
        cards.append(source.ledger.card())
    if (compared := engines_card(source.measurements)) is not None:
        cards.append(compared)
    bought = forecasts_chart(_steps(source))
    cost = cost_card(source.measurements)
    cards += [replace(cost, charts=(*bought, *cost.charts)), faults_card(source.frame, findings)]
    cards.append(environment_card(source.measurements))
    progress("writing")
    write_report(path, cards, report_title(source.name, source.measurements))
    if svg is not None:
        figures.write_svgs(cards, Path(svg))
    return cards


def _with_notes(card: Card, frame: pd.DataFrame, findings: Sequence[Finding], data: Tabular | None) -> Card:
    """The card, with what was left out or corrected, and which names were taken for which."""
    named = str(data) if isinstance(data, (str, Path)) else None
    notes = [*frame.attrs.get(NOTES, []), *screen_notes(findings, len(frame), named)]
    return replace(card, advice=(*card.advice, *(Advice("data", note, "") for note in notes)))


def _merged(warned: Sequence[Advice]) -> tuple[Advice, ...]:
    """Several warnings about the same measurements as one: how many of how many, and what to do."""
    if len(warned) < 2:
        return tuple(warned)
    hints = "; ".join(dict.fromkeys(one.hint for one in warned if one.hint))
    return (Advice("marks", "; ".join(one.message for one in warned) + ".", f"What to do: {hints}."),)


def check_output(path: Path) -> Path:
    """The path, if a report can be written there. Raises `InputError` if not."""
    if path.suffix.lower() not in RENDERERS:
        raise InputError("a report's suffix says its format", got=str(path), hint=f"one of {', '.join(RENDERERS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("cannot write the report there", got=str(path), hint="name a file in a folder that exists")
    return path


def report_title(name: str, measurements: Sequence[Measurement]) -> str:
    """What a report is about, a single deployment by its label or else the source, and the day of the last run."""
    deployments = {measurement.case.deployment for measurement in measurements}
    about = next(iter(deployments)).label if len(deployments) == 1 else name
    days = sorted(str(m.measured_at)[:10] for m in measurements if m.measured_at)
    return f"{about} · {days[-1]}" if days else about


def write_report(path: Path, cards: Sequence[Card], title: str) -> None:
    """Write the cards in the format of the path's suffix; the file is complete or not there."""
    text = RENDERERS[path.suffix.lower()](cards, title)
    write_file(path, text)


def curve_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells at which curves are drawn: a deployment's lengths × its loads and the powers of two between.

    Where most lengths were measured at a single load, only the measured cells.
    """
    parts = []
    for _, part in cells.groupby(deployment_columns(cells), dropna=False, sort=False):
        if not has_load_curves(part):
            parts.append(part[cell_columns(cells)])
            continue
        lengths = part[[name for name in cell_columns(cells) if name not in LOAD_COLUMNS]]
        for name in LOAD_COLUMNS:
            here = part[part[name].notna()]
            if here.empty:
                continue
            empty = {other: np.nan for other in LOAD_COLUMNS if other != name}
            loads = pd.DataFrame({name: _loads(here[name]), **empty})
            parts.append(lengths.loc[here.index].drop_duplicates().merge(loads, how="cross"))
    return pd.concat(parts, ignore_index=True)[cell_columns(cells)]


def cross_validate(
    cells: pd.DataFrame,
    target: str,
    model: str,
    *,
    confidence_level: float = 0.9,
    random_state: int = 0,
    prior: bool = False,
    models: FittedModels | None = None,
) -> pd.DataFrame:
    """Each cell predicted by a model that learned from the others: in each deployment a fifth is hidden at a time."""
    rng = np.random.default_rng(random_state)
    fold = np.empty(len(cells), dtype=int)
    for positions in cells.groupby(deployment_columns(cells), dropna=False, sort=False).indices.values():
        fold[rng.permutation(positions)] = np.arange(len(positions)) % N_FOLDS
    columns, intervals, parts = cell_columns(cells), [name for name in INTERVAL if name in cells], []
    for number in np.unique(fold):
        known, hidden = cells[fold != number], cells[fold == number]
        if known.empty:
            raise ModelError("too few cells to hide any from the model", got=f"{len(cells)} cells")
        unfitted = make_model(model, target=target, random_state=random_state, prior=prior)
        fitted = (models or FittedModels(None)).fit(
            unfitted, known[[*columns, *intervals]].reset_index(drop=True), known[target].to_numpy(float)
        )
        asked = hidden[columns].reset_index(drop=True)
        answers = fitted.answer(asked, confidence_level).columns()
        parts.append(asked.assign(**answers, **{target: hidden[target].to_numpy(float)}))
    out: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return out


def _other_metrics(sound: pd.DataFrame, target: str) -> list[str]:
    """The metrics that have a tab beside the target's: of which at least as many cells are known as half of its."""
    own = len(measured_cells(sound, target))
    return [name for name in TABS if name != target and 2 * len(measured_cells(sound, name)) >= max(own, 2)]


def _curves(
    sound: pd.DataFrame,
    metric: str,
    model: str,
    fitted: Model,
    confidence_level: float,
    random_state: int,
    *,
    prior: bool,
    models: FittedModels,
) -> Card:
    """The curves of another metric; a model that tells of it already is not fitted again."""
    cells = measured_cells(sound, metric)
    told = fitted.for_target(metric)
    if told is None:
        told, _, _ = fitted_model(sound, model, metric, models, random_state=random_state, prior=prior)
    drawn = curve_cells(cells)
    predicted = drawn.assign(**told.answer(drawn, confidence_level).columns())
    return curves_card(cells, predicted, metric, model=model, confidence_level=confidence_level)


def _decision(
    sound: pd.DataFrame,
    slo: Sequence[str],
    prices: str | Path | None,
    model: str,
    random_state: int,
    *,
    prior: bool,
    models: FittedModels,
) -> Card | None:
    """The recommendation; None where nothing was asked for and none can be made."""
    known = sound.copy(deep=False)
    known.attrs = {AS_READ: True}
    try:
        answer = recommend(slo, prices=prices, data=known, model=model, prior=prior, random_state=random_state,
                           models=models)  # fmt: skip
    except (InputError, ModelError):
        if slo or prices is not None:
            raise
        return None
    if answer.cells.drop(columns=list(LOAD_COLUMNS), errors="ignore").drop_duplicates().shape[0] < 2 and not slo:
        return None  # a single deployment leaves nothing to choose
    return decision_card(answer)


def _steps(source: _Source) -> list[tuple[float, float, str]]:
    """Seconds spent, error in percent and what was measured, for each forecast that was checked, in order."""
    of = {outcome.measurement_id: outcome for outcome in source.outcomes}
    spent, steps = 0.0, []
    for measurement in sorted(source.measurements, key=lambda m: str(m.measured_at or "")):
        spent += (measurement.cost.wall_s or 0.0) + (measurement.cost.startup_s or 0.0)
        outcome = of.get(measurement.measurement_id)
        if outcome is not None and outcome.prediction.value is not None and spent > 0:
            error = 100 * abs(outcome.prediction.value / outcome.actual - 1)
            case = measurement.case
            steps.append((spent, error, f"{case.deployment.label}, {case.workload.load_label}"))
    return steps


def _prediction_cards(
    cells: pd.DataFrame,
    sound: pd.DataFrame,
    source: _Source,
    model: str,
    confidence_level: float,
    random_state: int,
    *,
    prior: bool,
    models: FittedModels,
) -> list[Card]:
    target = source.target
    if cells.empty:
        raise ModelError("no valid row holds enough to learn from", got=target)
    unfitted = make_model(model, target=target, random_state=random_state, prior=prior)
    intervals = [name for name in INTERVAL if name in cells]
    fitted = models.fit(unfitted, cells[[*cell_columns(cells), *intervals]], cells[target].to_numpy(float))
    drawn = curve_cells(cells)
    predicted = drawn.assign(**fitted.answer(drawn, confidence_level).columns())
    curves = curves_card(cells, predicted, target, model=model, confidence_level=confidence_level)
    for metric in _other_metrics(sound, target):
        try:
            more = _curves(sound, metric, model, fitted, confidence_level, random_state, prior=prior, models=models)
        except (InputError, ModelError):
            continue  # of this metric too little is known: its tab is not there
        curves = replace(curves, charts=(*curves.charts, *more.charts))
    if fitted.n_public_cells_:
        message = f"{fitted.n_public_cells_:,} public measurements were added to those made here, and are not shown."
        advice = Advice("public-measurements", message, "--no-prior leaves them out.")
        curves = replace(curves, advice=(*curves.advice, advice))
    cards = [curves]
    stored = _forecasts(source)
    if len(stored):
        how = "Each prediction was kept in the store before its cell was measured."
        cards.append(
            accuracy_card(stored, target, how=how, confidence_level=float(stored["confidence_level"].median()))
        )
    else:
        checked = cross_validate(
            cells,
            target,
            model,
            confidence_level=confidence_level,
            random_state=random_state,
            prior=prior,
            models=models,
        )
        how = (
            f"Each cell was predicted by '{model}' after learning from four fifths of the others, itself not included."
        )
        cards.append(accuracy_card(checked, target, how=how, confidence_level=confidence_level))
    return cards


def _forecasts(source: _Source) -> pd.DataFrame:
    """The predictions that were made before their cells were measured, one row each."""
    made = [outcome.prediction for outcome in source.outcomes]
    if not made:
        return pd.DataFrame()
    frame = from_measurements([Measurement(case=prediction.case) for prediction in made])
    numbers = {
        name: [getattr(prediction, name) for prediction in made]
        for name in ("value", "low", "high", "confidence_level")
    }
    numbers[source.target] = [outcome.actual for outcome in source.outcomes]
    return frame[cell_columns(frame)].assign(
        **{name: pd.Series(values, dtype=float) for name, values in numbers.items()},
        provenance=[prediction.provenance for prediction in made],
    )


def _read(store: str | None, data: Tabular | None, target: str | None) -> _Source:
    if data is not None:
        if store is not None:
            got = {"store": store, "data": str(data)[:MAX_GOT]}
            raise InputError("a report is about a store or about a file, not both", got=got)
        table = in_memory(data)
        packaged = isinstance(data, str) and data in datasets.names()
        if table is not None:
            frame, name = table, "the table"
        else:
            assert isinstance(data, (str, Path))
            frame = datasets.load(str(data)) if packaged else read_results(data)
            name = frame.attrs["title"] if packaged else Path(data).name
        return _Source(name, frame, tuple(to_measurements(frame[is_complete(frame)])), _target(frame, target))
    with open_store(store, create=False) as opened:
        measurements = tuple(opened.measurements())
        if not measurements:
            raise InputError(
                "the store has no measurements",
                got=opened.url,
                hint="fewmark run, fewmark import, or report --data FILE",
            )
        frame = from_measurements(measurements, opened.withdrawn())
        chosen = _target(frame, target)
        outcomes = tuple(o for o in opened.outcomes(chosen) if o.prediction.provenance != "measured" and o.actual > 0)
        name = opened.url.rsplit("/", 1)[-1]
        return _Source(f"the store {name}", frame, measurements, chosen, outcomes, read_ledger(opened, ALL_TARGETS))


def _target(frame: pd.DataFrame, target: str | None) -> str:
    counts = {name: int(frame[name].notna().sum()) if name in frame else 0 for name in ALL_TARGETS}
    if target is None:
        best = max(counts, key=lambda name: counts[name])
        if counts[best]:
            return best
        raise InputError("the table has no value of any metric", hint=f"it needs one of {', '.join(ALL_TARGETS)}")
    if target not in ALL_TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    if not counts[target]:
        there = ", ".join(name for name, count in counts.items() if count) or "none"
        raise InputError(f"the table has no value of {target}", hint=f"there are values of: {there}")
    return target


def _loads(values: pd.Series) -> list[float]:
    low, high = float(values.min()), float(values.max())
    powers = {2.0**exponent for exponent in range(-20, 41) if low < 2.0**exponent < high}
    return sorted({float(value) for value in values} | powers)
