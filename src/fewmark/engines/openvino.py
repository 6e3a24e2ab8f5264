"""OpenVINO GenAI in process, on the CPU: static batches, stepped through its continuous batching with a clock.

The deployment's `model` is the path of a .gguf file, or whatever `fewmark.engines.checkpoints.source` knows of a
Llama-like type, as random weights. OpenVINO reads a GGUF of 16-bit weights with a byte-level vocabulary by itself; the
precision says what it computes in, and the cache of keys and values is kept in it too. Prefix caching, which is on by
default, is off. Its own metrics are not used: of one token they say −1 ms each and −1000 tokens a second.

Engine options:

config
    As for the other engines.
threads
    Compute threads; by default OpenVINO's own choice.
max_model_len, max_num_seqs
    The longest input plus output, and the most sequences at once; by default the model's context, at most 4096, and 16.
    The space of the KV cache follows from both.
max_num_batched_tokens
    The most tokens in one step; by default enough for the prompts of the largest batch.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure, medians_of_known
from fewmark.engines.checkpoints.gguf import ARCHITECTURES, write_random
from fewmark.engines.checkpoints.source import (
    check_on_cpu,
    check_options,
    check_workload,
    model_source,
    unsupported,
    whole,
)
from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.memory.footprint import shape_of
from fewmark.engines.registry import installed_version
from fewmark.engines.worker.scratch import temporary_folder

if TYPE_CHECKING:
    import openvino_genai

OPTIONS: Final = frozenset({"config", "weights", "threads", "max_model_len", "max_num_seqs", "max_num_batched_tokens"})
PRECISIONS: Final = {
    "fp32": "f32", "float32": "f32", "bf16": "bf16", "bfloat16": "bf16", "fp16": "f16", "float16": "f16",
}  # fmt: skip
DTYPES: Final = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
VERSION: Final = "2026.4.1"
DEFAULT_LENGTH: Final = 4096
DEFAULT_SEQUENCES: Final = 16
FIRST_TOKEN: Final = 260  # those before are control tokens and bytes
BLOCK_TOKENS: Final = 32  # of the cache's blocks, by which each sequence may reach beyond its length


class OpenVinoEngine:
    """A static batch: all sequences are added, then stepped together, with the clock read after every step."""

    recipe: ClassVar[Recipe] = Recipe(
        steps=((f"openvino-genai=={VERSION}.0", f"openvino=={VERSION}", f"openvino-tokenizers=={VERSION}.0"),),
        check="import openvino_genai",
        needs_gib=0.6,
    )

    def __init__(self) -> None:
        self._pipeline: openvino_genai.ContinuousBatchingPipeline | None = None
        self._folder: Path | None = None
        self._length = self._sequences = self._n_requests = 0
        self._vocabulary = 32000
        self._facts: dict[str, Json] = {}
        self._own: list[openvino_genai.PerfMetrics] = []

    @classmethod
    def probe(cls) -> Availability:
        """Whether OpenVINO GenAI is installed, without importing it."""
        if importlib.util.find_spec("openvino_genai") is None:
            return Availability(
                False, reason="not installed: openvino-genai", install="fewmark engines install openvino"
            )
        return Availability(True, version=installed_version("openvino-genai"))

    def load(self, deployment: Deployment) -> None:
        """Write the model where it is random, and compile it. Raises `CaseFailure`."""
        options = thaw(deployment.engine_options)
        check_options(options, OPTIONS, "openvino")
        check_on_cpu(deployment, "openvino")
        precision = PRECISIONS.get((deployment.precision or "fp32").lower())
        if precision is None:
            raise unsupported(f"precision {deployment.precision!r} is not available here: fp32, bf16 or fp16")
        self._sequences = whole(options, "max_num_seqs", DEFAULT_SEQUENCES)
        path, cache_bytes = self._prepare(deployment.model, options, 4 if precision == "f32" else 2)
        self._compile(path, precision, cache_bytes, options)

    def check(self, workload: Workload) -> None:
        """Refuse what exceeds the longest sequence, or the most sequences at once."""
        if workload.batch_size is None:
            raise unsupported(f"openvino in process runs static batches: give a batch_size, not {workload.load_label}")
        check_workload(workload, self._length, "openvino")
        if workload.sequences > self._sequences:
            raise unsupported(f"{workload.sequences} sequences at once exceed max_num_seqs = {self._sequences}")

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One batch of exactly the asked length on fresh random prompts; a token's time is the last sequence's."""
        import numpy
        import openvino
        import openvino_genai

        n_in, n_out, draw = int(workload.input_tokens), int(workload.output_tokens), random.Random(seed)
        low = min(FIRST_TOKEN, self._vocabulary - 1)
        asked = openvino_genai.GenerationConfig()
        asked.max_new_tokens = asked.min_new_tokens = n_out
        asked.ignore_eos, asked.do_sample = True, False
        prompts = []
        for _ in range(workload.sequences):
            ids = numpy.array([[draw.randrange(low, self._vocabulary) for _ in range(n_in)]], dtype=numpy.int64)
            prompts.append(openvino.Tensor(ids))
        pipeline = self._pipeline
        assert pipeline is not None
        times: list[list[float]] = [[] for _ in prompts]
        began = time.perf_counter()
        handles = [pipeline.add_request(self._n_requests + i, prompt, asked) for i, prompt in enumerate(prompts)]
        self._n_requests += len(handles)
        while pipeline.has_non_finished_requests():
            pipeline.step()
            elapsed = time.perf_counter() - began
            for handle, own in zip(handles, times, strict=True):
                if handle.can_read():
                    own += [elapsed] * sum(len(output.generated_ids) for output in handle.read().values())
        counts = {len(own) for own in times}
        if len(counts) != 1 or 0 in counts:
            raise CaseFailure(Status.INVALID, f"sequences of unlike lengths came: {sorted(counts)} tokens")
        self._own = [handle.get_perf_metrics() for handle in handles]
        steps = tuple(max(step) for step in zip(*times, strict=True))
        return Sample(e2e_latency_s=steps[-1], ttft_s=steps[0], output_tokens=len(steps), token_times_s=steps)

    def own_metrics(self) -> dict[str, float]:
        """Its ``PerfMetrics``, whose throughput is of one sequence; what it does not know is −1 there, or −1000."""
        told = {
            "ttft_s": [own.get_ttft().mean / 1000 for own in self._own],
            "tpot_s": [own.get_tpot().mean / 1000 for own in self._own],
            "throughput_tok_s": [own.get_throughput().mean for own in self._own],
        }
        return medians_of_known(told)

    def close(self) -> None:
        """Drop the model, and remove what was written."""
        self._pipeline = None
        gc.collect()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def environment(self) -> JsonObject:
        """Versions, precision of the arithmetic, the weights and the cache, threads, limits."""
        return {key: value for key, value in self._facts.items() if value is not None}

    def _prepare(self, model: str, options: JsonObject, item_bytes: int) -> tuple[Path, int | None]:
        """The model's file, and what the KV cache takes; the latter is unknown of a file that is given."""
        given = Path(model)
        if given.suffix == ".gguf":
            if not given.is_file():
                raise unsupported(f"there is no file {model}")
            self._length = whole(options, "max_model_len", DEFAULT_LENGTH)
            self._facts = {"weights": "checkpoint"}
            return given, None
        source = model_source(model, options)
        if source.checkpoint is not None:
            raise unsupported("openvino reads .gguf files here: convert the checkpoint, or ask for weights: random")
        if source.fields["model_type"] not in ARCHITECTURES:
            raise unsupported(f"no random weights of type {source.fields['model_type']!r}: {', '.join(ARCHITECTURES)}")
        context = int(source.fields.get("max_position_embeddings", DEFAULT_LENGTH))
        self._length = whole(options, "max_model_len", min(context, DEFAULT_LENGTH))
        if self._length > context:
            raise unsupported(f"max_model_len {self._length} exceeds the model's context of {context} tokens")
        shape = shape_of(source.fields)
        self._folder = temporary_folder("openvino")
        try:
            parameters = write_random(self._folder / "model.gguf", source.fields, "fp16", byte_level=True)
        except KeyError as error:
            raise unsupported(f"the configuration lacks {error}") from None
        self._vocabulary = int(source.fields["vocab_size"])
        self._facts = {"weights": "random", "parameters": parameters}
        tokens = self._sequences * (self._length + BLOCK_TOKENS)
        return self._folder / "model.gguf", None if shape is None else tokens * shape.kv_bytes_per_token(item_bytes)

    def _compile(self, path: Path, precision: str, cache_bytes: int | None, options: JsonObject) -> None:
        import openvino_genai

        batched = whole(options, "max_num_batched_tokens", self._sequences * self._length)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_seqs = self._sequences
        scheduler.max_num_batched_tokens = batched
        if cache_bytes is not None:
            scheduler.cache_size = max(1, math.ceil(cache_bytes / 2**30))
        properties: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
        if "threads" in options:
            properties["INFERENCE_NUM_THREADS"] = whole(options, "threads", 1)
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)
        except RuntimeError as error:
            said = str(error).strip()[:1500]
            status = Status.OUT_OF_MEMORY if speaks_of_memory(said) else Status.UNSUPPORTED
            raise CaseFailure(status, f"OpenVINO cannot load this model: {said}") from None
        self._facts |= {
            "engine_version": installed_version("openvino-genai"),
            "device": "cpu",
            "dtype": DTYPES[precision],
            "weights_dtype": "float16",
            "kv_cache_dtype": DTYPES[precision],
            "threads": options.get("threads"),
            "max_model_len": self._length,
            "max_num_seqs": self._sequences,
            "max_num_batched_tokens": batched,
        }
