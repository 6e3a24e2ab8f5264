"""What a case takes of each memory tier, known before anything runs. Standard library only.

Notation: P parameters, L layers, h hidden width, f feed-forward width, d head width, a query heads, g key-value heads,
V vocabulary, s bytes of a value, bb batch size, ii input tokens, oo output tokens.

    weights        P · s                              on the tier of the weights
    staging        largest module · s                 on the computing tier, where the weights live elsewhere
    KV cache       2 · L · g · d · s · bb · (ii + oo) on the tier of the cache
    cache growth   2 · KV cache / L                   computing tier: a layer's cache is copied when a token is appended
    activations    2 · bb · ii · s · (5 h + 2 a d + 2 f)  computing tier: one layer of the prefill at its widest, and as
                                                      much again that the allocator has not given back (¾
                                                      in place of 2 with weights on disk: all is given back at once)
    scores         3 · bb · a · ii² · 4               computing tier: where attention is computed without fusing
    logits         bb · V · (s + 8)                   computing tier: of the last position, and copies in fp32
    engine         a constant                         host memory: interpreter, libraries, runtime

The arithmetic of tensors is exact; the factors of the activations and the engines' constants are estimates, made to lie
a little above the peaks that ``benchmarks/memory.py`` compares them with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fewmark.core.json_types import Json
from fewmark.engines.checkpoints.model_config import ModelConfig

TIERS: Final = ("accelerator", "cpu", "disk")  # the lowest first: nearest to the arithmetic
MIB, GIB = 2**20, 2**30
# Interpreter, libraries and runtime, read on CPU builds.
ENGINE_BYTES: Final[Mapping[str, int]] = {
    "transformers": 400 * MIB, "deepspeed": 410 * MIB, "vllm": 580 * MIB, "llama.cpp": 56 * MIB,
}  # fmt: skip
LIBRARY_BYTES: Final[Mapping[str, int]] = {"transformers": 108 * MIB}  # of these, pages of mapped files
COPIES: Final = 2  # of the activations of one layer: those in use, and those not given back
COPIES_GIVEN_BACK: Final = 0.75  # where all is given back at once, as with weights on disk; not all live together
SCORE_COPIES: Final = 3  # the scores, masked, and their softmax
ITEM_BYTES: Final[Mapping[str, int]] = {
    "fp32": 4, "float32": 4, "fp16": 2, "float16": 2, "bf16": 2, "bfloat16": 2, "fp8": 1, "int8": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a model that decide what memory it takes.

    `largest_module` in parameters; `tied`: input and output embeddings are the same weights.
    """

    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    largest_module: int
    tied: bool = False

    def kv_bytes_per_token(self, item_bytes: int) -> int:
        """Bytes of keys and values for each token of each sequence."""
        return 2 * self.layers * self.kv_heads * self.head_width * item_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of tensor: what it is, the tier it lives on, and its bytes."""

    name: str
    tier: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a case takes, part by part."""

    parts: tuple[Part, ...]

    def total(self, tier: str) -> int:
        """Bytes on a tier."""
        return sum(part.n_bytes for part in self.parts if part.tier == tier)

    def without(self, *names: str) -> Footprint:
        """What is left when some parts are there already."""
        return Footprint(tuple(part for part in self.parts if part.name not in names))

    def shortage(self, capacity: Mapping[str, int | None]) -> str | None:
        """Why it does not fit, with the arithmetic; None where it fits. A capacity of None is unknown, and enough."""
        for tier in TIERS:
            free, needed = capacity.get(tier), self.total(tier)
            if needed and free is not None and needed > free:
                return f"{self.arithmetic(tier)} exceed the {gib(free)} that are free on {_SPOKEN[tier]}"
        return None

    def arithmetic(self, tier: str) -> str:
        """The sum of a tier in words: ``weights 12.4 GiB + KV cache 4.0 GiB = 16.4 GiB``."""
        parts = [f"{part.name} {gib(part.n_bytes)}" for part in self.parts if part.tier == tier and part.n_bytes]
        return " + ".join(parts) + (f" = {gib(self.total(tier))}" if len(parts) > 1 else "")

    def to_dict(self) -> dict[str, Json]:
        """Bytes by tier and part."""
        return {
            tier: {part.name: part.n_bytes for part in self.parts if part.tier == tier}
            for tier in TIERS
            if self.total(tier)
        }


_SPOKEN: Final = {"accelerator": "the accelerator", "cpu": "the host", "disk": "the disk"}


