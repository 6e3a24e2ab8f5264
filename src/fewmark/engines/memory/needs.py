"""What a case takes of each memory tier on its engine, from the deployment alone: before anything is loaded.

llama.cpp and vLLM reserve the cache of the most and longest sequences that they are started for, whatever a case asks
(notation as in `fewmark.engines.memory.footprint`; n sequences of at most t tokens; F the most tokens of one forward
pass):

    llama.cpp   KV cache 2 · L · g · d · 2 · n · t in half precision; one worker besides the server's process
    vllm        on a CPU the KV cache in whole GiB; activations of F tokens, tried when it starts, and of the case
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from fewmark.core import Deployment, Workload
from fewmark.core.frozen import thaw
from fewmark.engines.base import CaseFailure
from fewmark.engines.checkpoints.source import ModelSource, model_source
from fewmark.engines.doctor.memory import GIB
from fewmark.engines.memory.footprint import (
    ENGINE_BYTES,
    ITEM_BYTES,
    Footprint,
    Part,
    Shape,
    activation_bytes,
    footprint,
    shape_of,
)

LENGTH: Final = 4096  # of a sequence, and how many of them, where nothing is said
SEQUENCES: Final = 16
LLAMA_PASS: Final = 512  # tokens: llama.cpp's physical batch
VLLM_PASS: Final = 4096  # tokens: vLLM's most of one step
AT_START: Final = ("weights", "KV cache", "output head", "activations at start", "engine")  # whatever a case asks
LIKE_TRANSFORMERS: Final = frozenset({"transformers", "deepspeed"})


def needs(deployment: Deployment, workload: Workload, *, accelerated: bool) -> Footprint | None:
    """What the case takes of each tier; None where the engine or the model's shape is not known.

    Parameters
    ----------
    accelerated : bool
        Whether there is an accelerator; where there is none, the host's memory takes its place.
    """
    if workload.request_rate is not None:
        return None  # how many sequences are held at once shows only when it runs
    options = thaw(deployment.engine_options)
    try:
        source = model_source(deployment.model, options)
    except CaseFailure:
        return None
    item_bytes = ITEM_BYTES.get((deployment.precision or "fp32").lower())
    shape = shape_of(source.fields)
    if shape is None or item_bytes is None:
        return None
    if deployment.engine in LIKE_TRANSFORMERS:
        return footprint(
            shape,
            item_bytes,
            batch_size=workload.sequences,
            input_tokens=workload.input_tokens,
            output_tokens=workload.output_tokens,
            placement=thaw(deployment.placement),
            engine=deployment.engine,
            accelerated=accelerated,
            fused_attention=options.get("attention") != "eager",
        )
    if deployment.engine in _RESERVING:
        tokens = workload.sequences * workload.input_tokens
        found = _RESERVING[deployment.engine](shape, item_bytes, tokens, _reserved(source, options), accelerated)
        if deployment.engine == "vllm" and not accelerated and shape.tied:
            head = Part("output head", "cpu", shape.vocabulary * shape.hidden * item_bytes)  # a packed copy
            found = Footprint((*found.parts, head))
        return found
    return None


def _reserved(source: ModelSource, options: Mapping[str, Any]) -> int:
    """Tokens of the cache that an engine is started with."""
    length = min(int(source.fields.get("max_position_embeddings", LENGTH)), LENGTH)
    length = options.get("slot_tokens", options.get("max_model_len", length))
    return int(length) * int(options.get("slots", options.get("max_num_seqs", SEQUENCES)))


def _llama_cpp(shape: Shape, item_bytes: int, tokens: float, reserved: int, accelerated: bool) -> Footprint:
    home = "accelerator" if accelerated else "cpu"
    return Footprint(
        (
            Part("weights", home, shape.parameters * item_bytes),
            Part("KV cache", home, reserved * shape.kv_bytes_per_token(2)),
            Part("activations", home, activation_bytes(shape, 4, min(tokens, LLAMA_PASS))),
            Part("engine", "cpu", ENGINE_BYTES["llama.cpp"]),
        )
    )


def _vllm(shape: Shape, item_bytes: int, tokens: float, reserved: int, accelerated: bool) -> Footprint:
    home = "accelerator" if accelerated else "cpu"
    cache = reserved * shape.kv_bytes_per_token(item_bytes)
    return Footprint(
        (
            Part("weights", home, shape.parameters * item_bytes),
            Part("KV cache", home, cache if accelerated else math.ceil(cache / GIB) * GIB),
            Part("activations at start", home, activation_bytes(shape, item_bytes, VLLM_PASS)),
            Part("activations", home, activation_bytes(shape, item_bytes, min(tokens, VLLM_PASS))),
            Part("engine", "cpu", ENGINE_BYTES["vllm"]),
        )
    )


_RESERVING: Final = {"llama.cpp": _llama_cpp, "vllm": _vllm}
