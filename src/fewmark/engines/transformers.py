"""Hugging Face transformers: a causal language model from a shape or a checkpoint, as a static batch.

The deployment's `model` is a named shape (`fewmark.engines.shapes`), the path of a config.json, or a checkpoint's
directory. Engine options:

config
    Where the dimensions come from when `model` is only a name: a path, or a mapping of configuration fields (over the
    named shape, if `model` is one).
weights
    ``random`` or ``checkpoint``; by default whatever the directory holds. Checkpoints are read from safetensors only.
threads
    Compute threads on a CPU.
attention
    transformers' ``attn_implementation``: ``sdpa``, ``eager``, ``flash_attention_2``…
"""

from __future__ import annotations

import gc
import importlib.util
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.engines.base import Availability, CaseFailure
from fewmark.engines.host import available_memory_bytes
from fewmark.engines.registry import installed_version
from fewmark.engines.shapes import SHAPES

OPTIONS: Final = frozenset({"attention", "config", "threads", "weights"})
SINGLE: Final = frozenset({"num_nodes", "accelerators_per_node"})  # of suites for clusters; here always one
DTYPES: Final[Mapping[str, str]] = {
    "fp32": "float32",
    "float32": "float32",
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
}
INSTALL: Final = "pip install 'fewmark[transformers]'"


