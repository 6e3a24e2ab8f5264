"""Writes GGUF files (version 3) with random weights in any Llama-like shape; standard library only.

Layout (ggml's docs/gguf.md): magic, version, number of tensors and of keys; the keys with their values; a description
of each tensor (name, dimensions with the fastest first, type, offset); then, aligned to 32 bytes, the tensors.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from fewmark.engines.checkpoints.model_config import ModelConfig

ALIGNMENT: Final = 32
F32, F16, BF16 = 0, 1, 30  # ggml's types
TYPES: Final = {"fp32": F32, "float32": F32, "fp16": F16, "float16": F16, "bf16": BF16, "bfloat16": BF16}
FILE_TYPES: Final = {F32: 0, F16: 1, BF16: 32}
ARCHITECTURES: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
SPECIAL: Final = ("<unk>", "<s>", "</s>")
BLOCK: Final = 1 << 16  # random values that are drawn; they come again in every tensor, from another place on
Value: TypeAlias = "str | float | tuple[int, Sequence[str | float]]"  # of a key; an array with the type of its items
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5  # types of values


def write_random(path: Path, fields: ModelConfig, precision: str, *, byte_level: bool = False) -> int:
    """Write a model with the dimensions of a configuration; the number of its parameters.

    Parameters
    ----------
    byte_level : bool
        A byte-level BPE (as GPT-2's) for vocabulary; by default a SentencePiece one (as Llama 2's).

    Raises
    ------
    KeyError
        If the model's type is none of `ARCHITECTURES`, the precision is not of `TYPES`, or a dimension is missing.
    """
    kind = TYPES[precision]
    shapes = list(tensors(fields))
    keys = [*_keys(fields, kind), *(_byte_level if byte_level else _sentence_piece)(fields["vocab_size"])]
    offset, described = 0, []
    for name, shape in shapes:
        of = F32 if len(shape) == 1 else kind  # vectors are kept in full precision, as converters do
        described.append((name, shape, of, offset))
        offset += -(-_count(shape) * (4 if of == F32 else 2) // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)))
        for key, kind_of_value, value in keys:
            file.write(_string(key) + struct.pack("<I", kind_of_value) + _value(kind_of_value, value))
        for name, shape, of, start in described:
            sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            file.write(_string(name) + sizes + struct.pack("<IQ", of, start))
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        block = random_block(kind)
        for name, shape, of, _ in described:
            write_tensor(file, name, _count(shape), of, block)
    return sum(_count(shape) for _, shape in shapes)


def tensors(fields: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name of each tensor and its dimensions, the fastest first."""
    hidden, heads, ffn = fields["hidden_size"], fields["num_attention_heads"], fields["intermediate_size"]
    width = fields.get("head_dim") or hidden // heads
    kv, vocabulary = (fields.get("num_key_value_heads") or heads) * width, fields["vocab_size"]
    yield "token_embd.weight", (hidden, vocabulary)
    for layer in range(fields["num_hidden_layers"]):
        at = f"blk.{layer}."
        yield f"{at}attn_norm.weight", (hidden,)
        for name, size in (("q", heads * width), ("k", kv), ("v", kv)):
            yield f"{at}attn_{name}.weight", (hidden, size)
            if fields["model_type"] == "qwen2":
                yield f"{at}attn_{name}.bias", (size,)
        yield f"{at}attn_output.weight", (heads * width, hidden)
        yield f"{at}ffn_norm.weight", (hidden,)
        yield f"{at}ffn_gate.weight", (hidden, ffn)
        yield f"{at}ffn_up.weight", (hidden, ffn)
        yield f"{at}ffn_down.weight", (ffn, hidden)
    yield "output_norm.weight", (hidden,)
    if not fields.get("tie_word_embeddings", False):
        yield "output.weight", (hidden, vocabulary)


