"""`fewmark predict`: cases that nobody measured, with intervals, provenance, similarity and reasons for silence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fewmark.core import InputError
from fewmark.evaluate import prepare
from fewmark.interop import write_table
from fewmark.models.cells import cell_columns
from fewmark.models.registry import make_model
from fewmark.models.saved import load_model
from fewmark.verbs.source import read_cases, read_source


def predict(
    cases: str | Path | pd.DataFrame,
    *,
    data: str | Path | None = None,
    store: str | None = None,
    model_file: str | Path | None = None,
    model: str = "auto",
    target: str = "throughput_tok_s",
    confidence_level: float = 0.9,
    out: str | Path | None = None,
    screened: bool = True,
    random_state: int = 0,
) -> pd.DataFrame:
    """Predict cases from a table, a store, or a fitted model.

    Returns
    -------
    DataFrame
        The cases' columns and `value`, `low`, `high` (in the target's unit; unknown where the model abstains),
        `provenance`, `similarity` and `abstained` (the reason, else empty).

    Raises
    ------
    InputError, FormatError, StoreError, ModelError
        If the request is wrong or the model cannot learn from the data.
    """
    if not 0 < confidence_level < 1:
        raise InputError("the confidence level must lie between 0 and 1", got=confidence_level)
    known = None
    if model_file is not None:
        if data is not None or store is not None:
            raise InputError("a fitted model needs no data", got={"model_file": str(model_file)})
        fitted = load_model(model_file)
    else:
        unfitted = make_model(model, target=target, random_state=random_state)
        known, y = prepare(read_source(data, store=store, screened=screened), target)
        fitted = unfitted.fit(known[cell_columns(known)], y)
    asked = cases if isinstance(cases, pd.DataFrame) else read_cases(cases, known)
    X = asked[cell_columns(asked)]
    interval = fitted.predict_interval(X, confidence_level)
    predicted = asked.assign(
        value=fitted.predict(X),
        low=interval[:, 0],
        high=interval[:, 1],
        provenance=fitted.provenance(X),
        similarity=fitted.similarity(X),
        abstained=fitted.abstentions(X),
    )
    if out is not None:
        write_table(predicted, out)
    return predicted
