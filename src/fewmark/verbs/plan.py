"""`fewmark plan`: the cells of a space that are worth measuring next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fewmark import datasets
from fewmark.core import InputError
from fewmark.evaluate.meta import Charges
from fewmark.interop import from_measurements, read_table, write_table
from fewmark.models.registry import make_model
from fewmark.planning.planner import Planner
from fewmark.planning.propose import make_planner, propose
from fewmark.screening import apply, screen
from fewmark.store import open_store

NO_MODEL = "none"


def plan(
    space: str | Path,
    *,
    data: str | Path | None = None,
    store: str | None = None,
    ask: int = 4,
    out: str | Path | None = None,
    target: str = "throughput_tok_s",
    model: str = "auto",
    strategy: str = "adaptive",
    target_error: float | None = None,
    forbid: Sequence[str] = (),
    charges: Charges | None = None,
    unscreened: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, Planner]:
    """The next cells, best first (none once it is accurate enough), and the planner; writes the cells to `out`.

    Parameters
    ----------
    space : a canonical table of cells
    data : a table of measurements in any known format, or a packaged dataset's name; else what the store holds
    ask : how many cells
    model : a model's name, or "none" for nothing but smoothness

    Raises
    ------
    InputError, ModelError
        If the request is wrong.
    """
    if ask < 1:
        raise InputError("ask for at least one cell", got=ask)
    known = known_table(data, store, unscreened=unscreened)
    fitted = None if model == NO_MODEL else make_model(model, target=target, random_state=seed)
    planner = make_planner(
        known, read_table(space), fitted, target=target, strategy=strategy, charges=charges,
        target_error=target_error, forbid=forbid, random_state=seed,
    )  # fmt: skip
    chosen = propose(planner, ask if not planner.reached() else 0)
    if out is not None:
        write_table(chosen, out)
    return chosen, planner


def known_table(data: str | Path | None, store: str | None, *, unscreened: bool = False) -> pd.DataFrame:
    """What is known: a file, a packaged dataset or the store, without the rows that the screen excludes.

    Raises
    ------
    InputError
        If there is no such file or dataset, or it cannot be read.
    """
    if data is not None:
        name = str(data)
        frame = datasets.load(name) if name in datasets.names() else read_table(data)
    else:
        with open_store(store) as opened:
            frame = from_measurements(opened.measurements())
    return frame if unscreened or frame.empty else apply(frame, screen(frame))
