"""Writes a Llama-like model with random weights as ONNX Runtime GenAI reads it: a graph, its data, a configuration.

The graph uses ONNX Runtime's own operators (attention with rotary embedding and a reserved cache, norms with the skip
added), as its converter's graphs do. Logits are computed of the last position alone. Needs `onnx` and NumPy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from fewmark.core.json_types import Json
from fewmark.engines.checkpoints.model_config import ModelConfig

OPSET: Final = 21
MICROSOFT: Final = "com.microsoft"
TYPES: Final = ("llama", "mistral")
BLOCK: Final = 1 << 16  # random values that are drawn; they come again in every tensor
GRAPH: Final = "model.onnx"
DATA: Final = "model.onnx.data"


def write_onnx(folder: Path, fields: ModelConfig, context: int) -> int:
    """Write the model into a folder; the number of its parameters.

    Parameters
    ----------
    fields : mapping
        A configuration of a type among `TYPES`.
    context : int
        The longest sequence.

    Raises
    ------
    KeyError
        If a dimension is missing.
    """
    with (folder / DATA).open("wb") as data:
        made = _Graph(data, fields, context)
        made.build()
    inputs = [_value("input_ids", TensorProto.INT64, ["batch", "new"])]
    inputs.append(_value("attention_mask", TensorProto.INT64, ["batch", "all"]))
    outputs = [_value("logits", TensorProto.FLOAT, ["batch", 1, made.vocabulary])]
    for layer in range(made.layers):
        for part in ("key", "value"):
            past, present = (["batch", made.kv_heads, length, made.width] for length in ("past", "all"))
            inputs.append(_value(f"past_key_values.{layer}.{part}", TensorProto.FLOAT, past))
            outputs.append(_value(f"present.{layer}.{part}", TensorProto.FLOAT, present))
    graph = helper.make_graph(made.nodes, "random", inputs, outputs, made.tensors)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / GRAPH)
    return made.parameters


def write_settings(folder: Path, fields: ModelConfig, context: int, threads: int | None) -> None:
    """Write GenAI's configuration beside the graph."""
    heads = int(fields["num_attention_heads"])
    session: dict[str, Json] = {"log_id": "fewmark", "provider_options": []}
    if threads is not None:
        session |= {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    decoder = {
        "session_options": session,
        "filename": GRAPH,
        "head_size": int(fields.get("head_dim") or fields["hidden_size"] // heads),
        "hidden_size": int(fields["hidden_size"]),
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": heads,
        "num_hidden_layers": int(fields["num_hidden_layers"]),
        "num_key_value_heads": int(fields.get("num_key_value_heads") or heads),
    }
    model = {
        "type": "llama",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "context_length": context,
        "vocab_size": int(fields["vocab_size"]),
        "decoder": decoder,
    }
    search = {"do_sample": False, "num_beams": 1, "max_length": context, "past_present_share_buffer": True}
    (folder / "genai_config.json").write_text(json.dumps({"model": model, "search": search}), encoding="utf-8")


class _Graph:
    """Nodes and tensors as they are made; the tensors' values go to a file at once."""

    def __init__(self, data: BinaryIO, fields: ModelConfig, context: int) -> None:
        self._data, self._fields, self._context = data, fields, context
        self.hidden, self.layers = int(fields["hidden_size"]), int(fields["num_hidden_layers"])
        self.heads = int(fields["num_attention_heads"])
        self.kv_heads = int(fields.get("num_key_value_heads") or self.heads)
        self.width = int(fields.get("head_dim") or self.hidden // self.heads)
        self.ffn, self.vocabulary = int(fields["intermediate_size"]), int(fields["vocab_size"])
        self._epsilon = float(fields.get("rms_norm_eps", 1e-5))
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self.parameters = 0
        self._block = np.random.default_rng(0).normal(0.0, 0.02, BLOCK).astype(np.float32)

    def build(self) -> None:
        """The whole graph."""
        lengths = self._lengths()
        x = self._node("Gather", [self._random("embedding", self.vocabulary, self.hidden), "input_ids"], "embedded")
        normed, skip = self._norm("norm.0", x), x
        for layer in range(self.layers):
            attended = self._attention(layer, normed, lengths)
            normed, skip = self._skip_norm(f"ffn_norm.{layer}", attended, skip)
            mixed = self._feed_forward(layer, normed)
            normed, skip = self._skip_norm(f"norm.{layer + 1}", mixed, skip)
        ends = [self._constant(name, np.array([value])) for name, value in (("last", -1), ("end", 2**31), ("axis", 1))]
        last = self._node("Slice", [normed, *ends], "last_hidden")
        head = self._random("head", self.hidden, self.vocabulary)
        self._node("MatMul", [last, head], "logits")

    def _lengths(self) -> list[str]:
        """Each sequence's length less one, the length of all, and the rotary embedding's tables."""
        summed = self._node(
            "ReduceSum", ["attention_mask", self._constant("sum_axis", np.array([1]))], "summed", keepdims=0
        )
        less = self._node("Sub", [summed, self._constant("one", np.array([1]))], "less_one")
        own = self._node("Cast", [less], "own_lengths", to=TensorProto.INT32)
        shape = self._node("Shape", ["attention_mask"], "mask_shape")
        total = self._node("Gather", [shape, self._constant("place", np.array(1))], "total", axis=0)
        longest = self._node("Cast", [total], "total_length", to=TensorProto.INT32)
        base = float(self._fields.get("rope_theta", 10000.0))
        rates = base ** (-np.arange(0, self.width, 2) / self.width)
        angles = np.arange(self._context)[:, None] * rates
        tables = [self._constant(name, turn(angles).astype(np.float32)) for name, turn in _TURNS]
        return [own, longest, *tables]

    def _attention(self, layer: int, normed: str, lengths: list[str]) -> str:
        packed = (self.heads + 2 * self.kv_heads) * self.width
        qkv = self._node("MatMul", [normed, self._random(f"qkv.{layer}", self.hidden, packed)], f"qkv_out.{layer}")
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [qkv, "", "", *past, *lengths],
                [f"attended.{layer}", *present],
                domain=MICROSOFT,
                num_heads=self.heads,
                kv_num_heads=self.kv_heads,
                do_rotary=1,
                rotary_interleaved=0,
            )
        )
        out = self._random(f"out.{layer}", self.heads * self.width, self.hidden)
        return self._node("MatMul", [f"attended.{layer}", out], f"attention_out.{layer}")

    def _feed_forward(self, layer: int, normed: str) -> str:
        gate, up = (
            self._node(
                "MatMul", [normed, self._random(f"{part}.{layer}", self.hidden, self.ffn)], f"{part}_out.{layer}"
            )
            for part in ("gate", "up")
        )
        opened = self._node("Mul", [gate, self._node("Sigmoid", [gate], f"sigmoid.{layer}")], f"silu.{layer}")
        product = self._node("Mul", [opened, up], f"product.{layer}")
        return self._node("MatMul", [product, self._random(f"down.{layer}", self.ffn, self.hidden)], f"mixed.{layer}")

    def _norm(self, name: str, x: str) -> str:
        scale = self._ones(name)
        return self._node("SimplifiedLayerNormalization", [x, scale], f"{name}.out", axis=-1, epsilon=self._epsilon)

    def _skip_norm(self, name: str, x: str, skip: str) -> tuple[str, str]:
        self.nodes.append(
            helper.make_node(
                "SkipSimplifiedLayerNormalization",
                [x, skip, self._ones(name)],
                [f"{name}.out", "", "", f"{name}.sum"],
                domain=MICROSOFT,
                epsilon=self._epsilon,
            )
        )
        return f"{name}.out", f"{name}.sum"

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: float) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.tensors.append(onnx.numpy_helper.from_array(values, name))
        return name

    def _ones(self, name: str) -> str:
        self.parameters += self.hidden
        return self._constant(f"{name}.scale", np.ones(self.hidden, dtype=np.float32))

    def _random(self, name: str, *shape: int) -> str:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        count = int(np.prod(shape))
        place = {"location": DATA, "offset": str(self._data.tell()), "length": str(4 * count)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        for start in range(0, count, BLOCK):
            self._data.write(self._block[: min(BLOCK, count - start)].tobytes())
        self.parameters += count
        self.tensors.append(tensor)
        return name


_TURNS: Final = (("cos", np.cos), ("sin", np.sin))


def _value(name: str, kind: int, shape: list[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
