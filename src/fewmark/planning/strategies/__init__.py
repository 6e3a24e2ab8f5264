"""The strategies, by name; several joined by ``+`` compose. Third parties add theirs by the entry-point group."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Final

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import Pipeline, State, Strategy

__all__ = ["GROUP", "Pipeline", "State", "Strategy", "make_strategy", "strategy_names"]

GROUP: Final = "fewmark.strategies"
_BUILT_IN: Final = {
    "full": "full:Full",
    "powers-of-two": "powers_of_two:PowersOfTwo",
    "reduced-output": "reduced_output:ReducedOutput",
    "coarse-inputs": "coarse_inputs:CoarseInputs",
    "stop-at-limit": "stop_at_limit:StopAtLimit",
    "random": "random:Random",
    "latin-hypercube": "latin_hypercube:LatinHypercube",
    "sobol": "sobol:Sobol",
    "annealing": "annealing:Annealing",
    "trim": "trim:Trim",
    "kernel-herding": "kernel_herding:KernelHerding",
    "adaptive": "adaptive:Adaptive",
}


def strategy_names() -> list[str]:
    """The names of all strategies."""
    return list(dict.fromkeys([*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))]))


def make_strategy(text: str) -> Strategy:
    """The strategy of that name, or several, as in ``powers-of-two+reduced-output(output_tokens=64)+adaptive``.

    Raises
    ------
    InputError
        If a name or parameter is unknown or has no sensible value.
    """
    parts = [_make(part.strip()) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Pipeline(parts)


def _make(text: str) -> Strategy:
    name, _, rest = text.partition("(")
    if name not in strategy_names():
        raise InputError(
            "unknown strategy", got=text, hint=f"one of {', '.join(strategy_names())}, or several joined by +"
        )
    kind = _kind(name)
    try:
        made = kind(**_parameters(text, rest))
    except TypeError as error:
        raise InputError(f"{name} has no such parameter", got=text, hint=str(error)) from None
    if not isinstance(made, Strategy):
        raise InputError(f"the strategy {name} lacks what a strategy needs", got=type(made).__name__)
    return made


def _kind(name: str) -> type[Strategy]:
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    else:
        (point, *_) = (point for point in entry_points(group=GROUP) if point.name == name)
        try:
            found = point.load()
        except Exception as error:  # whatever a third party's code raises
            raise InputError(f"the strategy {name} cannot be loaded", got=error, hint=point.value) from error
    return found  # type: ignore[no-any-return]


def _parameters(text: str, rest: str) -> dict[str, float]:
    if not rest:
        return {}
    out: dict[str, float] = {}
    for item in rest.removesuffix(")").split(","):
        key, _, value = item.partition("=")
        try:
            out[key.strip()] = float(value)
        except ValueError:
            raise InputError(
                "a strategy's parameters are numbers", got=text, hint="as in reduced-output(output_tokens=64)"
            ) from None
    return out
