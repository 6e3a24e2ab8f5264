"""A fitted `auto` as data: JSON-ready values and arrays, with a version.

Only what was measured and learned is kept; factors of covariances are made again when they are first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.facts.facts import load_facts
from fewmark.models.auto.covariance import parts
from fewmark.models.auto.experts import Hyper, Pool
from fewmark.models.auto.features import is_whole
from fewmark.models.gp.kernel import Inputs, Kernel

VERSION: Final = 4
_HINT: Final = "fit it again with this version of fewmark"

Names = dict[str, dict[str, int]]


def write(
    parameters: dict[str, Any], names: Names, hypers: Sequence[Hyper], pools: Sequence[Pool]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The state of a fitted model."""
    state = {
        "version": VERSION,
        "parameters": parameters,
        "names": names,
        "known": _known(parameters["facts"], names),
        "unseen": [sorted(hyper.unseen) for hyper in hypers],
        "parts": [part.name for part in parts()],
    }
    arrays: dict[str, NDArray[Any]] = {
        "theta": np.array([hyper.theta for hyper in hypers]),
        "log_scale": np.array([hyper.log_scale for hyper in hypers]),
        "pool": np.concatenate([np.full(len(pool.axes), i) for i, pool in enumerate(pools)]),
        "values": np.vstack([pool.posterior.inputs.values for pool in pools]),
        "codes": np.vstack([pool.posterior.inputs.codes for pool in pools]),
        "axes": np.vstack([pool.axes for pool in pools]),
        "kept": np.vstack([pool.kept for pool in pools]),
        "residual": np.concatenate([pool.posterior.y for pool in pools]),
        "variance": np.concatenate([pool.posterior.variance for pool in pools]),
        "noise": np.concatenate([pool.noise for pool in pools]),
    }
    doubts = [pool.posterior.inputs.doubt for pool in pools]
    if any(doubt is not None for doubt in doubts):
        shares = zip(doubts, pools, strict=True)
        arrays["doubt"] = np.concatenate([np.zeros(len(p.axes)) if doubt is None else doubt for doubt, p in shares])
    return state, arrays


def read(
    state: dict[str, Any], arrays: dict[str, NDArray[Any]]
) -> tuple[dict[str, Any], Names, list[Hyper], list[Pool]]:
    """Parameters, names, hyperparameters and pools. Raises `ModelError` on what it does not know."""
    if not isinstance(state, dict) or state.get("version") != VERSION:
        got = state.get("version") if isinstance(state, dict) else state
        raise ModelError(f"a saved auto model must have version {VERSION}", got=got, hint=_HINT)
    if state.get("parts") != [part.name for part in parts()]:
        raise ModelError("a saved auto model has another covariance than this version", hint=_HINT)
    try:
        parameters = {**state["parameters"], "facts": tuple(state["parameters"]["facts"])}
        names = {str(c): {str(k): int(v) for k, v in m.items()} for c, m in state["names"].items()}
        if state["known"] != _known(parameters["facts"], names):
            raise ModelError(
                "published facts of its models or accelerators are others than when it was fitted", hint=_HINT
            )
        kernel = Kernel(parts())
        hypers = [
            Hyper(np.asarray(theta, dtype=np.float64), float(scale), frozenset(int(d) for d in unseen))
            for theta, scale, unseen in zip(arrays["theta"], arrays["log_scale"], state["unseen"], strict=True)
        ]
        if not hypers or any(hyper.theta.shape != (kernel.size,) for hyper in hypers):
            raise ValueError("hyperparameters of another size")
        pools = []
        for number in np.unique(arrays["pool"]):
            rows = np.flatnonzero(arrays["pool"] == number)
            doubt = arrays["doubt"][rows] if "doubt" in arrays else None
            inputs = Inputs(arrays["values"][rows], arrays["codes"][rows].astype(np.int64), doubt)
            noise = (arrays["variance"][rows], arrays["noise"][rows])
            pools.append(
                Pool(
                    hypers[0], hypers[1:], inputs, arrays["residual"][rows], arrays["axes"][rows],
                    arrays["kept"][rows], int(parameters["random_state"]), noise, whole=is_whole(parameters["target"]),
                )
            )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError("a saved auto model is incomplete", got=repr(error), hint=_HINT) from error
    return parameters, names, hypers, pools


def _known(files: Sequence[str], names: Names) -> str:
    """What the published facts say of the models and accelerators that were learned from."""
    return load_facts(tuple(files)).digest(names.get("model", ()), names.get("accelerator", ()))
