"""Named model shapes: the published dimensions of public models, and tiny ones that run anywhere, as data.

A shape says how fast a model is, not how good: it is run with random weights. Each is what the model's own
configuration file says where that differs from the defaults of its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Unpack

from fewmark.engines.checkpoints.model_config import ModelConfig


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, **rest: Unpack[ModelConfig]) -> ModelConfig:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "tie_word_embeddings": False,
        **rest,
    }


def _opt(hidden: int, layers: int, heads: int) -> ModelConfig:
    # Zhang et al. 2022 (arXiv 2205.01068), Table 1; the feed-forward width is four times the hidden one.
    return {
        "model_type": "opt",
        "hidden_size": hidden,
        "word_embed_proj_dim": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "max_position_embeddings": 2048,
        "vocab_size": 50272,
    }


SHAPES: Final[Mapping[str, ModelConfig]] = {
    "llama-tiny": _llama(256, 4, 8, 4, 688, vocab_size=4096, max_position_embeddings=4096),
    "opt-tiny": {**_opt(256, 4, 8), "vocab_size": 4096},
    "llama-2-7b": _llama(4096, 32, 32, 32, 11008, vocab_size=32000, max_position_embeddings=4096),
    "llama-3.1-8b": _llama(
        4096,
        32,
        32,
        8,
        14336,
        vocab_size=128256,
        max_position_embeddings=131072,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "mistral-7b": {
        **_llama(4096, 32, 32, 8, 14336, vocab_size=32768, max_position_embeddings=32768, rope_theta=1000000.0),
        "model_type": "mistral",
        "sliding_window": None,
    },
    "qwen2-7b": {
        **_llama(3584, 28, 28, 4, 18944, vocab_size=152064, max_position_embeddings=32768, rope_theta=1000000.0),
        "model_type": "qwen2",
    },
    "opt-1.3b": _opt(2048, 24, 32),
    "opt-6.7b": _opt(4096, 32, 32),
    "opt-13b": _opt(5120, 40, 40),
    "opt-30b": _opt(7168, 48, 56),
    "opt-66b": _opt(9216, 64, 72),
    "opt-175b": _opt(12288, 96, 96),
}
