"""The fields of a model's config.json that decide its shape, as Hugging Face names them."""

from __future__ import annotations

from typing import TypedDict

from fewmark.core.json_types import JsonObject


class ModelConfig(TypedDict, total=False):
    """The fields that are read here; a file holds others beside them, which travel along."""

    model_type: str
    architectures: list[str]
    hidden_size: int
    intermediate_size: int
    ffn_dim: int
    word_embed_proj_dim: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    sliding_window: int | None
    tie_word_embeddings: bool
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: JsonObject