class TransformersEngine:
    """`model.generate` on a static batch, with the clock read at every step."""

    def __init__(self) -> None:
        self._model: Any = None
        self._facts: dict[str, Any] = {}
        self._text: Any = None

    @classmethod
    def probe(cls) -> Availability:
        """Whether torch and transformers are installed, without importing them."""
        missing = [name for name in ("torch", "transformers", "safetensors") if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(False, reason=f"not installed: {', '.join(missing)}", install=INSTALL)
        return Availability(True, version=installed_version("transformers"))

    def load(self, deployment: Deployment) -> None:
        """Build or read the model. Raises `CaseFailure` for what this engine or this machine cannot run."""
        import torch

        options = thaw(deployment.engine_options)
        for name in SINGLE & set(options):
            if (count := options.pop(name)) != 1:
                raise _unsupported(f"this engine runs on one node and one accelerator, not {name} = {count!r}")
        if unknown := set(options) - OPTIONS:
            raise _unsupported(f"unknown engine options {sorted(unknown)}; known: {', '.join(sorted(OPTIONS))}")
        config, checkpoint = _resolve(deployment.model, options)
        device = _device(deployment)
        dtype = _dtype(deployment.precision, config)
        if (threads := options.get("threads")) is not None:
            if not isinstance(threads, int) or threads < 1:
                raise _unsupported(f"threads must be a whole number of at least 1, not {threads!r}")
            torch.set_num_threads(threads)
        attention = options.get("attention")
        parameters = _check_memory(config, dtype, device)
        try:
            self._model = _build(config, checkpoint, dtype, device, attention)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CaseFailure(Status.OUT_OF_MEMORY, f"the weights do not fit: {_first_line(error)}") from None
        self._text = config.get_text_config()
        self._facts = {
            "engine_version": installed_version("transformers"),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cuda": torch.version.cuda if device.type == "cuda" else None,
            "dtype": str(dtype).removeprefix("torch."),
            "parameters": parameters,
            "weights": "checkpoint" if checkpoint else "random",
            "attention": getattr(self._model.config, "_attn_implementation", None),
            "threads": torch.get_num_threads(),
        }

    def check(self, workload: Workload) -> None:
        """Refuse what is no static batch, what exceeds the context, and what cannot fit into memory."""
        n_in, n_out, batch = workload.input_tokens, workload.output_tokens, workload.batch_size
        if batch is None:
            raise _unsupported("transformers runs static batches: give a batch_size, not a concurrency")
        if workload.options:
            raise _unsupported(f"transformers knows no workload option {', '.join(workload.options)}")
        if not (float(n_in).is_integer() and float(n_out).is_integer()):
            raise _unsupported(f"input and output tokens must be whole numbers, not {n_in:g} and {n_out:g}")
        context = getattr(self._text, "max_position_embeddings", None)
        if context is not None and n_in + n_out > context:
            raise _unsupported(
                f"{n_in:g} input and {n_out:g} output tokens exceed the model's context of {context} tokens"
            )
        needed = _kv_cache_bytes(self._text, self._model.dtype.itemsize) * batch * (n_in + n_out)
        free = _free_memory(self._model.device)
        if free is not None and needed > free:
            raise CaseFailure(
                Status.OUT_OF_MEMORY,
                f"the KV cache alone needs {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free",
            )

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One `generate` of exactly the asked length on fresh random prompts."""
        import torch

        batch, n_in, n_out = workload.load, int(workload.input_tokens), int(workload.output_tokens)
        device = self._model.device
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self._text.vocab_size, (batch, n_in), generator=draw).to(device)
        clock = _clock(device)
        try:
            began = clock.now()
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=n_out,
                max_new_tokens=n_out,
                eos_token_id=None,
                pad_token_id=0,
                streamer=clock,
            )
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = _first_line(error)
        else:
            times = tuple(moment - began for moment in clock.steps)
            if not times:
                raise CaseFailure(Status.INVALID, "the engine produced no token")
            return Sample(
                e2e_latency_s=times[-1],
                ttft_s=times[0],
                output_tokens=int(output.shape[1]) - n_in,
                token_times_s=times,
            )
        # Out of the handler, so that the traceback no longer holds the tensors that did not fit.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise CaseFailure(Status.OUT_OF_MEMORY, reason)

    def close(self) -> None:
        """Drop the model."""
        self._model = None
        gc.collect()

    def environment(self) -> Mapping[str, Any]:
        """Versions, device, data type, threads, number of parameters."""
        return {key: value for key, value in self._facts.items() if value is not None}


def _clock(device: Any) -> Any:
    """A streamer that records the moment of each step; the first thing put is the prompt, which is no step."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    class Clock(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.prompted = False
            self.steps: list[float] = []

        def now(self) -> float:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter()

        def put(self, value: Any) -> None:
            if self.prompted:
                self.steps.append(self.now())
            self.prompted = True

        def end(self) -> None:
            pass

    return Clock()


def _resolve(model: str, options: Mapping[str, Any]) -> tuple[Any, Path | None]:
    """The configuration, and the checkpoint's directory where its weights are to be used."""
    from transformers import AutoConfig

    given, weights = options.get("config"), options.get("weights")
    if weights not in (None, "random", "checkpoint"):
        raise _unsupported(f"weights must be 'random' or 'checkpoint', not {weights!r}")
    path = Path(given) if isinstance(given, str) else Path(model)
    fields: dict[str, Any] | None = None
    if isinstance(given, Mapping):
        fields = {**SHAPES.get(model, {}), **given}
    elif given is None and model in SHAPES:
        fields = dict(SHAPES[model])
    elif path.is_file():
        fields = _read_config(path)
    if fields is not None:
        if weights == "checkpoint":
            raise _unsupported("weights 'checkpoint' needs the directory of a checkpoint as model or config")
        kind = fields.pop("model_type", None)
        try:
            return AutoConfig.for_model(kind, **fields), None
        except Exception as error:  # transformers validates each model's fields in its own way
            raise _unsupported(f"not a configuration that transformers knows: {_first_line(error)}") from None
    if not path.is_dir():
        raise _unsupported(
            f"{str(path)!r} is neither a named shape ({', '.join(SHAPES)}) nor a config.json or a checkpoint directory"
        )
    config = _config_of(path)
    tensors = any(path.glob("*.safetensors"))
    if weights == "random":
        return config, None
    if not tensors and (weights == "checkpoint" or any(path.glob("*.bin")) or any(path.glob("*.pt*"))):
        raise _unsupported(
            f"{path} holds no safetensors; weights that need unpickling are never read: convert them, or ask for "
            "engine option weights: random"
        )
    return config, path if tensors else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unsupported(f"{path} is not a readable config.json: {_first_line(error)}") from None
    if not isinstance(fields, dict):
        raise _unsupported(f"{path} is not a config.json: it must hold an object")
    return fields


def _config_of(path: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise _unsupported(f"{path} has no configuration that transformers knows: {_first_line(error)}") from None


def _build(config: Any, checkpoint: Path | None, dtype: Any, device: Any, attention: str | None) -> Any:
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
        raise _unsupported(f"transformers cannot build this model: {_first_line(error)}") from None
    # Defaults that a checkpoint brings along (sampling, end of text) must not shape what is measured.
    model.generation_config = type(model.generation_config)()
    return model.eval()


def _device(deployment: Deployment) -> Any:
    import torch

    for name in ("accelerator_count", "tensor_parallel_size"):
        count = getattr(deployment, name)
        if count is not None and count > 1:
            raise _unsupported(f"transformers runs on one accelerator here: {name} is {count}")
    placement, asked = deployment.placement or "accelerator", deployment.accelerator
    if placement not in ("accelerator", "cpu"):
        raise _unsupported(f"placement {thaw(placement)!r} is not available with transformers: accelerator or cpu")
    on_cpu = asked is not None and re.search(r"(?i)\bcpu\b", asked) is not None
    if placement == "cpu" and asked is not None and not on_cpu:
        raise _unsupported(f"weights on the CPU with computation on {asked} are not available with transformers")
    if on_cpu or placement == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if asked is not None:
            raise _unsupported(f"the deployment asks for {asked}; torch finds no CUDA device on this machine")
        return torch.device("cpu")
    name = torch.cuda.get_device_name(0)
    if asked is not None and not _words(asked) <= _words(name):
        raise _unsupported(f"the deployment asks for {asked}; this machine has {name}")
    return torch.device("cuda", 0)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower())) - {"nvidia", "amd", "gpu", "cuda"}


