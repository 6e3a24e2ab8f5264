"""The command that starts a deployment's server, for vLLM, SGLang and llama.cpp.

Only options that are flags of the server are written; any other is named in a comment, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.core.json_types import Json
from fewmark.interop.exports.base import CELLS, Row, deployment_of, known_rows, options_of, require, shell_line

PORT: Final = 8000
_DTYPES: Final = {"fp16": "float16", "half": "float16", "float16": "float16", "bf16": "bfloat16",
                  "bfloat16": "bfloat16", "fp32": "float32", "float32": "float32"}  # fmt: skip
_QUANTIZED: Final = ("fp8", "awq", "gptq", "bitsandbytes", "mxfp4")
_VLLM_FLAGS: Final = frozenset((
    "max_model_len", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "block_size",
    "enable_prefix_caching", "enable_chunked_prefill", "enforce_eager", "pipeline_parallel_size",
    "data_parallel_size", "enable_expert_parallel", "kv_cache_dtype", "quantization", "dtype", "seed",
    "speculative_config", "compilation_config", "tokenizer", "trust_remote_code", "load_format", "async_scheduling",
))  # fmt: skip
_SGLANG_FLAGS: Final = {
    "max_model_len": "context-length", "context_length": "context-length", "max_num_seqs": "max-running-requests",
    "max_running_requests": "max-running-requests", "mem_fraction_static": "mem-fraction-static",
    "chunked_prefill_size": "chunked-prefill-size", "data_parallel_size": "dp-size",
    "pipeline_parallel_size": "pp-size", "kv_cache_dtype": "kv-cache-dtype", "quantization": "quantization",
    "attention_backend": "attention-backend", "disable_radix_cache": "disable-radix-cache",
    "trust_remote_code": "trust-remote-code", "schedule_policy": "schedule-policy",
}  # fmt: skip
_LLAMA_FLAGS: Final = {
    "n_ctx": "ctx-size", "ctx_size": "ctx-size", "n_batch": "batch-size", "n_ubatch": "ubatch-size",
    "n_gpu_layers": "n-gpu-layers", "threads": "threads", "n_threads": "threads", "flash_attn": "flash-attn",
    "type_k": "cache-type-k", "type_v": "cache-type-v",
}  # fmt: skip


@dataclass(frozen=True)
class ServeCommand:
    """A shell script with one command: for the recommended row, or the only deployment of a table."""

    port: int = PORT

    name = "serve-command"
    description = "the server's command for a recommendation (vLLM, SGLang, llama.cpp)"
    takes = CELLS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The command of the chosen row."""
        row = chosen_row(frame)
        words, comments = serve_words(row, self.port)
        text = "".join(f"# {comment}\n" for comment in comments)
        write_file(out, f"#!/bin/sh\n{text}exec {shell_line(words)}\n")
        return 1


def chosen_row(frame: pd.DataFrame) -> Row:
    """The row that a recommendation chose, or the first of a table whose rows are all of one deployment.

    Raises
    ------
    InputError
        If a recommendation chose none, or it cannot be told which deployment is meant.
    """
    rows = known_rows(frame)
    chosen = [row for row in rows if row.get("recommended") in (True, 1, "true")]
    if any("recommended" in row for row in rows):
        if not chosen:
            raise InputError("nothing was recommended", hint="fewmark recommend says why")
        return chosen[0]
    if len({json.dumps(_identity(row), sort_keys=True, default=str) for row in rows}) > 1:
        raise InputError(
            "the table has several deployments and does not say which is meant",
            got=len(rows),
            hint="fewmark recommend --out TABLE marks the one that it recommends",
        )
    return rows[0]


def serve_words(row: Row, port: int = PORT) -> tuple[list[str], list[str]]:
    """The words of the command, and what is to be known of it. Raises `InputError` for an engine without a server."""
    require(row, ("engine", "model"), "a server's command")
    engine = str(row["engine"]).lower()
    build = {"vllm": _vllm, "sglang": _sglang, "llama.cpp": _llama, "llama-cpp": _llama, "llama_cpp": _llama}.get(
        engine
    )
    if build is None:
        raise InputError("no server's command is known", got=row["engine"], hint="vllm, sglang or llama.cpp")
    words, comments = build(row)
    where = f"{row['accelerator_count']} × " if "accelerator_count" in row else ""
    if "accelerator" in row:
        comments.insert(0, f"on {where}{row['accelerator']}")
    if "engine_version" in row:
        comments.insert(0, f"{row['engine']} {row['engine_version']}")
    return [*words, "--port", str(port)], [" ".join(str(comment).split()) for comment in comments]


def _vllm(row: Row) -> tuple[list[str], list[str]]:
    words = ["vllm", "serve", str(row["model"])]
    flags, comments = _precision(row)
    words += [word for name, value in flags.items() for word in (f"--{name}", value)]
    if "tensor_parallel_size" in row:
        words += ["--tensor-parallel-size", str(row["tensor_parallel_size"])]
    names = {name: name.replace("_", "-") for name in _VLLM_FLAGS}
    return _with_options(words, row, names, comments, negatable=True, skip=flags)


def _sglang(row: Row) -> tuple[list[str], list[str]]:
    words = ["python3", "-m", "sglang.launch_server", "--model-path", str(row["model"])]
    flags, comments = _precision(row)
    words += [word for name, value in flags.items() for word in (f"--{name}", value)]
    if "tensor_parallel_size" in row:
        words += ["--tp-size", str(row["tensor_parallel_size"])]
    return _with_options(words, row, _SGLANG_FLAGS, comments, negatable=False, skip=flags)


def _llama(row: Row) -> tuple[list[str], list[str]]:
    words = ["llama-server", "--model", str(row["model"])]
    comments = []
    if "concurrency" in row:
        words += ["--parallel", str(row["concurrency"])]
    if "precision" in row:
        comments.append(f"precision {row['precision']}: of the model's file")
    return _with_options(words, row, _LLAMA_FLAGS, comments, negatable=False, skip={})


def _precision(row: Row) -> tuple[dict[str, str], list[str]]:
    said = str(row.get("precision", "")).lower()
    if said in _DTYPES:
        return {"dtype": _DTYPES[said]}, []
    if said in _QUANTIZED:
        return {"quantization": said}, []
    return {}, [f"precision {row['precision']}: the checkpoint's own"] if said else []


def _with_options(
    words: list[str],
    row: Row,
    names: Mapping[str, str],
    comments: list[str],
    *,
    negatable: bool,
    skip: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    for name, value in options_of(row).items():
        flag = names.get(name)
        if flag in skip:
            continue
        if flag is None:
            comments.append(f"measured with {name} = {value}, which is not a known flag")
        elif isinstance(value, bool):
            words += [f"--{flag}"] if value else [f"--no-{flag}"] if negatable else []
        else:
            words += [f"--{flag}", str(value)]
    return words, comments


def _identity(row: Row) -> dict[str, Json]:
    return dict(deployment_of(row))
