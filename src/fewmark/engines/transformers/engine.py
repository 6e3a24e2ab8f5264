"""Hugging Face transformers: a causal language model from a shape or a checkpoint, as a static batch.

The deployment's `model` is a named shape (`fewmark.engines.checkpoints.shapes`), the path of a config.json, or a
checkpoint's directory. Engine options:

config
    Where the dimensions come from when `model` is only a name: a path, or a mapping of configuration fields (over the
    named shape, if `model` is one).
weights
    ``random`` or ``checkpoint``; by default whatever the directory holds. Checkpoints are read from safetensors only.
threads
    Compute threads on a CPU.
attention
    transformers' ``attn_implementation``: ``sdpa``, ``eager``, ``flash_attention_2``…
offload_folder
    Where weights on disk are written; by default where temporary files go. They are removed at the end.
page_cache
    ``cold`` (the default) or ``warm``: whether files are dropped from memory before each forward pass.

The engine turns to another deployment of the same model without loading it again where only `threads` or `attention`
(from one named kind to another) differ; model, precision, accelerator, placement, `config`, `weights`, `offload_folder`
and `page_cache` say what is loaded and where, so that another one of these takes a new process.

The placement ``accelerator`` keeps all with the arithmetic, ``cpu`` the weights in host memory, ``disk`` in files
(`fewmark.engines.transformers.offload`); a mapping such as ``{weights: cpu, cache: cpu}`` places both. Without an
accelerator the arithmetic is the CPU's, and ``accelerator`` and ``cpu`` are the same.
"""

from __future__ import annotations

import gc
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure
from fewmark.engines.checkpoints.source import check_options, text_option, unsupported, without_options
from fewmark.engines.host import available_memory_bytes
from fewmark.engines.memory.allocator import give_back_at_once, keep_again
from fewmark.engines.memory.footprint import Footprint, Shape, footprint, shape_of
from fewmark.engines.registry import installed_version
from fewmark.engines.transformers.model import (
    build,
    clock,
    dtype_of,
    first_line,
    is_out_of_memory,
    resolve,
)
from fewmark.engines.transformers.offload import (
    DiskFolder,
    free_disk_bytes,
    placed,
    to_cpu,
    to_disk,
    without_storage,
)

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

INSTALL: Final = "pip install 'fewmark[transformers]'"
FREE_OPTIONS: Final = frozenset({"threads", "attention"})  # which change nothing of the weights


