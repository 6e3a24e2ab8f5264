"""`fewmark evaluate`: models scored under the evaluation protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from fewmark.core import InputError
from fewmark.core.near_names import did_you_mean
from fewmark.evaluation import PROTOCOLS
from fewmark.evaluation import evaluate as run_protocol
from fewmark.evaluation.run import Summary
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
    result: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Score models by what they say of cells that they have not seen.

    Parameters
    ----------
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    protocol : str, default "interpolate-length"
        One of `fewmark.evaluation.PROTOCOLS`, several of them separated by commas, or ``all``.
    model : str or sequence of str, default "auto"
        Names of `fewmark.models.registry`.
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    random_state : int, default 0
        Seed of folds and hidden cells.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    jobs : int, default 1
        Folds that run side by side.
    prior : bool, default False
        Whether models that can join what public measurements teach; refused where the table holds packaged data.
    predictions : path, optional
        A CSV for every hidden cell with what was measured and predicted.
    progress : callable, optional
        Gets the name of each stage.
    result : callable, optional
        Gets each summary as soon as it is there.

    Returns
    -------
    list of dict
        One summary for each protocol; errors and shares are fractions, and `notes` say what was left out.

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
    >>> (summary,) = fewmark.evaluate(table, protocol="sparse-25", model="mechanistic")
    >>> summary["n_cells"], summary["models"]["mechanistic"]["median_ape"] < 0.02
    (24, True)
    """
    wanted = PROTOCOLS if protocol == "all" else tuple(name.strip() for name in protocol.split(","))
    for name in wanted:
        if name not in PROTOCOLS:
            raise InputError("no such protocol", got=name, hint=did_you_mean(name, [*PROTOCOLS, "all"]))
    models = [model] if isinstance(model, str) else list(model)
    for name in models:
        make_model(name, target=target)
    table = read_source(data, store=store, screened=screened)
    notes = list(table.attrs.get("notes", []))
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
        done.summary["notes"] = notes
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
            hint="leave --prior out",
        )
