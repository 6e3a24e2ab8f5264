"""How a verb learns from what is known: every verb in the same way, so that none contradicts another."""

from __future__ import annotations

import pandas as pd

from fewmark.models.base import Model, learned_columns
from fewmark.models.cache import FittedModels
from fewmark.models.registry import make_model
from fewmark.tables.arrays import FloatArray
from fewmark.tables.repeats import target_cells


def fitted_model(
    table: pd.DataFrame, model: str, target: str, models: FittedModels, *, random_state: int = 0, prior: bool = True
) -> tuple[Model, pd.DataFrame, FloatArray]:
    """The model fitted on the cells of a table of measurements, these cells (n of them), and their values (n,).

    Raises
    ------
    InputError, ModelError
        If the model or target is unknown, or there is nothing to learn from.
    """
    unfitted = make_model(model, target=target, random_state=random_state, prior=prior)
    cells, values = target_cells(table, target, related=unfitted.uses_metrics)
    return models.fit(unfitted, cells[learned_columns(cells, unfitted)], values), cells, values
