"""A shell script of ``vllm bench`` commands for a plan: a load against a running server, a static batch offline.

Prompts of random tokens, answers of exactly the length that is asked for. Each command writes its result to a file
that `fewmark import` reads, with what the file would not say else as ``--metadata``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.interop.exports.base import CELLS, Row, by_deployment, known_rows, load_of, require, shell_line, slug
from fewmark.interop.exports.serve_command import serve_words

_METADATA: Final = {
    "engine_version": "engine_version", "precision": "precision", "accelerator": "gpu",
    "accelerator_count": "num_gpus", "tensor_parallel_size": "tp",
}  # fmt: skip


@dataclass(frozen=True)
class VllmBenchCommands:
    """Commands of vLLM's own client; `prompts` for each request in flight, or for each second of an open loop."""

    prompts: int = 10
    warmups: int = 2
    results: str = "results"

    name = "vllm-bench"
    description = "a shell script of vllm bench commands for a plan's cells"
    takes = CELLS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """One command a cell, by deployments, with each one's server in a comment."""
        rows = known_rows(frame)
        for row in rows:
            require(row, ("model", "input_tokens", "output_tokens"), "a command")
        lines = ["#!/bin/sh", "set -e", 'BASE_URL="${BASE_URL:-http://127.0.0.1:8000}"', f"mkdir -p {self.results}"]
        for cells in by_deployment(rows).values():
            lines += ["", *_server(cells[0])]
            lines += [shell_line(self._words(row)) for row in cells]
        write_file(out, "\n".join(lines) + "\n")
        return len(rows)

    def _words(self, row: Row) -> list[object]:
        kind, load = load_of(row)
        lengths = _whole(row["input_tokens"], "input_tokens"), _whole(row["output_tokens"], "output_tokens")
        model = str(row["model"])
        name = slug(model.rsplit("/", 1)[-1], row.get("accelerator"), lengths[0], lengths[1], kind, load)
        if kind == "batch_size":
            words: list[object] = ["vllm", "bench", "latency", "--model", model]
            words += ["--input-len", lengths[0], "--output-len", lengths[1], "--batch-size", int(load)]
            if "tensor_parallel_size" in row:
                words += ["--tensor-parallel-size", row["tensor_parallel_size"]]
            return [*words, "--output-json", f"{self.results}/{name}.json"]
        words = ["vllm", "bench", "serve", "--backend", "vllm", "--base-url", "$BASE_URL", "--model", model]
        words += ["--dataset-name", "random", "--random-input-len", lengths[0], "--random-output-len", lengths[1]]
        words += ["--ignore-eos", "--num-warmups", self.warmups, "--num-prompts", max(1, round(self.prompts * load))]
        asked = ["--max-concurrency", int(load)] if kind == "concurrency" else ["--request-rate", load]
        words += asked
        words += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,95,99"]
        words += ["--save-result", "--result-dir", self.results, "--result-filename", f"{name}.json"]
        known = [f"{label}={row[column]}" for column, label in _METADATA.items() if column in row]
        return [*words, *(["--metadata", *known] if known else [])]


def _server(row: Row) -> list[str]:
    try:
        words, comments = serve_words(row)
    except InputError as error:
        return [f"# its server: {error.what}"]
    return [f"# {', '.join(comments)}" if comments else "#", f"# {shell_line(words)}"]


def _whole(value: float, name: str) -> int:
    if int(value) != value:
        raise InputError(f"{name} of a command are whole", got=value)
    return int(value)
