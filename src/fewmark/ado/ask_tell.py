"""Ask and tell over the points of somebody else's space: names and values of properties in, positions out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import FormatError, InputError
from fewmark.core.columns import CASE_COLUMNS, LOAD_COLUMNS, OPTION_PREFIX
from fewmark.core.json_types import Json
from fewmark.core.metrics import ALL_TARGETS
from fewmark.interop.dialects.headers import meaning_of
from fewmark.interop.table.frame import build_frame
from fewmark.planning.planner import Planner
from fewmark.planning.propose import make_planner
from fewmark.tables.identity import cell_codes

# Properties of ado's experiments with vLLM and GuideLLM.
PROPERTIES: Final[Mapping[str, str]] = {
    "n_gpus": "accelerator_count",
    "gpu_type": "accelerator",
    "gpu_model": "accelerator",
    "dtype": "precision",
    "number_input_tokens": "input_tokens",
    "max_output_tokens": "output_tokens",
    "max_concurrency": "concurrency",
}
UNLIMITED: Final = -1  # what such an experiment writes for a rate or a concurrency without a limit


class AskTell:
    """Which point of a space to measure next, and what the measurements say of the others.

    Parameters
    ----------
    points : sequence of mappings
        Each point's properties by name.
    observed : str
        The property to learn, by the name that the experiment gives it, such as ``output_throughput``; its name says
        its unit.
    columns : mapping
        Properties by name → canonical columns, where the names themselves do not say; others become options of the
        engine.
    constants : mapping
        Canonical columns that are the same everywhere, such as the model.
    strategy, target_error, random_state
        As `fewmark.plan` has them.

    Raises
    ------
    InputError
        If a point is no cell (tokens in and out, one load), or `observed` is none of the metrics.

    Examples
    --------
    >>> from fewmark.ado.ask_tell import AskTell
    >>> points = [{"number_input_tokens": 512, "max_output_tokens": 128, "max_concurrency": n} for n in (1, 8, 64)]
    >>> search = AskTell(points, "output_throughput", constants={"engine": "vllm", "model": "llama-3.1-8b"})
    >>> (first,) = search.ask(1)
    >>> search.tell(first, 100.0)
    >>> sorted(search.ask(5)) == [n for n in range(3) if n != first]
    True
    """

    def __init__(
        self,
        points: Sequence[Mapping[str, Json]],
        observed: str,
        *,
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, Json] | None = None,
        strategy: str = "adaptive",
        target_error: float | None = None,
        random_state: int = 0,
    ) -> None:
        meaning = meaning_of(observed)
        if meaning is None or meaning.column not in ALL_TARGETS:
            raise InputError("the observed property is no metric", got=observed, hint=", ".join(ALL_TARGETS))
        self.target, self._factor = meaning.column, meaning.factor or 1.0
        table = _table(points, columns or {}, constants or {})
        codes = cell_codes(table)
        self._positions: dict[int, int] = {}  # of the space's cells, which are distinct, to the first such point
        for position, code in enumerate(codes.tolist()):
            self._positions.setdefault(code, position)
        self._cells = {position: int(code) for position, code in enumerate(codes.tolist())}
        self._pending: set[int] = set()
        self.planner: Planner = make_planner(
            table.iloc[:0],
            table,
            None,
            target=self.target,
            strategy=strategy,
            target_error=target_error,
            random_state=random_state,
        )

    def ask(self, n: int = 1) -> list[int]:
        """The positions of the next points, best first; fewer, or none, where nothing is left or nothing is needed.

        What was asked and not told is not asked again.
        """
        if self.reached:
            return []
        picks = self.planner.choose(n + len(self._pending)).tolist()
        fresh = [cell for cell in picks if cell not in self._pending][:n]
        self._pending.update(fresh)
        return [self._positions[cell] for cell in fresh]

    def tell(self, position: int, value: float | None) -> None:
        """Take in what was observed at a point, in the property's own unit; None where the measurement failed."""
        cell = self._cells[position]
        self._pending.discard(cell)
        known = value is not None and math.isfinite(value) and value > 0
        self.planner.tell(cell, value * self._factor if known and value is not None else None)

    @property
    def reached(self) -> bool:
        """Whether the error that was asked for is reached."""
        return self.planner.target_error is not None and bool(self.planner.reached())

    def summary(self) -> dict[str, Json]:
        """What is known now: how much was measured, and the median error that is forecast for the rest."""
        forecast = self.planner.forecast()
        return {
            "target": self.target,
            "n_cells": len(self.planner.space),
            "n_measured": int(self.planner.observed.sum()),
            "n_failed": int(self.planner.failed.sum()),
            "forecast_median_ape": float(forecast.median_ape) if np.isfinite(forecast.median_ape) else None,
        }


def _table(
    points: Sequence[Mapping[str, Json]], columns: Mapping[str, str], constants: Mapping[str, Json]
) -> pd.DataFrame:
    """The points as a canonical table, in their order."""
    if not points:
        raise InputError("a space needs at least one point", got="none")
    names = {name: columns.get(name) or _column_of(name) for point in points for name in point}
    rows: list[dict[str, Json]] = []
    for point in points:
        row = dict(constants) | {names[name]: value for name, value in point.items()}
        for load in LOAD_COLUMNS:
            if row.get(load) == UNLIMITED:
                row[load] = None
        if row.get("concurrency") is not None and row.get("request_rate") is not None:
            row["option.request_rate"] = row.pop("request_rate")  # a cap on the arrivals of a closed loop
        rows.append(row)
    used = dict.fromkeys(name for row in rows for name in row)
    try:
        return build_frame({name: [row.get(name) for row in rows] for name in used}, verbatim=True)
    except FormatError as error:
        raise InputError("the points are no cells", got=error.what, hint=error.hint) from None


def _column_of(name: str) -> str:
    if name in PROPERTIES:
        return PROPERTIES[name]
    meaning = meaning_of(name)
    return meaning.column if meaning is not None and meaning.column in CASE_COLUMNS else f"{OPTION_PREFIX}{name}"
