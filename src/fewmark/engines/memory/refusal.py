"""Refuses what cannot fit, by the memory model, before time is spent on loading it."""

from __future__ import annotations

from pathlib import Path

from fewmark.core import Deployment, Status, Workload
from fewmark.engines.base import CaseFailure
from fewmark.engines.host import available_memory_bytes
from fewmark.engines.memory.footprint import ENGINE_BYTES, Footprint, Part
from fewmark.engines.memory.needs import AT_START, needs
from fewmark.engines.memory.peak import resident_bytes

MIN_WORKLOAD = Workload(1, 1, batch_size=1)  # what an engine takes before any case asks for more
CACHE = "KV cache"


def require_room_to_load(deployment: Deployment, *, device_bytes: int | None = None) -> None:
    """Refuse a deployment whose weights, reserved cache and runtime exceed what is free.

    Parameters
    ----------
    device_bytes : int, optional
        What is free on the accelerator; None: there is none, and the host's memory takes its place. An engine fits its
        cache into what the weights leave of an accelerator, so that the cache is not asked for there.

    Raises
    ------
    CaseFailure
        ``out_of_memory``, with what is needed and what there is.
    """
    needed = needs(deployment, MIN_WORKLOAD, accelerated=device_bytes is not None)
    if needed is not None:
        _refuse(needed if device_bytes is None else needed.without(CACHE), device_bytes)


def require_room_for_file(weights: Path, engine: str) -> None:
    """As `require_room_to_load`, of a model of which only the file of its weights is known."""
    parts = (Part("weights", "cpu", weights.stat().st_size), Part("engine", "cpu", ENGINE_BYTES[engine]))
    _refuse(Footprint(parts), None)


def require_room_to_run(deployment: Deployment, workload: Workload) -> None:
    """Refuse a case whose own activations exceed what the loaded engine has left of the host. Raises `CaseFailure`."""
    needed = needs(deployment, workload, accelerated=False)
    if needed is not None and (short := needed.without(*AT_START).shortage({"cpu": available_memory_bytes()})):
        raise CaseFailure(Status.OUT_OF_MEMORY, short)


def _refuse(needed: Footprint, device_bytes: int | None) -> None:
    free = available_memory_bytes()
    # what this process holds already is part of what the engine's runtime is reckoned with
    held = None if free is None else free + (resident_bytes() or 0)
    if short := needed.shortage({"accelerator": device_bytes, "cpu": held}):
        raise CaseFailure(Status.OUT_OF_MEMORY, f"to load it: {short}")