def _dtype(precision: str | None, config: Any) -> Any:
    import torch

    if precision is None:
        declared = getattr(config, "dtype", None)
        return declared if isinstance(declared, torch.dtype) else torch.float32
    if precision.lower() not in DTYPES:
        raise _unsupported(f"precision {precision!r} is not available with transformers: fp32, fp16 or bf16")
    return getattr(torch, DTYPES[precision.lower()])


def _check_memory(config: Any, dtype: Any, device: Any) -> int:
    """Count the parameters on a device without storage, and refuse what cannot fit before time is spent on it."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            parameters = int(sum(p.numel() for p in AutoModelForCausalLM.from_config(config, dtype=dtype).parameters()))
    except (ValueError, ImportError) as error:
        raise _unsupported(f"transformers cannot build this model: {_first_line(error)}") from None
    needed = parameters * dtype.itemsize
    free = _free_memory(device)
    if free is not None and needed > free:
        raise CaseFailure(
            Status.OUT_OF_MEMORY,
            f"the weights alone need {needed / 2**30:.1f} GiB ({parameters:,} parameters in "
            f"{str(dtype).removeprefix('torch.')}); {free / 2**30:.1f} GiB are free",
        )
    return parameters


def _kv_cache_bytes(text: Any, itemsize: int) -> int:
    """Bytes of keys and values for each token of each sequence; 0 where the configuration does not tell."""
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    hidden = getattr(text, "hidden_size", None)
    if not (layers and heads and hidden):
        return 0
    width = getattr(text, "head_dim", None) or hidden // heads
    return int(2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * width * itemsize)


def _free_memory(device: Any) -> int | None:
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory_bytes()


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return bool(re.search(r"(?i)out of memory|can't allocate memory|not enough memory", str(error)))


def _unsupported(reason: str) -> CaseFailure:
    return CaseFailure(Status.UNSUPPORTED, reason)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
