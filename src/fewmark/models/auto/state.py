"""A fitted `auto` as data: JSON-ready values and arrays, with a version.

Only what was measured and learned is kept; factors of covariances are made again when they are first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fewmark.core.errors import ModelError
from fewmark.facts.facts import load_facts
from fewmark.models.auto.covariance import components
from fewmark.models.auto.experts import LocalExpert
from fewmark.models.auto.features import is_whole
from fewmark.models.auto.hyperparameters import Hyperparameters
from fewmark.models.gp.kernel import Inputs, Kernel
from fewmark.models.state import Arrays, State, floats, listed, part, text, whole

VERSION: Final = 7
_HINT: Final = "fit it again with this version of fewmark"

Names = dict[str, dict[str, int]]


def write(
    parameters: dict[str, Any], names: Names, hypers: Sequence[Hyperparameters], experts: Sequence[LocalExpert]
) -> tuple[State, Arrays]:
    """The state of a fitted model."""
    state: State = {
        "version": VERSION,
        "parameters": parameters,
        "names": names,
        "known": _known(parameters["facts"], names),
        "unseen": [sorted(hyper.unseen) for hyper in hypers],
        "components": [component.name for component in components()],
    }
    arrays: Arrays = {
        "theta": np.array([hyper.theta for hyper in hypers]),
        "log_scale": np.array([hyper.log_scale for hyper in hypers]),
        "expert": np.concatenate([np.full(len(one.axes), i) for i, one in enumerate(experts)]),
        "values": np.vstack([one.posterior.inputs.values for one in experts]),
        "codes": np.vstack([one.posterior.inputs.codes for one in experts]),
        "axes": np.vstack([one.axes for one in experts]),
        "kept": np.vstack([one.kept for one in experts]),
        "residual": np.concatenate([one.posterior.y for one in experts]),
        "variance": np.concatenate([one.posterior.variance for one in experts]),
        "noise": np.concatenate([one.noise for one in experts]),
    }
    known_noises = [one.posterior.inputs.known_noise for one in experts]
    if any(known_noise is not None for known_noise in known_noises):
        shares = zip(known_noises, experts, strict=True)
        arrays["known_noise"] = np.concatenate(
            [np.zeros(len(p.axes)) if known_noise is None else known_noise for known_noise, p in shares]
        )
    return state, arrays


def read(state: State, arrays: Arrays) -> tuple[dict[str, Any], Names, list[Hyperparameters], list[LocalExpert]]:
    """Parameters, names, hyperparameters and experts. Raises `ModelError` on what it does not know."""
    if not isinstance(state, dict) or state.get("version") != VERSION:
        got = state.get("version") if isinstance(state, dict) else state
        raise ModelError(f"a saved auto model must have version {VERSION}", got=got, hint=_HINT)
    if state.get("components") != [component.name for component in components()]:
        raise ModelError("a saved auto model has another covariance than this version", hint=_HINT)
    try:
        held = part(state, "parameters")
        facts = tuple(map(str, listed(held, "facts")))
        parameters: dict[str, Any] = {**held, "facts": facts}
        told = part(state, "names")
        names = {column: {name: whole(part(told, column), name) for name in part(told, column)} for column in told}
        if state["known"] != _known(facts, names):
            raise ModelError(
                "published facts of its models or accelerators are others than when it was fitted", hint=_HINT
            )
        kernel = Kernel(components())
        hypers = [
            Hyperparameters(
                np.asarray(theta, dtype=np.float64),
                float(scale),
                frozenset(np.asarray(unseen, dtype=np.int64).tolist()),
            )
            for theta, scale, unseen in zip(arrays["theta"], arrays["log_scale"], listed(state, "unseen"), strict=True)
        ]
        if not hypers or any(hyper.theta.shape != (kernel.size,) for hyper in hypers):
            raise ValueError("hyperparameters of another size")
        experts = []
        for number in np.unique(arrays["expert"]):
            rows = np.flatnonzero(arrays["expert"] == number)
            known_noise = floats(arrays, "known_noise")[rows] if "known_noise" in arrays else None
            inputs = Inputs(floats(arrays, "values")[rows], arrays["codes"][rows].astype(np.int64), known_noise)
            noise = (floats(arrays, "variance")[rows], floats(arrays, "noise")[rows])
            experts.append(
                LocalExpert(
                    hypers[0], hypers[1:], inputs, floats(arrays, "residual")[rows], floats(arrays, "axes")[rows],
                    floats(arrays, "kept")[rows], whole(held, "random_state"), noise,
                    whole=is_whole(text(held, "target")),
                )
            )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError("a saved auto model is incomplete", got=repr(error), hint=_HINT) from error
    return parameters, names, hypers, experts


def _known(files: Sequence[str], names: Names) -> str:
    """What the published facts say of the models and accelerators that were learned from."""
    return load_facts(tuple(files)).digest(names.get("model", ()), names.get("accelerator", ()))