def gib(n_bytes: float) -> str:
    """Bytes for people: GiB, or MiB where that is more telling."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB / 10 else f"{n_bytes / MIB:.1f} MiB"


def shape_of(config: ModelConfig, parameters: int | None = None) -> Shape | None:
    """The shape behind a model's configuration fields; None where they do not tell.

    Parameters
    ----------
    config : mapping
        Fields as in config.json. Mixtures of experts and encoders are not told.
    parameters : int, optional
        The number of parameters where it is known; else it is worked out for Llama-like models and OPT.
    """
    hidden, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    heads, vocabulary = config.get("num_attention_heads"), config.get("vocab_size")
    if not (hidden and layers and heads and vocabulary):
        return None
    kv_heads = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or hidden // heads
    is_opt = config.get("model_type") == "opt"
    feed_forward = config.get("ffn_dim") if is_opt else config.get("intermediate_size")
    feed_forward = feed_forward or 4 * hidden
    if is_opt:
        layer = 4 * hidden * (hidden + 1) + 2 * hidden * feed_forward + feed_forward + 5 * hidden
        rest = (config.get("max_position_embeddings", 2048) + 2) * hidden + 2 * hidden
    else:
        biases = (heads + 2 * kv_heads) * width if config.get("model_type") == "qwen2" else 0
        layer = 2 * hidden * (heads + kv_heads) * width + 3 * hidden * feed_forward + 2 * hidden + biases
        rest = hidden
    counted = layers * layer + rest + vocabulary * hidden * (1 if is_tied(config) else 2)
    return Shape(
        parameters=parameters or counted,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_width=width,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        largest_module=max(hidden * feed_forward, vocabulary * hidden),
        tied=is_tied(config),
    )


def is_tied(config: ModelConfig) -> bool:
    """Whether input and output embeddings are the same weights."""
    return bool(config.get("tie_word_embeddings", config.get("model_type") == "opt"))


def tiers_of(placement: Json) -> tuple[str, str]:
    """The tiers of weights and cache that a placement names. Raises `ValueError` with the reason.

    A word places the weights; the cache then stays with the arithmetic. A mapping names either or both.
    """
    weights: Json
    cache: Json
    if not isinstance(placement, Mapping):
        weights, cache = placement or "accelerator", "accelerator"
    else:
        if unknown := set(placement) - {"weights", "cache"}:
            raise ValueError(f"placement knows weights and cache, not {', '.join(sorted(unknown))}")
        weights, cache = placement.get("weights", "accelerator"), placement.get("cache", "accelerator")
    return _tier("weights", weights), _tier("the cache", cache)


def _tier(what: str, tier: Json) -> str:
    if not isinstance(tier, str) or tier not in TIERS:
        raise ValueError(f"placement of {what} must be accelerator, cpu or disk, not {tier!r}")
    return tier


def activation_bytes(shape: Shape, item_bytes: int, tokens: float, copies: float = COPIES) -> int:
    """What one forward pass over so many tokens holds besides weights and cache."""
    widest = 5 * shape.hidden + 2 * shape.heads * shape.head_width + 2 * shape.feed_forward
    return int(copies * tokens * item_bytes * widest)


def footprint(
    shape: Shape,
    item_bytes: int,
    *,
    batch_size: int,
    input_tokens: float,
    output_tokens: float,
    placement: Json = None,
    engine: str = "transformers",
    accelerated: bool = True,
    fused_attention: bool = True,
) -> Footprint:
    """What a case takes of each tier.

    Parameters
    ----------
    item_bytes : int
        Bytes of one weight, and of one value of the cache.
    accelerated : bool
        Whether there is an accelerator; where there is none, the host's memory takes its place.
    fused_attention : bool
        Whether attention never holds the scores of all pairs of positions.
    """
    weights, cache = tiers_of(placement)
    home = "accelerator" if accelerated else "cpu"

    def tier(name: str) -> str:
        return home if name == "accelerator" else name

    copies = COPIES_GIVEN_BACK if weights == "disk" else COPIES
    kv = int(shape.kv_bytes_per_token(item_bytes) * batch_size * (input_tokens + output_tokens))
    parts = [
        Part("weights", tier(weights), shape.parameters * item_bytes),
        Part("KV cache", tier(cache), kv),
        Part("cache growth", home, 2 * kv // shape.layers),
        Part("activations", home, activation_bytes(shape, item_bytes, batch_size * input_tokens, copies)),
        Part("logits", home, batch_size * shape.vocabulary * (item_bytes + 8)),
        Part("engine", "cpu", ENGINE_BYTES.get(engine, 0)),
    ]
    if not fused_attention:
        scores = SCORE_COPIES * batch_size * shape.heads * int(input_tokens) ** 2 * 4
        parts.append(Part("attention scores", home, scores))
    if tier(weights) != home:
        parts.insert(1, Part("staging", home, shape.largest_module * item_bytes))
    return Footprint(tuple(parts))
