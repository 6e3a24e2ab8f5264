"""Writes a model's folder as Hugging Face lays it out, with random weights and a tokenizer; standard library only.

A server needs more than a shape: a tokenizer that tells its tokens apart, and a template for chats. The tokenizer made
here knows as many words as the model has tokens, each of them one token wherever it stands, and adds nothing of its
own, so that a text of n words is n tokens. No token ends an answer.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fewmark.core.json_types import Json
from fewmark.engines.checkpoints.gguf import ARCHITECTURES, BF16, F16, F32, TYPES, random_block, tensors, write_tensor
from fewmark.engines.checkpoints.model_config import ModelConfig

CLASSES: Final = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM"}
DTYPES: Final = {F32: ("F32", "float32"), F16: ("F16", "float16"), BF16: ("BF16", "bfloat16")}
UNKNOWN: Final = "<unk>"
SPECIAL: Final = (UNKNOWN, "<s>", "</s>")
ROLES: Final = ("system", "user", "assistant")
TEMPLATE: Final = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
CONSONANTS, VOWELS = "bcdfghjklmnprstvz", "aeiou"
NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_folder(folder: Path, fields: ModelConfig, precision: str, *, weights: bool = True) -> Path:
    """Write config.json, a tokenizer and, unless the server makes up its own, random weights; the folder.

    Raises
    ------
    KeyError
        If the model's type is none of those that `ARCHITECTURES` knows, the precision is not of `TYPES`, or a
        dimension is missing.
    OSError
        If it cannot be written.
    """
    kind, model_type = TYPES[precision], fields["model_type"]
    if model_type not in ARCHITECTURES:
        raise KeyError(model_type)
    config = {"architectures": [CLASSES[model_type]], "eos_token_id": None, "bos_token_id": None, **fields}
    config |= {"dtype": DTYPES[kind][1], "torch_dtype": DTYPES[kind][1]}
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"do_sample": False, "eos_token_id": None})
    _write(folder / "tokenizer.json", _tokenizer(int(fields["vocab_size"])))
    limits = {"model_max_length": fields.get("max_position_embeddings", 4096), "clean_up_tokenization_spaces": False}
    tokens = {"unk_token": UNKNOWN, "bos_token": "<s>", "eos_token": "</s>", "pad_token": UNKNOWN}
    kept = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    _write(folder / "tokenizer_config.json", {**kept, **limits, **tokens})
    if weights:
        _write_weights(folder / "model.safetensors", fields, kind)
    return folder


def words() -> Iterator[str]:
    """Different words of two and three syllables without end, none of them the beginning of a special token."""
    syllables = ["".join(pair) for pair in itertools.product(CONSONANTS, VOWELS)]
    for length in itertools.count(2):
        yield from ("".join(parts) for parts in itertools.product(syllables, repeat=length))


def _tokenizer(size: int) -> dict[str, Json]:
    known = itertools.islice(itertools.chain(SPECIAL, ROLES, words()), size)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for number, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(known)},
            "unk_token": UNKNOWN,
        },
    }


def _write_weights(path: Path, fields: ModelConfig, kind: int) -> None:
    """safetensors: the length of a JSON header, the header, the tensors."""
    described, offset = {}, 0
    found = [(_name(name), shape[::-1]) for name, shape in tensors(fields)]
    width = 4 if kind == F32 else 2
    for name, shape in found:
        # vectors too are of the model's type here
        size = width * shape[0] * (shape[1] if len(shape) > 1 else 1)
        described[name] = {"dtype": DTYPES[kind][0], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps({"__metadata__": {"format": "pt"}, **described}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    block = random_block(kind)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name, shape in found:
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            if len(shape) == 1 and kind != F32:
                one = struct.pack("<e", 1.0) if kind == F16 else struct.pack("<f", 1.0)[2:]
                file.write((one if "norm" in name else b"\0\0") * count)
            else:
                write_tensor(file, name, count, kind, block, alignment=1)


def _name(of_gguf: str) -> str:
    """The name that transformers gives to a tensor of a GGUF file."""
    stem, _, part = of_gguf.rpartition(".")
    if stem.startswith("blk."):
        _, layer, inner = stem.split(".")
        return f"model.layers.{layer}.{NAMES[inner]}.{part}"
    return f"{NAMES[stem]}.{part}"


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
