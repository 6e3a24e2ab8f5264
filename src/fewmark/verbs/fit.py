"""`fewmark fit`: a fitted model, in a file if wanted."""

from __future__ import annotations

from pathlib import Path

from fewmark.models.base import Model, learned_columns
from fewmark.models.persistence import load_model, save_model
from fewmark.models.registry import make_model
from fewmark.tables.identity import deployment_columns
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
    **parameters: object,
) -> Model:
    """Fit a model to what was measured.

    Parameters
    ----------
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    model : str, default "auto"
        A name of `fewmark.models.registry`.
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    out : path, optional
        Where to save it, as data and never as code.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table.
    **parameters
        Further parameters of the model's constructor.

    Returns
    -------
    Model
        The fitted model; see `fewmark.models.base.Model`.

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
    >>> model = fewmark.fit(table, model="mechanistic")
    >>> model.predict(table.head(2)).round().tolist()
    [100.0, 391.0]
    """
    unfitted = make_model(model, target=target, random_state=random_state, prior=prior, **parameters)
    table = read_source(data, store=store, screened=screened)
    X, y = target_cells(table, target, related=unfitted.uses_metrics)
    fitted = unfitted.fit(X[learned_columns(X, unfitted)], y)
    fitted.notes_ = tuple(table.attrs.get("notes", ()))
    deployments = X[deployment_columns(X)].drop_duplicates().astype(object)
    rows = deployments.where(deployments.notna(), None).to_dict("records")
    fitted.deployments_ = tuple({str(name): value for name, value in row.items()} for row in rows)
    if out is not None:
        save_model(fitted, out)
    return fitted
