"""From an engine's name to a loaded engine, with every failure as a value."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

from fewmark.core import Deployment, EngineError, FrozenMap, Status
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json
from fewmark.core.text import brief
from fewmark.engines.base import CaseFailure, Engine, Reusable
from fewmark.engines.memory import allocator
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.registry import engine_class


def ready_engine(name: str) -> Engine:
    """An engine that is installed here. Raises `EngineError` where it is unknown or cannot run in this interpreter."""
    kind = engine_class(name)
    found = kind.probe()
    if not found.available:
        raise EngineError(
            f"the engine {name!r} cannot run in {sys.executable}", got=found.reason, hint=found.install or None
        )
    return kind()


def failed_load(engine: Engine, deployment: Deployment) -> CaseFailure | None:
    """Load a deployment; what came of it if that failed, else None. The engine is closed where it failed."""
    try:
        engine.load(_settled(deployment))
    except CaseFailure as failure:
        found = failure
    except MemoryError as error:
        found = CaseFailure(Status.OUT_OF_MEMORY, f"out of memory while loading: {error}")
    except Exception as error:  # whatever an engine does is recorded, not raised
        said = f"{type(error).__name__}: {error}"
        status = Status.OUT_OF_MEMORY if speaks_of_memory(said) else Status.CRASHED
        found = CaseFailure(status, f"while loading: {said}")
    else:
        return None
    close_engine(engine)
    return found


def reloaded(engine: Engine, deployment: Deployment) -> bool:
    """Let a loaded engine go on with another deployment; False where that takes a new process."""
    if not isinstance(engine, Reusable) or leaves_allocator(deployment) or allocator.in_force() == allocator.SYSTEM:
        return False
    try:
        return engine.reload(_settled(deployment))
    except Exception:  # a new process will meet it again, and say so
        return False


def leaves_allocator(deployment: Deployment) -> bool:
    """Whether a deployment asks for the system's allocator as it is: one for which the process must be new."""
    return deployment.engine_options.get(allocator.OPTION) == allocator.SYSTEM


def _settled(deployment: Deployment) -> Deployment:
    """Settle the allocator as the deployment asks; the deployment without that option, which is not the engine's."""
    options = dict(deployment.engine_options)
    choice = options.pop(allocator.OPTION, allocator.KEEP)
    if choice not in allocator.CHOICES:
        raise CaseFailure(
            Status.UNSUPPORTED, f"allocator must be one of {', '.join(allocator.CHOICES)}, not {brief(choice)}"
        )
    if not allocator.settle(choice):
        raise CaseFailure(
            Status.UNSUPPORTED, "the allocator of this process was set before: allocator: system needs a new process"
        )
    return replace(deployment, engine_options=FrozenMap(options))


def engine_facts(engine: Engine) -> dict[str, Json]:
    """The engine's environment as JSON values; where it cannot tell, why not."""
    try:
        facts: dict[str, Json] = {"allocator": allocator.in_force()} | thaw(FrozenMap(engine.environment()))
    except Exception as error:  # facts that cannot be told are no reason not to measure
        return {"unknown": f"{type(error).__name__}: {error}"}
    return facts


def close_engine(engine: Engine) -> None:
    """Let the engine give everything back."""
    # A failure to give things back says nothing about what was measured, and the process ends anyway.
    with contextlib.suppress(Exception):
        engine.close()
