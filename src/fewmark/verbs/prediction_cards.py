"""The cards of a model: its curves, a tab for each metric that is known well enough, and how far to trust them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Card, InputError, ModelError
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.models.base import Model
from fewmark.models.cache import FittedModels
from fewmark.models.registry import make_model
from fewmark.tables.identity import cell_columns, deployment_columns
from fewmark.tables.precision import INTERVAL
from fewmark.tables.repeats import measured_cells
from fewmark.verbs.cards.prediction import accuracy_card, curves_card, has_load_curves
from fewmark.verbs.learning import fitted_model
from fewmark.verbs.report_source import ReportSource, forecasts_table

N_FOLDS: Final = 5
TABS: Final = ("throughput_tok_s", "ttft_s", "tpot_s", "e2e_latency_s")


def prediction_cards(
    cells: pd.DataFrame,
    sound: pd.DataFrame,
    source: ReportSource,
    model: str,
    confidence_level: float,
    random_state: int,
    *,
    prior: bool,
    models: FittedModels,
) -> list[Card]:
    """The curves, and the accuracy: of forecasts on record, else of cells that are hidden. Raises `ModelError`."""
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
    stored = forecasts_table(source)
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


def _loads(values: pd.Series) -> list[float]:
    low, high = float(values.min()), float(values.max())
    powers = {2.0**exponent for exponent in range(-20, 41) if low < 2.0**exponent < high}
    return sorted({float(value) for value in values} | powers)
