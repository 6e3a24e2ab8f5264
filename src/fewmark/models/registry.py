"""Models by name, each imported when it is made; third parties add theirs by the entry-point group fewmark.models."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from fewmark.core.errors import ModelError
from fewmark.core.metric_names import metric_hint
from fewmark.core.metrics import ALL_TARGETS
from fewmark.core.near_names import did_you_mean
from fewmark.models.base import Model

GROUP: Final = "fewmark.models"
MODELS: Final[Mapping[str, str]] = {
    "auto": "fewmark.models.auto.by_load:AutoByLoad",
    "ala": "fewmark.models.ala.regressor:AlaModel",
    "mechanistic": "fewmark.models.analytic.mechanistic:Mechanistic",
    "loglog": "fewmark.models.baselines.loglog:LogLogInterpolation",
    "xgboost": "fewmark.models.baselines.learners:XGBoostBaseline",
    "gradient-boosting": "fewmark.models.baselines.learners:GradientBoostingBaseline",
    "random-forest": "fewmark.models.baselines.learners:RandomForestBaseline",
    "linear": "fewmark.models.baselines.learners:LinearBaseline",
}


def model_names() -> list[str]:
    """The names of all models, ours first."""
    return [*MODELS, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in MODELS)]


def make_model(
    name: str, *, target: str = "throughput_tok_s", random_state: int = 0, prior: bool = False, **parameters: Any
) -> Model:
    """A model that has not been fitted. Point predictors come inside conformal intervals.

    With `prior` a model that can joins what public measurements teach (`fewmark.models.auto.public_prior`) to a small
    table.

    Raises
    ------
    ModelError
        If no model has that name, or the target is not known.

    Examples
    --------
    >>> from fewmark.models.registry import make_model
    >>> make_model("mechanistic", target="ttft_s").target
    'ttft_s'
    """
    if target not in ALL_TARGETS:
        raise ModelError("no such target", got=target, hint=metric_hint(target))
    found = model_class(name)
    if isinstance(found, type) and issubclass(found, Model):
        if prior and found.uses_prior:
            parameters["prior"] = True
        return found(target=target, random_state=random_state, **parameters)
    from fewmark.models.conformal.cross_conformal import CrossConformal

    return CrossConformal(name, found, target=target, random_state=random_state, **parameters)


def model_class(name: str) -> Any:
    """The class behind a name: a `Model`, or a point predictor. Raises `ModelError` if there is none."""
    if name in MODELS:
        module, _, attribute = MODELS[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    loaders: dict[str, Callable[[], Any]] = {point.name: point.load for point in entry_points(group=GROUP)}
    if name in loaders:
        return loaders[name]()
    raise ModelError("no model by that name", got=name, hint=did_you_mean(name, model_names()))
