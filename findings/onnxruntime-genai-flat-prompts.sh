#!/bin/sh
# onnxruntime-genai 0.18.0
#
# One would guess: append_tokens takes an array of shape (batch, length) as it is, and refuses one that does not fit
# the batch_size of the search options.
# What happens: the array's shape is ignored. Its numbers are dealt out anew by batch_size: two prompts of 8 tokens are
# one of 16 where batch_size was not set, and four of 4 where it is 4; both run, and nothing is said.
# Output seen:
#   asked 2 x 8, batch_size unset: sequences of [16]
#   asked 2 x 8, batch_size 2: sequences of [8, 8]
#   asked 2 x 8, batch_size 4: sequences of [4, 4, 4, 4]
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check onnxruntime-genai==0.18.0 onnxruntime==1.32.0 onnx==1.23.2
"$here/venv/bin/python" - "$here" <<'EOF'
import json, pathlib, sys

import numpy as np
import onnx
import onnxruntime_genai as genai
from onnx import TensorProto, helper, numpy_helper

folder, width, vocabulary, longest = pathlib.Path(sys.argv[1]), 16, 64, 64
draw = np.random.default_rng(0)
angles = np.arange(longest)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
arrays = {
    "table": draw.normal(size=(vocabulary, width)), "qkv": draw.normal(size=(width, 3 * width)),
    "head": draw.normal(size=(width, vocabulary)), "cos": np.cos(angles), "sin": np.sin(angles),
}
tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
tensors += [numpy_helper.from_array(np.array(value), name) for name, value in (("axis", [1]), ("one", [1]), ("place", 1))]
node, past = helper.make_node, ["past.0.key", "past.0.value"]
nodes = [
    node("ReduceSum", ["attention_mask", "axis"], ["summed"], keepdims=0), node("Sub", ["summed", "one"], ["less"]),
    node("Cast", ["less"], ["lengths"], to=TensorProto.INT32), node("Shape", ["attention_mask"], ["shape"]),
    node("Gather", ["shape", "place"], ["all"], axis=0), node("Cast", ["all"], ["total"], to=TensorProto.INT32),
    node("Gather", ["table", "input_ids"], ["x"]), node("MatMul", ["x", "qkv"], ["packed"]),
    node("GroupQueryAttention", ["packed", "", "", *past, "lengths", "total", "cos", "sin"],
         ["y", "present.0.key", "present.0.value"], domain="com.microsoft", num_heads=1, kv_num_heads=1, do_rotary=1),
    node("MatMul", ["y", "head"], ["logits"]),
]
value, real = helper.make_tensor_value_info, TensorProto.FLOAT
ends = {"past": "before", "present": "after"}
caches = {end: [value(f"{end}.0.{part}", real, ["batch", 1, length, width]) for part in ("key", "value")]
          for end, length in ends.items()}
inputs = [value(name, TensorProto.INT64, ["batch", length]) for name, length in (("input_ids", "new"), ("attention_mask", "after"))]
graph = helper.make_graph(nodes, "tiny", inputs + caches["past"],
                          [value("logits", real, ["batch", "new", vocabulary]), *caches["present"]], tensors)
opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
decoder = {
    "session_options": {"log_id": "x", "provider_options": []}, "filename": "model.onnx", "head_size": width,
    "hidden_size": width, "num_attention_heads": 1, "num_hidden_layers": 1, "num_key_value_heads": 1,
    "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", "past_key_names": "past.%d.key",
               "past_value_names": "past.%d.value"},
    "outputs": {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
}
model = {"type": "llama", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "context_length": longest,
         "vocab_size": vocabulary, "decoder": decoder}
(folder / "genai_config.json").write_text(json.dumps({"model": model, "search": {"past_present_share_buffer": True}}))
loaded, prompts, seen = genai.Model(str(folder)), np.arange(3, 19, dtype=np.int32).reshape(2, 8), []
for size in (None, 2, 4):
    options = genai.GeneratorParams(loaded)
    options.set_search_options(max_length=20, **({} if size is None else {"batch_size": size}))
    generator = genai.Generator(loaded, options)
    generator.append_tokens(prompts)
    seen.append([len(generator.get_sequence(place)) for place in range(size or 1)])
    print(f"asked 2 x 8, batch_size {size or 'unset'}: sequences of {seen[-1]}")
sys.exit(0 if seen == [[16], [8, 8], [4, 4, 4, 4]] else 1)
EOF
