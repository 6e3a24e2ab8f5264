"""ONNX Runtime GenAI in process, on the CPU: static batches with a reserved cache and the clock read at every token.

Models are named as for the transformers engine (`fewmark.engines.checkpoints.source`), as random weights of a
Llama-like type, or the folder that ONNX Runtime GenAI's own converter wrote. The prompts are computed where they are
appended, so the clock starts before that; a clock around the generation alone would show a first token of 0.1 ms.

Engine options:

config, weights
    As there.
threads
    Compute threads; by default ONNX Runtime's own choice.
max_model_len
    The longest input plus output; by default the model's context, at most 4096.

The engine keeps its weights where only a `max_model_len` tells the next deployment from the one loaded, and it is none
longer: caches are reserved batch by batch. Threads are the session's, which holds the weights.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.errors import MALFORMED
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure
from fewmark.engines.checkpoints.source import (
    check_on_cpu,
    check_options,
    check_workload,
    model_source,
    unsupported,
    whole,
    without_options,
)
from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.registry import installed_version
from fewmark.engines.worker.scratch import temporary_folder

if TYPE_CHECKING:
    import onnxruntime_genai

OPTIONS: Final = frozenset({"config", "weights", "threads", "max_model_len"})
SETTINGS: Final = "genai_config.json"
VERSION: Final = "0.18.0"
DEFAULT_LENGTH: Final = 4096
FIRST_TOKEN: Final = 3  # those before are control tokens


class OnnxRuntimeEngine:
    """A static batch of prompts of one length, appended and then continued token by token."""

    recipe: ClassVar[Recipe] = Recipe(
        steps=((f"onnxruntime-genai=={VERSION}", "onnxruntime==1.32.0", "onnx==1.23.2", "numpy"),),
        check="import onnx, onnxruntime_genai",
        needs_gib=0.5,
    )

    def __init__(self) -> None:
        self._model: onnxruntime_genai.Model | None = None
        self._folder: Path | None = None
        self._length = self._longest = 0  # of a sequence: as asked, and as the model was written
        self._deployment: Deployment | None = None
        self._vocabulary = 32000
        self._facts: dict[str, Json] = {}
        self._own: tuple[float, ...] = ()

    @classmethod
    def probe(cls) -> Availability:
        """Whether ONNX Runtime GenAI is installed, without importing it."""
        missing = [name for name in ("onnxruntime_genai", "onnx") if importlib.util.find_spec(name) is None]
        if missing:
            hint = "fewmark engines install onnxruntime"
            return Availability(False, reason=f"not installed: {', '.join(missing)}", install=hint)
        return Availability(True, version=installed_version("onnxruntime-genai"))

    def load(self, deployment: Deployment) -> None:
        """Write the model where it is random, and load it. Raises `CaseFailure`."""
        options = thaw(deployment.engine_options)
        check_options(options, OPTIONS, "onnxruntime")
        check_on_cpu(deployment, "onnxruntime")
        if "threads" in options:
            whole(options, "threads", 1)
        folder = self._prepare(deployment, options)
        import onnxruntime_genai

        try:
            self._model = onnxruntime_genai.Model(str(folder))
        except RuntimeError as error:
            said = str(error).strip()[:1500]
            status = Status.OUT_OF_MEMORY if speaks_of_memory(said) else Status.UNSUPPORTED
            raise CaseFailure(status, f"ONNX Runtime cannot load this model: {said}") from None
        self._facts |= {
            "engine_version": installed_version("onnxruntime-genai"),
            "onnxruntime": installed_version("onnxruntime"),
            "device": "cpu",
            "threads": options.get("threads"),
            "max_model_len": self._length,
        }
        self._longest, self._deployment = self._length, deployment

    def reload(self, deployment: Deployment) -> bool:
        """Keep the weights where only the longest sequence differs, and none is longer than those were loaded for."""
        before, only = self._deployment, frozenset({"max_model_len"})
        if before is None or without_options(deployment, only) != without_options(before, only):
            return False
        length = whole(thaw(deployment.engine_options), "max_model_len", self._longest + 1)
        if length > self._longest:
            return False
        self._deployment, self._length = deployment, length
        self._facts |= {"max_model_len": length, "weights_kept": True}
        return True

    def check(self, workload: Workload) -> None:
        """Refuse what is no static batch, and what exceeds the longest sequence."""
        if workload.batch_size is None:
            raise unsupported(f"onnxruntime runs static batches: give a batch_size, not {workload.load_label}")
        check_workload(workload, self._length, "onnxruntime")

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One batch of exactly the asked length on fresh random prompts."""
        import numpy
        import onnxruntime_genai

        n_in, n_out, batch = int(workload.input_tokens), int(workload.output_tokens), workload.sequences
        draw = random.Random(seed)
        rows = [[draw.randrange(FIRST_TOKEN, self._vocabulary) for _ in range(n_in)] for _ in range(batch)]
        ids = numpy.array(rows, dtype=numpy.int32)
        times = []
        began = time.perf_counter()
        asked = onnxruntime_genai.GeneratorParams(self._model)
        asked.set_search_options(
            max_length=n_in + n_out, min_length=n_in + n_out, batch_size=batch, do_sample=False, num_beams=1
        )
        generator = onnxruntime_genai.Generator(self._model, asked)
        generator.append_tokens(ids)
        appended = time.perf_counter() - began
        while not generator.is_done():
            generator.generate_next_token()
            times.append(time.perf_counter() - began)
        lengths = {len(generator.get_sequence(i)) - n_in for i in range(batch)}
        if lengths != {len(times)}:
            raise CaseFailure(Status.INVALID, f"sequences of {sorted(lengths)} tokens came in {len(times)} steps")
        self._own = tuple(moment - appended for moment in times)
        return Sample(e2e_latency_s=times[-1], ttft_s=times[0], output_tokens=len(times), token_times_s=tuple(times))

    def own_metrics(self) -> dict[str, float]:
        """It keeps none: what a clock around its generation alone says, where the prompt is no part of it."""
        times = self._own
        steps = {"tpot_s": (times[-1] - times[0]) / (len(times) - 1)} if len(times) > 1 else {}
        return {"ttft_s": times[0], **steps} if times else {}

    def close(self) -> None:
        """Drop the model, and remove what was written."""
        self._model = self._deployment = None
        gc.collect()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def environment(self) -> JsonObject:
        """Versions, data type, threads, the longest sequence."""
        return {key: value for key, value in self._facts.items() if value is not None}

    def _prepare(self, deployment: Deployment, options: JsonObject) -> Path:
        """The folder of the model; what is known of it."""
        given = Path(deployment.model)
        if (given / SETTINGS).is_file():
            return self._converted(given, options)
        source = model_source(deployment.model, options)
        if source.checkpoint is not None:
            raise unsupported("onnxruntime reads what its own converter wrote, or ask for weights: random")
        if (deployment.precision or "fp32").lower() not in ("fp32", "float32"):
            raise unsupported(f"precision {deployment.precision!r} is not available here: fp32")
        from fewmark.engines.checkpoints import onnx_llama

        if source.fields["model_type"] not in onnx_llama.TYPES:
            raise unsupported(
                f"no random weights of type {source.fields['model_type']!r}: {', '.join(onnx_llama.TYPES)}"
            )
        context = int(source.fields.get("max_position_embeddings", DEFAULT_LENGTH))
        self._length = whole(options, "max_model_len", min(context, DEFAULT_LENGTH))
        if self._length > context:
            raise unsupported(f"max_model_len {self._length} exceeds the model's context of {context} tokens")
        self._folder = temporary_folder("onnx")
        try:
            threads = whole(options, "threads", 1) if "threads" in options else None
            parameters = onnx_llama.write_onnx(self._folder, source.fields, self._length)
            onnx_llama.write_settings(self._folder, source.fields, self._length, threads)
        except KeyError as error:
            raise unsupported(f"the configuration lacks {error}") from None
        self._vocabulary = int(source.fields["vocab_size"])
        self._facts = {"weights": "random", "parameters": parameters, "dtype": "float32"}
        return self._folder

    def _converted(self, folder: Path, options: JsonObject) -> Path:
        """A folder that the converter wrote."""
        if "threads" in options:
            raise unsupported(f"the threads of a converted model stand in its {SETTINGS} (session_options)")
        try:
            model = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["model"]
            self._vocabulary, context = int(model["vocab_size"]), int(model["context_length"])
        except (*MALFORMED, KeyError, TypeError) as error:
            raise unsupported(f"{folder / SETTINGS} is not ONNX Runtime GenAI's: {type(error).__name__}") from None
        self._length = whole(options, "max_model_len", min(context, DEFAULT_LENGTH))
        self._facts = {"weights": "checkpoint"}
        return folder
