"""`fewmark evaluate`: models scored under the evaluation protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from fewmark.core import InputError
from fewmark.evaluation import PROTOCOLS
from fewmark.evaluation import evaluate as run_protocol
from fewmark.models.auto.public_prior import measured_in_public
from fewmark.models.registry import make_model
from fewmark.tables.repeats import target_cells
from fewmark.verbs.source import read_source


def evaluate(
    data: str | Path | pd.DataFrame | None = None,
    *,
    store: str | None = None,
    protocol: str = "interpolate-length",
    model: str | Sequence[str] = "auto",
    target: str = "throughput_tok_s",
    random_state: int = 0,
    screened: bool = True,
    jobs: int = 1,
    prior: bool = False,
    predictions: str | Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
    result: Callable[[dict[str, Any]], None] = lambda summary: None,
) -> list[dict[str, Any]]:
    """Score models by what they say of cells that they have not seen.

    Parameters
    ----------
    data : path, packaged dataset's name, or a canonical table
    protocol : str
        One of `PROTOCOLS`, several of them separated by commas, or ``all``.
    prior : bool
        Whether models that can join what public measurements teach; refused where the table holds packaged data.
    predictions : path, optional
        A CSV for every hidden cell with what was measured and predicted.
    result : callable
        Gets each summary as soon as it is there.

    Returns
    -------
    list of dict
        One summary for each protocol.

    Raises
    ------
    InputError, FormatError, StoreError, ModelError
        If the request is wrong.
    """
    wanted = PROTOCOLS if protocol == "all" else tuple(name.strip() for name in protocol.split(","))
    for name in wanted:
        if name not in PROTOCOLS:
            raise InputError("no such protocol", got=name, hint=f"one of {', '.join(PROTOCOLS)}, or all")
    models = [model] if isinstance(model, str) else list(model)
    for name in models:
        make_model(name, target=target)
    table = data if isinstance(data, pd.DataFrame) else read_source(data, store=store, screened=screened)
    if prior:
        _refuse_packaged(table, target)

    summaries, frames = [], []
    for name in wanted:
        progress(name)
        done = run_protocol(
            table,
            name,
            models,
            target=target,
            random_state=random_state,
            jobs=jobs,
            make=partial(make_model, prior=prior),
        )
        result(done.summary)
        summaries.append(done.summary)
        frames.append(done.details.assign(protocol=name))
    if predictions is not None:
        try:
            pd.concat(frames, ignore_index=True).to_csv(predictions, index=False)
        except OSError as error:
            raise InputError("cannot write the predictions", got=f"{predictions}: {error.strerror}") from None
    return summaries


def _refuse_packaged(table: pd.DataFrame, target: str) -> None:
    """Raise `InputError` where a table's values, whatever it is called, are those that the prior was learned from."""
    if measured_in_public(*target_cells(table, target), target):
        raise InputError(
            "the prior was learned from this data and would know its hidden cells",
            got=f"{len(table)} rows, some of them packaged ones by their values",
            hint="leave --prior away",
        )
