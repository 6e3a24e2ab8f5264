"""How a verb learns from what is known: every verb in the same way, so that none contradicts another."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from fewmark.models.base import Model, learned_columns
from fewmark.models.cache import FittedModels
from fewmark.models.registry import make_model
from fewmark.tables.arrays import FloatArray
from fewmark.tables.identity import cell_columns
from fewmark.tables.repeats import target_cells


@dataclass
class Learner:
    """Fits a model to the cells of a table of measurements, a metric at a time.

    A metric of the same cells that a model fitted before tells of as well is answered by that model.
    """

    table: pd.DataFrame
    model: str
    models: FittedModels
    random_state: int = 0
    prior: bool = True
    fitted: list[tuple[Model, pd.DataFrame]] = field(default_factory=list)

    def fit(self, target: str) -> tuple[Model, pd.DataFrame, FloatArray]:
        """The fitted model, the cells that it learned from (n of them), and their values (n,).

        Raises
        ------
        InputError, ModelError
            If the model or target is unknown, or there is nothing to learn from.
        """
        unfitted = make_model(self.model, target=target, random_state=self.random_state, prior=self.prior)
        cells, values = target_cells(self.table, target, related=unfitted.uses_metrics)
        for model, known in self.fitted:
            names = cell_columns(cells)
            if len(known) == len(cells) and known[names].equals(cells[names]):
                other = model.for_target(target)
                if other is not None:
                    return other, cells, values
        fitted = self.models.fit(unfitted, cells[learned_columns(cells, unfitted)], values)
        self.fitted.append((fitted, cells))
        return fitted, cells, values


def fitted_model(
    table: pd.DataFrame, model: str, target: str, models: FittedModels, *, random_state: int = 0, prior: bool = True
) -> tuple[Model, pd.DataFrame, FloatArray]:
    """As `Learner.fit`, of one metric alone."""
    return Learner(table, model, models, random_state, prior).fit(target)
