"""Run a protocol: hide, fit, predict, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fewmark.core.errors import InputError
from fewmark.core.metrics import TARGETS
from fewmark.evaluate.protocols import Turn, eligible_deployments, turns
from fewmark.evaluate.scores import scores
from fewmark.models.base import FloatArray, Model
from fewmark.models.cells import Cells, cell_columns, median_of_repeats, read_cells
from fewmark.models.registry import make_model

CONFIDENCE_LEVEL = 0.9
MakeModel = Callable[..., Model]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a protocol.

    Attributes
    ----------
    summary : dict
        The JSON of ``fewmark evaluate``.
    details : DataFrame
        One row for each model and hidden cell.
    """

    summary: dict[str, Any]
    details: pd.DataFrame


def evaluate(
    table: pd.DataFrame,
    protocol: str,
    models: Sequence[str],
    *,
    target: str = "throughput_tok_s",
    seed: int = 0,
    jobs: int = 1,
    make: MakeModel = make_model,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Evaluation:
    """Score models under a protocol.

    Parameters
    ----------
    table : DataFrame
        Canonical columns; rows that failed or lack the target are left out, repeats are reduced to their median.
    protocol : str
        One of `fewmark.evaluate.protocols.PROTOCOLS`.
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
    X, y = prepare(table, target)
    cells = read_cells(X)
    accelerators = _accelerators(X)
    rounds = list(turns(protocol, cells, accelerators, seed))
    tasks = [(name, turn) for name in dict.fromkeys(models) for turn in rounds]

    def run(name: str, turn: Turn) -> tuple[str, Turn, pd.DataFrame, float, float]:
        model = make(name, target=target, random_state=seed, **(parameters or {}).get(name, {}))
        return (name, turn, *_play(model, turn, X, y, cells))

    played = Parallel(n_jobs=jobs)(delayed(run)(name, turn) for name, turn in tasks)
    frames, out = [], {}
    for name in dict.fromkeys(models):
        own = [(turn, frame, fit_s, predict_s) for other, turn, frame, fit_s, predict_s in played if other == name]
        details = pd.concat([frame.assign(fold=turn.fold) for turn, frame, _, _ in own], ignore_index=True)
        details["accelerator"] = accelerators[details["row"].to_numpy()]
        out[name] = scores(details) | {"fit_s": sum(o[2] for o in own), "predict_s": sum(o[3] for o in own)}
        frames.append(details.assign(model=name))
    every = pd.concat(frames, ignore_index=True)
    case = X.iloc[every["row"].to_numpy()].reset_index(drop=True).rename(columns={"model": "served_model"})
    summary = {
        "protocol": protocol,
        "target": target,
        "seed": seed,
        "n_deployments": len(eligible_deployments(cells)),
        "n_cells": len(cells),
        "models": out,
    }
    return Evaluation(summary, pd.concat([every.drop(columns=["row"]), case], axis=1))


def prepare(table: pd.DataFrame, target: str) -> tuple[pd.DataFrame, FloatArray]:
    """The cells of a table that have the target, one row a cell, and their medians.

    Raises
    ------
    InputError
        If the target is unknown, or no row has it.
    """
    if target not in TARGETS:
        raise InputError("no such target", got=target, hint=f"one of {', '.join(TARGETS)}")
    if target not in table:
        raise InputError(f"the table has no column {target}", got=list(map(str, table.columns)))
    value = pd.to_numeric(table[target], errors="coerce").to_numpy(float)
    load = table.reindex(columns=["batch_size", "concurrency"]).notna().sum(axis=1).to_numpy() == 1
    tokens = table.reindex(columns=["input_tokens", "output_tokens"]).gt(0).all(axis=1).to_numpy()
    usable = np.isfinite(value) & (value > 0) & load & tokens
    if "status" in table:
        usable &= table["status"].isna().to_numpy() | (table["status"] == "ok").to_numpy()
    if not usable.any():
        raise InputError(f"no row of the table has {target} for a complete cell", got=f"{len(table)} rows")
    X, y = median_of_repeats(table[usable], value[usable])
    return X.reset_index(drop=True), y


def _play(model: Model, turn: Turn, X: pd.DataFrame, y: FloatArray, cells: Cells) -> tuple[pd.DataFrame, float, float]:
    """Fit without the hidden cells, predict the scored ones; the rows' outcome and the seconds taken."""
    known, asked = ~turn.hidden, turn.scored.copy()
    cases = X[cell_columns(X)]
    start = time.perf_counter()
    if known.any():
        model.fit(cases[known], y[known])
    if turn.n_chosen:
        rows = np.flatnonzero(asked)
        chosen = rows[model.design(cases.iloc[rows], turn.n_chosen)]
        known[chosen], asked[chosen] = True, False
        model.refit(cases[known], y[known])
    fit_s = time.perf_counter() - start
    start = time.perf_counter()
    rows = np.flatnonzero(asked)
    wanted = cases.iloc[rows]
    if known.any():
        value, interval = model.predict(wanted), model.predict_interval(wanted, CONFIDENCE_LEVEL)
        provenance = model.provenance(wanted)
    else:
        value, interval = np.full(len(rows), np.nan), np.full((len(rows), 2), np.nan)
        provenance = np.full(len(rows), "abstained")
    predict_s = time.perf_counter() - start
    forecast = np.full(len(rows), np.nan)
    for code in np.unique(cells.deployment[rows]):
        own = cells.deployment[rows] == code
        if known.any():
            forecast[own] = model.forecast_error(wanted[own])
    frame = pd.DataFrame(
        {
            "row": rows,
            "deployment": cells.deployment[rows],
            "measured": y[rows],
            "value": value,
            "low": interval[:, 0],
            "high": interval[:, 1],
            "provenance": provenance,
            "forecast": forecast,
        }
    )
    return frame, fit_s, predict_s


def _accelerators(X: pd.DataFrame) -> Any:
    if "accelerator" not in X:
        return np.full(len(X), None, dtype=object)
    return X["accelerator"].astype(object).where(X["accelerator"].notna(), None).to_numpy()