class TransformersEngine:
    """`model.generate` on a static batch, with the clock read at every step."""

    name: ClassVar[str] = "transformers"
    options: ClassVar[frozenset[str]] = frozenset(
        {"attention", "config", "offload_folder", "page_cache", "threads", "weights"}
    )

    def __init__(self) -> None:
        self._model: PreTrainedModel | None = None
        self._facts: dict[str, Json] = {}
        self._text: PretrainedConfig  # of what is loaded, as is the device
        self._device: torch.device
        self._shape: Shape | None = None
        self._placement: tuple[str, str] = ("accelerator", "accelerator")
        self._folder: DiskFolder | None = None
        self._options: dict[str, Json] = {}
        self._deployment: Deployment | None = None
        self._own_threads: int | None = None  # torch's, before anything was asked for

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

        options = self._options = thaw(deployment.engine_options)
        self._placement = placed(thaw(deployment.placement))
        check_options(options, self.options, self.name)
        if options.get("page_cache", "cold") not in ("cold", "warm"):
            raise unsupported(f"page_cache must be 'cold' or 'warm', not {options['page_cache']!r}")
        config, checkpoint = resolve(deployment.model, options)
        self._device = _device(deployment)
        dtype = dtype_of(deployment.precision, config)
        self._set_threads(options)
        self._text = config.get_text_config()
        parameters = _parameters(config, dtype)
        self._shape = shape_of(self._text.to_dict(), parameters)
        self._check_weights(parameters, dtype, from_checkpoint=checkpoint is not None)
        try:
            self._model = self._build(config, checkpoint, dtype, options)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CaseFailure(Status.OUT_OF_MEMORY, f"the weights do not fit: {first_line(error)}") from None
        self._facts |= {
            "engine_version": installed_version(self.name),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
            "cuda": torch.version.cuda if self._device.type == "cuda" else None,
            "dtype": str(dtype).removeprefix("torch."),
            "parameters": parameters,
            "weights": "checkpoint" if checkpoint else "random",
            "attention": getattr(self._model.config, "_attn_implementation", None),
            "threads": torch.get_num_threads(),
            "weights_tier": self._tier(self._placement[0]),
        }

        self._deployment = deployment

    def reload(self, deployment: Deployment) -> bool:
        """Keep the weights where only threads or the kind of attention differ."""
        import torch

        if self._model is None or self._deployment is None:
            return False
        options, before = thaw(deployment.engine_options), self._options
        attention = text_option(options, "attention")
        loaded, asked = (without_options(each, FREE_OPTIONS) for each in (self._deployment, deployment))
        if loaded != asked or (attention is None) != ("attention" not in before):
            return False
        self._set_threads(options)
        if attention is not None and attention != before["attention"]:
            self._model.set_attn_implementation(attention)
        self._facts |= {
            "attention": getattr(self._model.config, "_attn_implementation", None),
            "threads": torch.get_num_threads(),
            "weights_kept": True,
        }
        self._deployment, self._options = deployment, options
        return True

    def _set_threads(self, options: JsonObject) -> None:
        """Compute threads as the options say; without, as torch had them. Raises `CaseFailure`."""
        import torch

        self._own_threads = self._own_threads or torch.get_num_threads()
        threads = options.get("threads")
        if threads is None:
            threads = self._own_threads
        if not isinstance(threads, int) or threads < 1:
            raise unsupported(f"threads must be a whole number of at least 1, not {threads!r}")
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    def check(self, workload: Workload) -> None:
        """Refuse what is no static batch, what exceeds the context, and what cannot fit into memory."""
        n_in, n_out, batch = workload.input_tokens, workload.output_tokens, workload.batch_size
        if batch is None:
            raise unsupported(f"{self.name} runs static batches: give a batch_size, not {workload.load_label}")
        if workload.options:
            raise unsupported(f"{self.name} knows no workload option {', '.join(workload.options)}")
        if not (float(n_in).is_integer() and float(n_out).is_integer()):
            raise unsupported(f"input and output tokens must be whole numbers, not {n_in:g} and {n_out:g}")
        context = getattr(self._text, "max_position_embeddings", None)
        if context is not None and n_in + n_out > context:
            raise unsupported(
                f"{n_in:g} input and {n_out:g} output tokens exceed the model's context of {context} tokens"
            )
        if (needs := self._footprint(workload)) is not None:
            there = ("weights", "engine") if self._placement[0] != "disk" else ("weights", "engine", "staging")
            if short := needs.without(*there).shortage(self._free()):
                raise CaseFailure(Status.OUT_OF_MEMORY, short)

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One `generate` of exactly the asked length on fresh random prompts."""
        import torch

        assert self._model is not None
        batch, n_in, n_out = workload.sequences, int(workload.input_tokens), int(workload.output_tokens)
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self._text.vocab_size, (batch, n_in), generator=draw).to(self._device)
        drop = self._folder.drop_cache if self._folder is not None else None
        moments = clock(self._device, drop)
        cache = {"cache_implementation": "offloaded"} if self._offloads_cache() else {}
        if drop is not None:
            drop()
        try:
            began = moments.now()
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=n_out,
                max_new_tokens=n_out,
                eos_token_id=None,
                pad_token_id=0,
                streamer=moments,
                **cache,
            )
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        else:
            times = tuple(moment - began for moment in moments.steps)
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
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise CaseFailure(Status.OUT_OF_MEMORY, reason)

    def close(self) -> None:
        """Drop the model, and the files of its weights."""
        self._model = None
        gc.collect()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
            keep_again()

    def environment(self) -> JsonObject:
        """Versions, device, data type, threads, number of parameters; the page cache where weights are on disk."""
        cache = {} if self._folder is None else {"page_cache": self._folder.page_cache}
        return {key: value for key, value in (self._facts | cache).items() if value is not None}

    def _build(
        self, config: PretrainedConfig, checkpoint: Path | None, dtype: torch.dtype, options: JsonObject
    ) -> PreTrainedModel:
        import torch

        attention, weights = text_option(options, "attention"), self._tier(self._placement[0])
        if weights == self._home():
            return build(config, checkpoint, dtype, self._device, attention)
        if weights == "cpu":
            return to_cpu(build(config, checkpoint, dtype, torch.device("cpu"), attention), self._device)
        self._folder = DiskFolder(
            text_option(options, "offload_folder"), cold=options.get("page_cache", "cold") == "cold"
        )
        give_back_at_once()
        if checkpoint is None:
            return to_disk(without_storage(config, dtype, attention), self._folder, self._device)
        return to_disk(build(config, checkpoint, dtype, torch.device("cpu"), attention), self._folder, self._device)

    def _check_weights(self, parameters: int, dtype: torch.dtype, *, from_checkpoint: bool) -> None:
        """Refuse weights that cannot fit where they are to live, before time is spent on them."""
        tier, needed, free = self._tier(self._placement[0]), parameters * dtype.itemsize, self._free()
        # A checkpoint on its way to the disk passes through host memory.
        for at in (tier, "cpu") if tier == "disk" and from_checkpoint else (tier,):
            left = free.get(at)
            if left is not None and needed > left:
                raise CaseFailure(
                    Status.OUT_OF_MEMORY,
                    f"the weights alone need {needed / 2**30:.1f} GiB ({parameters:,} parameters in "
                    f"{str(dtype).removeprefix('torch.')}); {left / 2**30:.1f} GiB are free on {at}",
                )

    def _footprint(self, workload: Workload) -> Footprint | None:
        if self._shape is None or self._model is None:
            return None
        return footprint(
            self._shape,
            self._model.dtype.itemsize,
            batch_size=workload.sequences,
            input_tokens=workload.input_tokens,
            output_tokens=workload.output_tokens,
            placement=dict(zip(("weights", "cache"), self._placement, strict=True)),
            engine=self.name,
            accelerated=self._device.type == "cuda",
            fused_attention=self._facts.get("attention") != "eager",
        )

    def _free(self) -> dict[str, int | None]:
        import torch

        free: dict[str, int | None] = {
            "cpu": available_memory_bytes(),
            "disk": free_disk_bytes(text_option(self._options, "offload_folder")),
        }
        if self._device.type == "cuda":
            free["accelerator"] = int(torch.cuda.mem_get_info(self._device)[0])
        return free

    def _home(self) -> str:
        return "accelerator" if self._device.type == "cuda" else "cpu"

    def _tier(self, name: str) -> str:
        return self._home() if name == "accelerator" else name

    def _offloads_cache(self) -> bool:
        return self._tier(self._placement[1]) != self._home()


def _device(deployment: Deployment) -> torch.device:
    import torch

    for name in ("accelerator_count", "tensor_parallel_size"):
        count = getattr(deployment, name)
        if count is not None and count > 1:
            raise unsupported(f"one accelerator is used here: {name} is {count}")
    asked = deployment.accelerator
    if asked is not None and re.search(r"(?i)\bcpu\b", asked) is not None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if asked is not None:
            raise unsupported(f"the deployment asks for {asked}; torch finds no CUDA device on this machine")
        return torch.device("cpu")
    name = torch.cuda.get_device_name(0)
    if asked is not None and not _words(asked) <= _words(name):
        raise unsupported(f"the deployment asks for {asked}; this machine has {name}")
    return torch.device("cuda", 0)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower())) - {"nvidia", "amd", "gpu", "cuda"}


def _parameters(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Count the parameters on a device without storage."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return int(sum(p.numel() for p in AutoModelForCausalLM.from_config(config, dtype=dtype).parameters()))
    except (ValueError, ImportError) as error:
        raise unsupported(f"transformers cannot build this model: {first_line(error)}") from None
