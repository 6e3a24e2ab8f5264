"""File-based ask and tell: from what is known and a space to the cells worth measuring next."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from fewmark.core.errors import InputError
from fewmark.core.metrics import ALL_TARGETS
from fewmark.evaluation.meta_metrics import Charges
from fewmark.models.base import Model
from fewmark.models.cache import FittedModels
from fewmark.models.feasibility import feasibility
from fewmark.planning.planner import COST, Planner
from fewmark.planning.space import Space
from fewmark.planning.strategies import make_strategy
from fewmark.planning.surrogate import believe, fit
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.columns import load_kind_of, numbers_of
from fewmark.tables.identity import is_identity
from fewmark.tables.repeats import measured_cells

PRIORITY: Final = "priority"  # a column of the space: how much each cell matters; empty is 1
COLUMNS: Final = ("expected_gain", "predicted_cost_s", "forecast_error_before", "forecast_error_after")
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


def make_planner(
    known: pd.DataFrame,
    space_table: pd.DataFrame,
    model: Model | None,
    *,
    target: str = "throughput_tok_s",
    strategy: str = "adaptive",
    charges: Charges | None = None,
    target_error: float | None = None,
    forbid: Sequence[str] = (),
    independent_reference: bool = False,
    n_relatives: int = 0,
    random_state: int = 0,
    models: FittedModels | None = None,
) -> Planner:
    """A planner that knows what is known: cells of the space that were measured or have failed are not asked again.

    Parameters
    ----------
    known : canonical table of measurements, any rows; may be empty
    space_table : canonical table of cells; a column ``priority`` says how much each one matters (0: not at all)
    model : unfitted model of the target; None: nothing but smoothness is assumed
    models : models fitted before, of which one may be of the same cells
    forbid : conditions such as ``batch_size>64`` or ``accelerator=H100``; cells that meet one are never asked
    independent_reference, n_relatives : see `Planner`

    Raises
    ------
    InputError
        If the space has no cell, or a condition or parameter makes no sense.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.planning.propose import make_planner
    >>> table = datasets.example()
    >>> len(make_planner(table.head(3), table, None).ask(2))
    2
    """
    if target not in ALL_TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    space = Space.from_table(space_table)
    cells = measured_cells(known, target)
    cannot = feasibility(space.cells, known)
    fitted = fit(model, cells, target, models)
    planner = Planner(
        space,
        believe(space, cells, target, fitted),
        make_strategy(strategy),
        target=target,
        charges=charges,
        target_error=target_error,
        latency_s=_latency_s(space, known, target),
        weights=_weights(space.cells, cannot.infeasible),
        forbidden=_forbidden(space.cells, forbid) | cannot.infeasible,
        independent_reference=independent_reference,
        n_relatives=n_relatives or getattr(fitted, "n_public_cells_", 0),
        random_state=random_state,
    )
    planner.is_guess = not planner.observed.any() and (fitted is None or n_relatives > 0)
    for position in _failed(space, known):
        planner.failed[position] = not planner.observed[position]
    open_ = ~planner.observed & ~planner.failed & cannot.infeasible
    planner.infeasible = {int(row): cannot.reason[row] for row in np.flatnonzero(open_)}
    return planner


def propose(planner: Planner, n: int) -> pd.DataFrame:
    """The n cells worth measuring next, best first: the space's columns and `COLUMNS` (see `planner.Proposal`)."""
    asked = planner.ask(n) if n else []
    out: pd.DataFrame = planner.space.cells.iloc[[proposal.position for proposal in asked]].reset_index(drop=True)
    for name in COLUMNS:
        out[name] = np.array([getattr(proposal, name) for proposal in asked], dtype=float)
    return out


def _latency_s(space: Space, known: pd.DataFrame, target: str) -> FloatArray | None:
    """What the known latencies say of one run of each cell, (n,); None where the target implies it anyway."""
    if np.isfinite(space.latency_s(target, np.ones(len(space)))).all():
        return None
    return np.asarray(np.exp(believe(space, measured_cells(known, COST), COST, None).mean))


def _failed(space: Space, known: pd.DataFrame) -> list[int]:
    """Positions of cells that failed in every row of what is known."""
    if "status" not in known.columns:
        return []
    rows = known.loc[known["status"].notna() & (known["status"] != "ok")]
    lengths = np.isfinite(numbers_of(rows, "input_tokens")) & np.isfinite(numbers_of(rows, "output_tokens"))
    return space.find(rows.loc[lengths & (load_kind_of(rows) >= 0)])


def _weights(cells: pd.DataFrame, infeasible: BoolArray) -> FloatArray | None:
    """How much each cell counts in the error, (n,): not at all where it cannot run."""
    weights = _priorities(cells)
    if not infeasible.any() or infeasible.all():
        return weights
    return np.where(infeasible, 0.0, np.ones(len(cells)) if weights is None else weights)


def _priorities(cells: pd.DataFrame) -> FloatArray | None:
    if PRIORITY not in cells.columns:
        return None
    values = pd.to_numeric(cells[PRIORITY], errors="coerce")
    if (values.isna() & cells[PRIORITY].notna()).any() or (values < 0).any() or (values == 0).all():
        raise InputError("priorities are numbers of at least 0, not all 0", got=cells[PRIORITY].tolist()[:5])
    return values.fillna(1.0).to_numpy(dtype=float)


def _forbidden(cells: pd.DataFrame, conditions: Sequence[str]) -> BoolArray:
    out = np.zeros(len(cells), dtype=bool)
    for text in conditions:
        found = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|!=|<|>|=)=?\s*(.+?)\s*", text)
        if found is None or not is_identity(found[1]):
            raise InputError(
                "a condition is a case column, a comparison and a value", got=text, hint="as in batch_size>64"
            )
        name, sign, value = found.groups()
        column = cells[name] if name in cells.columns else pd.Series(np.nan, cells.index)
        number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
        if pd.notna(number):
            met = _OPERATORS[sign](pd.to_numeric(column, errors="coerce"), number) & column.notna()
        elif sign in ("=", "!="):
            met = _OPERATORS[sign](column.astype(object), value) & column.notna()
        else:
            raise InputError(f"{sign} compares with a number", got=text)
        out |= met.to_numpy(dtype=bool)
    return out
