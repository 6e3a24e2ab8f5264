"""What a deployment's `model` stands for, told without any library: fields of a configuration, or a checkpoint.

The same rules for every engine: a named shape (`fewmark.engines.checkpoints.shapes`), the path of a config.json, a
checkpoint's directory, or with the engine option ``config`` a path or a mapping of fields over the named shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from fewmark.core import Deployment, FrozenMap, InputError, Status, Workload
from fewmark.core.errors import MALFORMED
from fewmark.core.files import read_text
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import CaseFailure
from fewmark.engines.checkpoints.model_config import ModelConfig
from fewmark.engines.checkpoints.shapes import SHAPES

MAX_CONFIG_BYTES: Final = 16 * 2**20
SINGLE: Final = frozenset({"num_nodes", "accelerators_per_node"})


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The fields of the configuration, and where the weights are to be read; None: they are random."""

    fields: ModelConfig
    checkpoint: Path | None = None


def model_source(model: str, options: JsonObject) -> ModelSource:
    """Find out what `model` is. Raises `CaseFailure` (``unsupported``) for what is none of these."""
    given, weights = options.get("config"), options.get("weights")
    if weights not in (None, "random", "checkpoint"):
        raise unsupported(f"weights must be 'random' or 'checkpoint', not {weights!r}")
    if given is not None and not isinstance(given, (str, Mapping)):
        raise unsupported(f"config must be a path or a mapping of fields, not {given!r}")
    path = Path(given) if isinstance(given, str) else Path(model)
    if isinstance(given, Mapping):
        source = ModelSource(cast(ModelConfig, {**SHAPES.get(model, {}), **given}))
    elif given is None and model in SHAPES:
        source = ModelSource(SHAPES[model].copy())
    elif path.is_dir():
        has_weights = any(path.glob("*.safetensors"))
        source = ModelSource(read_config(path / "config.json"), path if has_weights and weights != "random" else None)
    elif path.is_file():
        source = ModelSource(read_config(path))
    else:
        raise unsupported(
            f"{str(path)!r} is neither a named shape ({', '.join(SHAPES)}) nor a config.json or a checkpoint directory"
        )
    if weights == "checkpoint" and source.checkpoint is None:
        raise unsupported("weights 'checkpoint' needs a directory with safetensors as model or config")
    if "model_type" not in source.fields:
        raise unsupported("the configuration names no model_type")
    return source


def check_single(options: dict[str, Json], engine: str) -> None:
    """Take out what suites for clusters say of nodes. Raises `CaseFailure` where it is more than one of them."""
    for name in sorted(SINGLE & set(options)):
        if (count := options.pop(name)) != 1:
            raise unsupported(f"{engine} runs here on one node and one accelerator of it: {name} is {count!r}")


def check_options(options: dict[str, Json], known: frozenset[str], engine: str) -> None:
    """Take out what suites for clusters say of nodes; refuse more than one, and what is not `known`.

    Raises `CaseFailure` (``unsupported``).
    """
    check_single(options, engine)
    if unknown := set(options) - known:
        raise unsupported(f"unknown engine options {sorted(unknown)}; known: {', '.join(sorted(known))}")


def without_options(deployment: Deployment, names: frozenset[str]) -> Deployment:
    """The deployment without these engine options: two that are alike then differ in these alone."""
    kept = {name: value for name, value in deployment.engine_options.items() if name not in names}
    return replace(deployment, engine_options=FrozenMap(kept))


def check_on_cpu(deployment: Deployment, engine: str) -> None:
    """Refuse what an engine that runs on the CPU alone cannot place. Raises `CaseFailure` (``unsupported``)."""
    if deployment.placement not in (None, "accelerator", "cpu"):
        raise unsupported(f"placement {thaw(deployment.placement)!r} is not available with {engine}")
    if deployment.accelerator is not None and "cpu" not in deployment.accelerator.lower():
        raise unsupported(f"{engine} is run on the CPU here, not on {deployment.accelerator}")


def check_workload(workload: Workload, context: int | None, engine: str) -> None:
    """Refuse what no engine of this kind can run. Raises `CaseFailure` (``unsupported``)."""
    n_in, n_out = workload.input_tokens, workload.output_tokens
    if workload.options:
        raise unsupported(f"{engine} knows no workload option {', '.join(workload.options)}")
    if not (float(n_in).is_integer() and float(n_out).is_integer()):
        raise unsupported(f"input and output tokens must be whole numbers, not {n_in:g} and {n_out:g}")
    if context is not None and n_in + n_out > context:
        raise unsupported(f"{n_in:g} input and {n_out:g} output tokens exceed the context of {context} tokens")


def unsupported(reason: str) -> CaseFailure:
    """A failure that says what cannot be done."""
    return CaseFailure(Status.UNSUPPORTED, reason)


def whole(options: JsonObject, name: str, default: int) -> int:
    """A positive whole number among the options. Raises `CaseFailure`."""
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise unsupported(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def text_option(options: JsonObject, name: str) -> str | None:
    """A text among the options, None where it is left out. Raises `CaseFailure`."""
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise unsupported(f"{name} must be text, not {value!r}")
    return value


def read_config(path: Path) -> ModelConfig:
    """The fields of a config.json. Raises `CaseFailure` (``unsupported``) where it is none."""
    try:
        fields: object = json.loads(read_text(path, max_bytes=MAX_CONFIG_BYTES, what="a config.json"))
    except (*MALFORMED, InputError) as error:
        raise unsupported(f"{path} is not a readable config.json: {error}") from None
    if not isinstance(fields, dict):
        raise unsupported(f"{path} is not a config.json: it must hold an object")
    return cast(ModelConfig, fields)
