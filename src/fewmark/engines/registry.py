"""The engines that there are: the built-in ones, and any that a package registers as entry point "fewmark.engines"."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Final

from fewmark.core import EngineError
from fewmark.engines.base import Availability, Engine

ENTRY_POINT_GROUP: Final = "fewmark.engines"
BUILT_IN: Final[Mapping[str, str]] = {
    "transformers": "fewmark.engines.transformers.engine:TransformersEngine",
    "vllm": "fewmark.engines.vllm:VllmEngine",
    "llama.cpp": "fewmark.engines.llama_cpp:LlamaCppEngine",
    "openvino": "fewmark.engines.openvino:OpenVinoEngine",
    "onnxruntime": "fewmark.engines.onnxruntime:OnnxRuntimeEngine",
    "deepspeed": "fewmark.engines.deepspeed:DeepSpeedEngine",
    "openai": "fewmark.engines.openai.engine:OpenAIEngine",
    "replay": "fewmark.engines.replay:ReplayEngine",
}


def engine_names() -> tuple[str, ...]:
    """The names of all engines known to this interpreter, built-in ones first."""
    return tuple(_known())


def is_known(name: str) -> bool:
    """Whether there is an engine of this name."""
    return name in BUILT_IN or name in _known()


def engine_class(name: str) -> type[Engine]:
    """The class behind an engine's name.

    Raises
    ------
    EngineError
        If the name is unknown, or the package that registers it cannot be imported.
    """
    known = BUILT_IN if name in BUILT_IN else _known()  # asking the packages that are installed takes a while
    if name not in known:
        raise EngineError("unknown engine", got=name, hint=f"known here: {', '.join(known)}; see `fewmark engines`")
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a third party's module may fail in any way
        raise EngineError(
            f"the engine {name!r} is registered but cannot be imported",
            got=f"{known[name]}: {type(error).__name__}: {error}",
            hint="repair or remove the package that registers it",
        ) from error
    return found  # type: ignore[no-any-return]


def probe(name: str) -> Availability:
    """Whether the engine can run in this interpreter; a broken engine is one that cannot. Raises on unknown names."""
    if not is_known(name):
        engine_class(name)
    try:
        return engine_class(name).probe()
    except Exception as error:  # one broken third-party engine must not hide the others
        return Availability(False, reason=" ".join(str(error).split()))


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, read from its metadata; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _known() -> dict[str, str]:
    found = {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return {**BUILT_IN, **{name: value for name, value in sorted(found.items()) if name not in BUILT_IN}}
