"""The packaged table as ALA sees it: deployments, each with ii, oo, bb and throughput."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.tables.cells import read_cells
from fewmark.tables.repeats import median_of_repeats

FloatArray = NDArray[np.float64]
_FAMILIES = ("Llama", "Mistral", "Mixtral", "Qwen", "DeciLM")


@dataclass(frozen=True)
class DeploymentData:
    """The cells of one deployment: X (n, 3) with ii, oo, bb; y (n,) throughput in tok/s; and what it runs on."""

    model: str
    family: str
    engine: str
    accelerator: str
    accelerator_count: float
    X: FloatArray
    y: FloatArray

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.model.rpartition('/')[2]}, {self.engine}, {self.accelerator_count:g} x {self.accelerator}"

    @property
    def pairs(self) -> FloatArray:
        """Its distinct (ii, oo), ordered by their sum."""
        pairs = np.unique(self.X[:, :2], axis=0)
        return np.asarray(pairs[np.lexsort((pairs[:, 0], pairs.sum(axis=1)))])

    @property
    def batches(self) -> FloatArray:
        """Its distinct batch sizes, rising."""
        return np.asarray(np.unique(self.X[:, 2]))

    def ranks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Each cell's position among the pairs and among the batch sizes."""
        total = self.X[:, :2].sum(axis=1)
        return np.searchsorted(self.pairs.sum(axis=1), total), np.searchsorted(self.batches, self.X[:, 2])


def family(model: str) -> str:
    """The model's family, by its name without its publisher's."""
    own = model.rpartition("/")[2]
    return next((name for name in _FAMILIES if re.search(name, own, re.IGNORECASE)), "other")


def read_deployments(table: pd.DataFrame) -> list[DeploymentData]:
    """The deployments of a canonical table with at least 16 cells, 4 pairs and 4 batch sizes, repeats reduced to
    medians.

    Raises
    ------
    InputError
        If there is none.
    """
    usable = table[table["batch_size"].notna() & (table["throughput_tok_s"] > 0)]
    X, y = median_of_repeats(usable.reset_index(drop=True), usable["throughput_tok_s"].to_numpy(float))
    X = X.reset_index(drop=True)
    cells = read_cells(X)
    found = []
    for code in range(len(cells.deployments)):
        rows = np.flatnonzero(cells.deployment == code)
        data = np.column_stack([cells.input_tokens, cells.output_tokens, cells.load])[rows]
        if len(rows) < 16 or len(np.unique(data[:, :2], axis=0)) < 4 or len(np.unique(data[:, 2])) < 4:
            continue
        about = cells.deployments.iloc[code]
        found.append(
            DeploymentData(
                model=str(about["model"]),
                family=family(str(about["model"])),
                engine=str(about["engine"]),
                accelerator=str(about["accelerator"]),
                accelerator_count=float(about["accelerator_count"]),
                X=data,
                y=y[rows],
            )
        )
    if not found:
        raise InputError("no deployment has 16 cells, 4 pairs and 4 batch sizes", got=f"{len(table)} rows")
    return found
