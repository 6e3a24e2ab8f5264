"""From a deployment's model to a torch module: shapes, checkpoints, data types, the clock of the steps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fewmark.core.json_types import JsonObject
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.checkpoints.source import read_config, unsupported

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

DTYPES: Final[Mapping[str, str]] = {
    "fp32": "float32",
    "float32": "float32",
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
}


class Clock(Protocol):
    """A streamer of transformers that knows when each step was over."""

    steps: list[float]

    def now(self) -> float:
        """This moment, in seconds, when all that the device was asked for is done."""


def clock(device: torch.device, on_step: Callable[[], None] | None = None) -> Clock:
    """A streamer that records the moment of each step; the first thing put is the prompt, which is no step.

    `on_step` is called after the moment of each step has been read: what it takes belongs to the next step.
    """
    import torch
    from transformers.generation.streamers import BaseStreamer

    class StepClock(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.prompted = False
            self.steps: list[float] = []

        def now(self) -> float:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter()

        def put(self, value: object) -> None:
            if self.prompted:
                self.steps.append(self.now())
                if on_step is not None:
                    on_step()
            self.prompted = True

        def end(self) -> None:
            pass

    return StepClock()


def resolve(model: str, options: JsonObject) -> tuple[PretrainedConfig, Path | None]:
    """The configuration, and the checkpoint's directory where its weights are to be used."""
    from transformers import AutoConfig

    given, weights = options.get("config"), options.get("weights")
    if weights not in (None, "random", "checkpoint"):
        raise unsupported(f"weights must be 'random' or 'checkpoint', not {weights!r}")
    path = Path(given) if isinstance(given, str) else Path(model)
    fields: dict[str, object] | None = None
    if isinstance(given, Mapping):
        fields = {**SHAPES.get(model, {}), **given}
    elif given is None and model in SHAPES:
        fields = dict(SHAPES[model])
    elif path.is_file():
        fields = dict(read_config(path))
    if fields is not None:
        if weights == "checkpoint":
            raise unsupported("weights 'checkpoint' needs the directory of a checkpoint as model or config")
        kind = fields.pop("model_type", None)
        try:
            return AutoConfig.for_model(kind, **fields), None
        except Exception as error:  # transformers validates each model's fields in its own way
            raise unsupported(f"not a configuration that transformers knows: {first_line(error)}") from None
    if not path.is_dir():
        raise unsupported(
            f"{str(path)!r} is neither a named shape ({', '.join(SHAPES)}) nor a config.json or a checkpoint directory"
        )
    config = _config_of(path)
    tensors = any(path.glob("*.safetensors"))
    if weights == "random":
        return config, None
    if not tensors and (weights == "checkpoint" or any(path.glob("*.bin")) or any(path.glob("*.pt*"))):
        raise unsupported(
            f"{path} holds no safetensors; weights that need unpickling are never read: convert them, or ask for "
            "engine option weights: random"
        )
    return config, path if tensors else None


def _config_of(path: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise unsupported(f"{path} has no configuration that transformers knows: {first_line(error)}") from None


def build(
    config: PretrainedConfig,
    checkpoint: Path | None,
    dtype: torch.dtype,
    device: torch.device,
    attention: str | None,
) -> PreTrainedModel:
    """The model with its weights on the device. Raises `CaseFailure`."""
    import torch
    from transformers import AutoModelForCausalLM

    extra = {} if attention is None else {"attn_implementation": attention}
    try:
        if checkpoint is not None:
            model = AutoModelForCausalLM.from_pretrained(
                checkpoint,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                **extra,
            ).to(device)
        else:
            torch.manual_seed(0)
            with device:
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, **extra)
    except (ValueError, ImportError) as error:
        raise unsupported(f"transformers cannot build this model: {first_line(error)}") from None
    # Defaults that a checkpoint brings along (sampling, end of text) must not shape what is measured.
    model.generation_config = type(model.generation_config)()
    return model.eval()


def dtype_of(precision: str | None, config: PretrainedConfig) -> torch.dtype:
    import torch

    if precision is None:
        declared = getattr(config, "dtype", None)
        return declared if isinstance(declared, torch.dtype) else torch.float32
    if precision.lower() not in DTYPES:
        raise unsupported(f"precision {precision!r} is not available with transformers: fp32, fp16 or bf16")
    return getattr(torch, DTYPES[precision.lower()])


def is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return bool(re.search(r"(?i)out of memory|can't allocate memory|not enough memory", str(error)))


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
