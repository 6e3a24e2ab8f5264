"""`fewmark plan`: the cells of a space that are worth measuring next."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fewmark.core import FewmarkError, InputError
from fewmark.evaluation.meta_metrics import Charges
from fewmark.interop import write_table
from fewmark.models.auto.public_prior import public_relatives
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.gp.threads import single_threaded
from fewmark.models.registry import make_model
from fewmark.planning.planner import Planner
from fewmark.planning.propose import COLUMNS, make_planner, propose
from fewmark.planning.surrogate import joined
from fewmark.tables.columns import load_label
from fewmark.tables.identity import cell_columns, group_codes
from fewmark.tables.spellings import NOTES
from fewmark.verbs.source import Tabular, named_columns, read_cases, read_source

NO_MODEL = "none"


class Plan(NamedTuple):
    """The cells to measure next, and the planner that chose them.

    Unpacks into the two: ``cells, planner = fewmark.plan(…)``.

    Attributes
    ----------
    cells : DataFrame
        Best first, with `expected_gain`, `predicted_cost_s`, `forecast_error_before` and `forecast_error_after`
        (fractions); no row where nothing more is needed or nothing is left.
    planner : Planner
        Knows the space, what was measured of it, and what it forecasts.
    """

    cells: pd.DataFrame
    planner: Planner

    @property
    def notes(self) -> list[str]:
        """What was done to the measurements, and which proposed cells were measured but left out."""
        return list(self.cells.attrs.get("notes", []))

    def to_dict(self) -> dict[str, object]:
        """JSON values; unknown is null."""
        rows = self.cells.astype(object).where(self.cells.notna(), None)
        return {"cells": rows.to_dict("records"), "forecast": asdict(self.planner.forecast())}

    def __repr__(self) -> str:
        now = f"forecast median error {self.planner.forecast().median_ape:.1%}"
        if self.cells.empty:
            return f"Plan: nothing to measure; {now}\n{self.planner!r}"
        after = float(self.cells["forecast_error_after"].iloc[-1])
        known = self.cells[[name for name in self.cells if self.cells[name].notna().any()]]
        cost_s = float(self.cells["predicted_cost_s"].sum())
        head = f"Plan: {len(self.cells)} cells to measure next ({cost_s:.1f} s); {now}, afterwards {after:.1%}"
        return f"{head}\n{known.to_string(index=False, max_rows=20)}\n{self.planner!r}"


@single_threaded
def plan(
    space: Tabular,
    *,
    data: Tabular | None = None,
    store: str | None = None,
    ask: int = 4,
    out: str | Path | None = None,
    target: str = "throughput_tok_s",
    model: str = "auto",
    strategy: str = "adaptive",
    target_error: float | None = None,
    forbid: Sequence[str] = (),
    charges: Charges | None = None,
    screened: bool = True,
    random_state: int = 0,
    prior: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] = lambda text: None,
    models: FittedModels | None = None,
) -> Plan:
    """Choose the cells of a space that are worth measuring next.

    Parameters
    ----------
    space : rows or path
        The cells in question, a canonical table.
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    ask : int, default 4
        How many cells.
    out : path, optional
        Where to write them, as CSV or Parquet.
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    model : str, default "auto"
        A name of `fewmark.models.registry`; "none" for nothing but smoothness.
    strategy : str, default "adaptive"
        Who chooses (`fewmark.planning.strategies`); several joined by ``+``.
    target_error : float, optional
        The median error over the space to reach, a fraction; nothing more is proposed once it is forecast to be
        reached.
    forbid : sequence of str
        Conditions on cells that are never asked: ``"batch_size>64"``.
    charges : Charges, optional
        How running is charged: seconds to load a deployment, warm-up runs and repeats of a cell.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table. Where nothing is measured yet, they
        are all that is known.
    cache : bool, default True
        Whether a model fitted on the same data before is used again (`fewmark.models.cache`).
    progress : callable, optional
        Gets the name of each stage.
    models : FittedModels, optional
        Where fitted models are kept, in place of `cache`.

    Returns
    -------
    Plan
        `cells`, best first, and the `planner` that chose them.

    Raises
    ------
    InputError
        If the request is wrong.
    ModelError
        If there is no such model, or it cannot learn from the data.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> plan = fewmark.plan(table, data=table.iloc[::3], model="mechanistic", ask=2, prior=False)
    >>> len(plan.cells), bool(plan.cells["forecast_error_after"].iloc[-1] < plan.planner.forecast().median_ape)
    (2, True)
    >>> plan.planner
    Planner(throughput_tok_s: 24 cells, 8 measured, 0 failed, strategy adaptive)
    """
    if ask < 1:
        raise InputError("ask for at least one cell", got=ask)
    progress("reading")
    known = read_known(data, store, screened=screened)
    fitted = None if model == NO_MODEL else make_model(model, target=target, random_state=random_state, prior=prior)
    cells = read_cases(space, known)
    notes, left_out = [*known.attrs.get("notes", []), *cells.attrs.get(NOTES, [])], known.attrs.get("left_out", [])
    n_lent = 0
    if prior and fitted is not None:
        known, n_lent = joined(known, public_relatives(cells, target), target)
    progress(f"fitting {model} to {len(known):,} rows")
    models = models or FittedModels(cache_folder() if cache else None)
    planner = make_planner(
        known, cells, fitted, target=target, strategy=strategy, charges=charges,
        target_error=target_error, forbid=forbid, n_relatives=n_lent, random_state=random_state, models=models,
    )  # fmt: skip
    models.keep()
    progress(f"choosing among {len(planner.space):,} cells")
    chosen = propose(planner, ask if not planner.reached() else 0)
    if out is not None:
        own = [name for name in named_columns(space, cells) if name not in COLUMNS]
        write_table(chosen, out, columns=[*own, *COLUMNS])
    chosen.attrs["notes"] = list(dict.fromkeys([*notes, *_left_out_before(chosen, left_out)]))
    return Plan(chosen, planner)


def _left_out_before(chosen: pd.DataFrame, left_out: list[dict[Hashable, object]]) -> list[str]:
    """Which of the proposed cells were measured, but left out by the screen."""
    if chosen.empty or not left_out:
        return []
    before = pd.DataFrame(left_out)
    columns = [name for name in cell_columns(chosen) if name in before]
    both = pd.concat([chosen[columns], before[columns]], ignore_index=True).astype(object)
    codes, _ = group_codes(both.where(both.notna(), None), columns)
    again = np.flatnonzero(np.isin(codes[: len(chosen)], codes[len(chosen) :])).tolist()
    return [
        f"{row['input_tokens']:g}→{row['output_tokens']:g} tokens at {load_label(dict(row))} was measured, but "
        "left out by the screen: measured again it is evidence, as repeats that agree are believed"
        for row in (chosen.iloc[position] for position in again)
    ]


def read_known(data: Tabular | None, store: str | None, *, screened: bool) -> pd.DataFrame:
    """What is known; nothing, where neither a table nor a store was named and there is no default store yet."""
    try:
        return read_source(data, store=store, screened=screened)
    except FewmarkError:
        if data is not None or store is not None or "FEWMARK_STORE" in os.environ:
            raise
        return pd.DataFrame()
