"""Run a protocol: hide, fit, predict, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from fewmark.core.errors import InputError, ModelError
from fewmark.evaluation.protocols import Turn, eligible_deployments, turns
from fewmark.evaluation.scores import Scores, scores
from fewmark.models.base import Model, learned_columns
from fewmark.models.design import anchors
from fewmark.models.registry import make_model
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.cells import Cells, read_cells
from fewmark.tables.identity import cell_columns
from fewmark.tables.repeats import target_cells

CONFIDENCE_LEVEL = 0.9
MakeModel = Callable[..., Model]


class ModelScores(Scores):
    """The scores of one model under a protocol, and the seconds that its fits and its predictions took."""

    fit_s: float
    predict_s: float


class Summary(TypedDict):
    """The JSON of ``fewmark evaluate``; `notes` say what was done to the table before."""

    protocol: str
    target: str
    seed: int
    n_deployments: int
    n_cells: int
    models: dict[str, ModelScores]
    notes: NotRequired[list[str]]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a protocol.

    Attributes
    ----------
    summary : Summary
        The JSON of ``fewmark evaluate``.
    details : DataFrame
        One row for each model and hidden cell: the cell's columns, ``predictor``, ``fold``, ``measured``, ``value``,
        ``low``, ``high``, ``provenance``, ``forecast`` (of its deployment's median APE) and ``abstained`` (why, if so).
    """

    summary: Summary
    details: pd.DataFrame


def evaluate(
    table: pd.DataFrame,
    protocol: str,
    models: Sequence[str],
    *,
    target: str = "throughput_tok_s",
    random_state: int = 0,
    jobs: int = 1,
    make: MakeModel = make_model,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Evaluation:
    """Score models under a protocol.

    Parameters
    ----------
    table : DataFrame
        Canonical columns; see `fewmark.tables.repeats.measured_cells` for the rows that count.
    protocol : str
        One of `fewmark.evaluation.protocols.PROTOCOLS`.
    models : sequence of str
        Names in the registry.
    jobs : int
        Folds that run side by side.
    make : callable
        Makes a model from its name, as `fewmark.models.registry.make_model`.
    parameters : mapping, optional
        Further parameters of models, by name.

    Raises
    ------
    InputError
        If the protocol or target is unknown, or no deployment is eligible.
    """
    if not models:
        raise InputError("at least one model is needed")
    X, y = target_cells(table, target)
    cells = read_cells(X)
    accelerators = _accelerators(X)
    rounds = list(turns(protocol, cells, accelerators, random_state))
    if not rounds:
        got = "deployments with too few (input, output) pairs"
        raise InputError(f"{protocol} hides nothing of this table", got=got)
    tasks = [(name, turn) for name in dict.fromkeys(models) for turn in rounds]

    def run(name: str, turn: Turn) -> tuple[str, Turn, pd.DataFrame, float, float]:
        model = make(name, target=target, random_state=random_state, **(parameters or {}).get(name, {}))
        return (name, turn, *_play(model, turn, X, y, cells))

    played = Parallel(n_jobs=jobs)(delayed(run)(name, turn) for name, turn in tasks)
    frames: list[pd.DataFrame] = []
    out: dict[str, ModelScores] = {}
    for name in dict.fromkeys(models):
        own = [(turn, frame, fit_s, predict_s) for other, turn, frame, fit_s, predict_s in played if other == name]
        details = pd.concat([frame.assign(fold=turn.fold) for turn, frame, _, _ in own], ignore_index=True)
        details["accelerator"] = accelerators[details["row"].to_numpy()]
        out[name] = ModelScores(
            **scores(details), fit_s=sum(fit_s for _, _, fit_s, _ in own), predict_s=sum(s for *_, s in own)
        )
        frames.append(details.assign(predictor=name))
    every = pd.concat(frames, ignore_index=True)
    case = X.iloc[every["row"].to_numpy()].reset_index(drop=True)
    summary: Summary = {
        "protocol": protocol,
        "target": target,
        "seed": random_state,
        "n_deployments": len(eligible_deployments(cells)),
        "n_cells": len(cells),
        "models": out,
    }
    columns = ["predictor", "fold", "measured", "value", "low", "high", "provenance", "forecast", "abstained"]
    return Evaluation(summary, pd.concat([case[cell_columns(X)], every[columns]], axis=1))


def _play(model: Model, turn: Turn, X: pd.DataFrame, y: FloatArray, cells: Cells) -> tuple[pd.DataFrame, float, float]:
    """Fit without the hidden cells, predict the scored ones; the rows' outcome and the seconds taken."""
    known, asked = ~turn.hidden, turn.scored.copy()
    cases, told = X[cell_columns(X)], X[learned_columns(X, model)]
    start = time.perf_counter()
    reason = _fit(model.fit, told[known], y[known])
    if turn.n_chosen:
        rows = np.flatnonzero(asked)
        unseen = cases.iloc[rows]
        # A model that could not learn from anything else has no opinion yet: then the anchors that anyone would take.
        chosen = anchors(unseen, turn.n_chosen) if reason else model.design(unseen, turn.n_chosen)
        chosen = rows[_checked_design(chosen, cells.deployment[rows], turn.n_chosen, model.name)]
        known[chosen], asked[chosen] = True, False
        reason = _fit(model.fit if reason else model.refit, told[known], y[known])
    fit_s = time.perf_counter() - start
    rows = np.flatnonzero(asked)
    wanted = cases.iloc[rows]
    frame = pd.DataFrame(
        {
            "row": rows,
            "deployment": cells.deployment[rows],
            "measured": y[rows],
            "value": np.nan,
            "low": np.nan,
            "high": np.nan,
            "provenance": "abstained",
            "forecast": np.nan,
            "abstained": reason,
        }
    )
    if reason:
        return frame, fit_s, 0.0
    start = time.perf_counter()
    answers = model.answer(wanted, CONFIDENCE_LEVEL)
    predict_s = time.perf_counter() - start
    for name in ("value", "low", "high", "provenance", "abstained"):
        frame[name] = getattr(answers, name)
    for code in np.unique(cells.deployment[rows]):
        own = cells.deployment[rows] == code
        frame.loc[own, "forecast"] = model.forecast_error(wanted[own])
    return frame, fit_s, predict_s


def _fit(fit: Callable[[pd.DataFrame, FloatArray], Model], X: pd.DataFrame, y: FloatArray) -> str:
    """Learn, and the reason if that is impossible, else empty."""
    if not len(y):
        return "nothing is known"
    try:
        fit(X, y)
    except ModelError as error:
        return error.what
    return ""


def _checked_design(chosen: IntArray, deployment: IntArray, n_chosen: int, name: str) -> IntArray:
    """The positions that a model chose. Raises `ModelError` unless they are `n_chosen` of each deployment."""
    chosen = np.asarray(chosen, np.intp)
    legal = len(np.unique(chosen)) == len(chosen) and ((chosen >= 0) & (chosen < len(deployment))).all()
    codes, counts = np.unique(deployment[chosen], return_counts=True) if legal else (chosen, chosen)
    if not legal or len(codes) != len(np.unique(deployment)) or (counts != n_chosen).any():
        raise ModelError(f"the design of {name} must choose {n_chosen} distinct cells of each deployment", got=chosen)
    return chosen


def _accelerators(X: pd.DataFrame) -> NDArray[np.object_]:
    if "accelerator" not in X:
        return np.full(len(X), None, dtype=object)
    return X["accelerator"].astype(object).where(X["accelerator"].notna(), None).to_numpy()
