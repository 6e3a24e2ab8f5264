"""`fewmark fit`: a fitted model, in a file if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewmark.models.base import Model, learned_columns
from fewmark.models.persistence import load_model, save_model
from fewmark.models.registry import make_model
from fewmark.tables.repeats import target_cells
from fewmark.verbs.source import Tabular, read_source

__all__ = ["fit", "load_model"]


def fit(
    data: Tabular | None = None,
    *,
    store: str | None = None,
    model: str = "auto",
    target: str = "throughput_tok_s",
    out: str | Path | None = None,
    screened: bool = True,
    random_state: int = 0,
    prior: bool = True,
    **parameters: Any,
) -> Model:
    """Fit a model to what was measured.

    Parameters
    ----------
    data, store
        A file, a packaged dataset's name, or a store's URL.
    model : str
        A name of `fewmark.models.registry`.
    out : path, optional
        Where to save it.
    screened : bool
        Whether rows that the screen excludes stay unseen.
    prior : bool
        Whether a small table is joined by what public measurements teach (`fewmark.models.auto.public_prior`).

    Raises
    ------
    InputError, FormatError, StoreError, ModelError
        If the request is wrong or the model cannot learn from the data.
    """
    unfitted = make_model(model, target=target, random_state=random_state, prior=prior, **parameters)
    X, y = target_cells(read_source(data, store=store, screened=screened), target, related=unfitted.uses_metrics)
    fitted = unfitted.fit(X[learned_columns(X, unfitted)], y)
    if out is not None:
        save_model(fitted, out)
    return fitted
