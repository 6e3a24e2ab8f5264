"""`fewmark predict`: cases that nobody measured, with intervals, provenance, similarity and reasons for silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core import CANONICAL_COLUMNS, InputError, Prediction
from fewmark.core.errors import NothingMeasuredError
from fewmark.core.fractions import require_fraction
from fewmark.facts.facts import load_facts, user_files
from fewmark.interop import to_measurements, write_table
from fewmark.models.auto.public_prior import public_relatives
from fewmark.models.base import ANSWER_COLUMNS, Answers, Model
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.feasibility import Feasibility, feasibility
from fewmark.models.gp.threads import single_threaded
from fewmark.models.persistence import load_model
from fewmark.tables.columns import bare, load_label, numbers_of
from fewmark.tables.identity import cell_columns, group_codes
from fewmark.tables.repeats import contested
from fewmark.tables.spellings import NOTES
from fewmark.verbs.learning import fitted_model
from fewmark.verbs.source import Tabular, named_columns, read_cases, read_source

PUBLISHED: Final = "fewmark.published"
"""Set in a table's `attrs`: nothing was measured, and these are public measurements in their place."""


@single_threaded
def predict(
    cases: Tabular,
    *,
    data: Tabular | None = None,
    store: str | None = None,
    model_file: str | Path | None = None,
    model: str = "auto",
    target: str = "throughput_tok_s",
    confidence_level: float = 0.9,
    out: str | Path | None = None,
    screened: bool = True,
    random_state: int = 0,
    prior: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Predict cases from a table, a store, or a fitted model.

    A store keeps the predictions made from it, or with a model file for it, and scores them when their cases are
    measured (`fewmark.ledger`).

    Parameters
    ----------
    cases : rows or path
        The cases, a canonical table. What is the same for all that is known need not be given.
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    model_file : path, optional
        A fitted model, in place of `data` and `model`.
    model : str, default "auto"
        A name of `fewmark.models.registry`.
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    confidence_level : float, default 0.9
        Of the intervals, a fraction.
    out : path, optional
        Where to write the predictions, as CSV or Parquet.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table.
    cache : bool, default True
        Whether a model fitted on the same data before is used again (`fewmark.models.cache`).
    progress : callable, optional
        Gets the name of each stage.

    Returns
    -------
    DataFrame
        The cases' columns and `value`, `low`, `high` (in the target's unit; NaN where the model abstains),
        `provenance`, `similarity` (in [0, 1], no probability) and `abstained` (the reason, else empty). Its `attrs`
        say how many public cells joined what was measured (`public_cells`), whether nothing was measured, so that they
        alone answer (`published`), and what speaks against cases that were
        answered all the same (`may_not_fit`). What cannot run (`fewmark.models.feasibility`) is not answered.

    Raises
    ------
    InputError, FormatError, StoreError
        If the request, a file or the store is wrong.
    ModelError
        If there is no such model, or it cannot learn from the data.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> cases = [{"accelerator": "H100", "input_tokens": 1024, "output_tokens": 128, "batch_size": 32}]
    >>> predicted = fewmark.predict(cases, data=table, model="mechanistic")
    >>> predicted[["value", "provenance"]].round().to_dict("records")
    [{'value': 2034.0, 'provenance': 'interpolated'}]
    """
    require_fraction("the confidence level", confidence_level)
    known = table = None
    models = FittedModels(cache_folder() if cache else None)
    if model_file is not None:
        if data is not None:
            raise InputError("a fitted model needs no data", got={"model_file": str(model_file)})
        fitted = load_model(model_file)
        known = pd.DataFrame(list(fitted.deployments_)) if fitted.deployments_ else None
    else:
        progress("reading")
        try:
            table = read_source(data, store=store, screened=screened)
        except NothingMeasuredError as nothing:
            table = _published(cases, target, nothing, prior=prior and model == "auto")
        progress(f"fitting {model} to {len(table):,} rows")
        fitted, known, _ = fitted_model(table, model, target, models, random_state=random_state, prior=prior)
        if table.attrs.get(PUBLISHED):
            fitted.n_public_cells_, known = len(table), None
    progress("predicting")
    predicted, columns, found = answer_cases(fitted, cases, known, table, confidence_level)
    models.keep()
    if out is not None:
        write_table(written(predicted), out, columns=columns)
    if store is not None or (data is None and model_file is None):
        _keep(predicted, store, fitted.name, target, confidence_level)
    predicted = predicted[columns]
    predicted.attrs["notes"] = notes_of(table, predicted, fitted)
    predicted.attrs["public_cells"] = fitted.n_public_cells_
    predicted.attrs["published"] = table is not None and bool(table.attrs.get(PUBLISHED))
    predicted.attrs["may_not_fit"] = [
        why for why, silent in zip(found.reason, found.infeasible, strict=True) if why and not silent
    ]
    return predicted


def _published(cases: Tabular, target: str, nothing: NothingMeasuredError, *, prior: bool) -> pd.DataFrame:
    """Public measurements of the nearest relatives of the cases, where nothing was measured.

    Raises
    ------
    NothingMeasuredError
        As before, where public measurements are not wanted, or none is of a like accelerator.
    """
    if not prior:
        raise nothing
    asked = read_cases(cases)
    public = public_relatives(asked[cell_columns(asked)], target)
    if public.empty:
        raise NothingMeasuredError(
            f"{nothing.what}, and nothing public is of such an accelerator", got=nothing.got, hint=nothing.hint
        ) from None
    note = f"nothing was measured: answers come from {len(public)} public measurements of similar deployments alone"
    public.attrs |= {"notes": [note], PUBLISHED: True}
    return public


def answer_cases(
    fitted: Model,
    cases: Tabular,
    known: pd.DataFrame | None,
    table: pd.DataFrame | None,
    confidence_level: float,
    apart: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[str], Feasibility]:
    """What a fitted model says of cases: their columns and `ANSWER_COLUMNS`, which of these to show, and what can run.

    Parameters
    ----------
    known : the cells that the model learned from; a case that names no deployment is taken to be about theirs
    table : every measurement, failed ones too, which tell what cannot run; None: published facts alone
    apart : the table's contradicting repeats (`contested`), where they are known
    """
    asked = read_cases(cases, known)
    notes = list(asked.attrs.get(NOTES, []))
    given = asked.attrs.get("given", {})
    columns = named_columns(cases, asked)
    columns = [*(name for name in columns if name not in ANSWER_COLUMNS), *ANSWER_COLUMNS]
    asked, table = bare(asked), None if table is None else bare(table)
    X = asked[cell_columns(asked)]
    found = feasibility(X, table)
    answered = asked.assign(**silenced(fitted.answer(X, confidence_level), found).columns())
    if table is not None:
        answered, told = holding_repeats(answered, table, fitted.target, apart)
        notes += told
    answered = answered.assign(**{name: values for name, values in given.items() if name in columns})
    answered.attrs["notes"] = notes
    return answered, columns, found


def notes_of(table: pd.DataFrame | None, asked: pd.DataFrame, fitted: Model | None = None) -> list[str]:
    """What was done to the measurements and to the names of a question, as sentences."""
    learned = fitted.notes_ if table is None and fitted is not None else ()
    notes = [*learned, *(table.attrs.get("notes", []) if table is not None else []), *asked.attrs.get("notes", [])]
    if table is not None and fitted is not None and fitted.n_public_cells_ and "model" in table:
        facts = load_facts(user_files())
        for name in dict.fromkeys(map(str, table["model"].dropna())):
            if not facts.model(name).known:
                size = facts.model(name).parameters / 1e9
                notes.append(
                    f"model {name!r} is in no file of facts: its shape is a guess ({size:.3g} billion parameters), and "
                    f"the public measurements are those of others; FEWMARK_FACTS names files with your own"
                )
    return list(dict.fromkeys(notes))


def holding_repeats(
    predicted: pd.DataFrame, table: pd.DataFrame, target: str, apart: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The answers with intervals that hold every repeat of a measured cell whose repeats contradict one another."""
    if apart is None:
        apart = contested(table.loc[_near(table, predicted)], target)
    apart = apart.loc[_near(apart, predicted)]
    notes: list[str] = []
    if apart.empty:
        return predicted, notes
    columns = [name for name in cell_columns(predicted) if name in apart]
    both = pd.concat([predicted[columns], apart[columns]], ignore_index=True).astype(object)
    codes, _ = group_codes(both.where(both.notna(), None), columns)
    out = predicted.copy()
    for at, code in enumerate(codes[len(predicted) :].tolist()):
        row = apart.iloc[at]
        for position in np.flatnonzero(codes[: len(predicted)] == code).tolist():
            label = out.index[position]
            value, low, high = out.loc[label, ["value", "low", "high"]].to_numpy(float).tolist()
            if not np.isfinite(value):
                continue
            out.loc[label, "low"] = min(low, float(row["low"]))
            out.loc[label, "high"] = max(high, float(row["high"]))
            spread = f"{target} from {row['low']:.4g} to {row['high']:.4g}"
            notes.append(
                f"{row['input_tokens']:g}→{row['output_tokens']:g} tokens at {load_label(dict(row))}: "
                f"{row['n_repeats_apart']} repeats contradict one another, {spread}; the interval holds all: "
                "measure again, or retract or supersede what is wrong"
            )
    return out, notes