def _keys(fields: ModelConfig, kind: int) -> Iterator[tuple[str, int, Value]]:
    name, heads = ARCHITECTURES[fields["model_type"]], fields["num_attention_heads"]
    width = fields.get("head_dim") or fields["hidden_size"] // heads
    yield "general.architecture", STRING, name
    yield "general.name", STRING, "random"
    yield "general.file_type", UINT32, FILE_TYPES[kind]
    for key, value in (
        ("context_length", fields.get("max_position_embeddings", 4096)),
        ("embedding_length", fields["hidden_size"]),
        ("block_count", fields["num_hidden_layers"]),
        ("feed_forward_length", fields["intermediate_size"]),
        ("attention.head_count", heads),
        ("attention.head_count_kv", fields.get("num_key_value_heads") or heads),
        ("attention.key_length", width),
        ("attention.value_length", width),
        ("rope.dimension_count", width),
        ("vocab_size", fields["vocab_size"]),
    ):
        yield f"{name}.{key}", UINT32, value
    yield f"{name}.attention.layer_norm_rms_epsilon", FLOAT32, fields.get("rms_norm_eps", 1e-5)
    yield f"{name}.rope.freq_base", FLOAT32, fields.get("rope_theta", 10000.0)


def _sentence_piece(n_tokens: int) -> Iterator[tuple[str, int, Value]]:
    # ASCII bytes alone: any sequence of tokens is then text at once, and a server holds no token back. A space is ▁,
    # without which no text that has one can be taken apart.
    known = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(128)), "\u2581"][:n_tokens]
    n_normal = n_tokens - len(known)
    yield "tokenizer.ggml.model", STRING, "llama"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, [*known, *(f"t{number}" for number in range(n_normal))])
    yield "tokenizer.ggml.scores", ARRAY, (FLOAT32, [0.0] * n_tokens)
    bytes_known = min(len(known) - len(SPECIAL), 128)
    types = [2, 3, 3, *[6] * bytes_known, *[1] * (n_tokens - 3 - bytes_known)]  # unknown, control, byte, normal
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, types)
    for position, role in enumerate(("unknown", "bos", "eos")):
        yield f"tokenizer.ggml.{role}_token_id", UINT32, position


def _byte_level(n_tokens: int) -> Iterator[tuple[str, int, Value]]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    pairs = [(letter[0x20], letter[byte]) for byte in range(0x61, 0x7B)]
    known = [*SPECIAL, *(letter[byte] for byte in range(256)), *(one + other for one, other in pairs)][:n_tokens]
    yield "tokenizer.ggml.model", STRING, "gpt2"
    yield "tokenizer.ggml.pre", STRING, "default"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, [*known, *(f"t{n}" for n in range(n_tokens - len(known)))])
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, [3, 3, 3, *(1 for _ in range(n_tokens - 3))])
    yield "tokenizer.ggml.merges", ARRAY, (STRING, [f"{one} {other}" for one, other in pairs])
    for position, role in enumerate(("unknown", "bos", "eos")):
        yield f"tokenizer.ggml.{role}_token_id", UINT32, position


def _value(kind: int, value: Value) -> bytes:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, tuple):
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(_value(of, item) for item in items)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f"}[kind], value)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def random_block(kind: int) -> bytes:
    """`BLOCK` normal values with a standard deviation of 0.02, in a type of ggml."""
    draw = random.Random(0)
    values = [draw.gauss(0.0, 0.02) for _ in range(BLOCK)]
    if kind == F16:
        return struct.pack(f"<{BLOCK}e", *values)
    full = array("f", values).tobytes()
    if kind == F32:
        return full
    return b"".join(full[start + 2 : start + 4] for start in range(0, len(full), 4))  # bf16: the upper half


def write_tensor(file: BinaryIO, name: str, count: int, kind: int, block: bytes, alignment: int = ALIGNMENT) -> None:
    """A tensor of random values; one of a norm holds ones, a bias zeros."""
    if "norm" in name or name.endswith("bias"):
        data = array("f", [1.0 if "norm" in name else 0.0]).tobytes() * count
        file.write(data)
        size = len(data)
    else:
        size = count * (4 if kind == F32 else 2)
        left = size
        while left:
            file.write(block[: min(left, len(block))])
            left -= min(left, len(block))
    file.write(b"\0" * (-size % alignment))


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 1 else shape[0] * shape[1]