def _near(table: pd.DataFrame, asked: pd.DataFrame) -> NDArray[np.bool_]:
    """The rows of the table whose lengths are asked for, (n,): all that a cell that is asked for can be."""
    out = np.ones(len(table), dtype=bool)
    for name in ("input_tokens", "output_tokens"):
        out &= np.isin(numbers_of(table, name), numbers_of(asked, name))
    return out


def silenced(answers: Answers, found: Feasibility) -> Answers:
    """The answers without those for cells that cannot run: there the model abstains, with the reason."""
    out = found.infeasible
    if not out.any():
        return answers
    return replace(
        answers,
        value=np.where(out, np.nan, answers.value),
        low=np.where(out, np.nan, answers.low),
        high=np.where(out, np.nan, answers.high),
        provenance=np.where(out, "abstained", answers.provenance),
        abstained=[why if no else said for why, no, said in zip(found.reason, out, answers.abstained, strict=True)],
    )


def written(predicted: pd.DataFrame) -> pd.DataFrame:
    """Predictions as they are written: no reason is an empty field."""
    return predicted.assign(abstained=predicted["abstained"].where(predicted["abstained"] != "", None))


def as_predictions(predicted: pd.DataFrame, target: str, model: str, confidence_level: float) -> list[Prediction]:
    """The answers of a table of predictions, without those on which the model abstains."""
    answered = predicted[np.isfinite(predicted[["value", "low", "high"]].to_numpy(float)).all(axis=1)]
    names = [*CANONICAL_COLUMNS, *(name for name in cell_columns(answered) if name not in CANONICAL_COLUMNS)]
    cases = [measurement.case for measurement in to_measurements(answered.reindex(columns=names))]
    ends = answered[["value", "low", "high", "similarity"]].to_numpy(float)
    return [
        Prediction(
            case, target, end[0], end[1], end[2], confidence_level, str(provenance), similarity=end[3], model=model
        )
        for case, end, provenance in zip(cases, ends, answered["provenance"], strict=True)
    ]


def _keep(predicted: pd.DataFrame, store: str | None, model: str, target: str, confidence_level: float) -> None:
    """Put the predictions on record in the store, to be scored when their cases are measured."""
    from fewmark.store import open_store  # SQL takes a second to load

    with open_store(store) as opened:
        opened.add_predictions(as_predictions(predicted, target, model, confidence_level))
