"""LLM-Inference-Bench (Argonne): All_results.csv and its side files.

Its ``Throughput`` counts input and output tokens, so it is ``total_throughput_tok_s``; its ``Latency`` is that of the
whole batch. Values are taken as they stand. ``throughput_tok_s`` is filled in only on rows whose latency and
throughput agree with each other; where they do not, nobody can tell which of the two is right.

Source: Chitty-Venkata et al., "LLM-Inference-Bench: Inference Benchmarking of Large Language Models on AI
Accelerators", arXiv 2411.00136.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Cell
from fewmark.interop.table.frame import build_frame
from fewmark.interop.text.cells import parse_number, text_to_cell
from fewmark.interop.text.csv_text import header_of, read_columns, unique_names

AGREEMENT = 1e-2  # relative; the file's own rows agree to rounding error
_NAMES: Final[Mapping[str, str]] = {
    "hardware": "accelerator",
    "num of hardware": "accelerator_count",
    "framework": "engine",
    "model": "model",
    "model_name": "model",
    "precision": "precision",
    "tp_size": "tensor_parallel_size",
    "input output length": "length",
    "input length": "input_tokens",
    "max_input_length": "input_tokens",
    "output length": "output_tokens",
    "max_output_len": "output_tokens",
    "batch size": "batch_size",
    "batch_size": "batch_size",
    "latency": "e2e_latency_s",
    "ttft latency": "ttft_s",
    "throughput": "total_throughput_tok_s",
    "int8_kv_cache": "option.int8_kv_cache",
}
_NEEDED: Final = ({"model"}, {"batch_size"}, {"e2e_latency_s", "ttft_s"}, {"length", "input_tokens"})
_NOT_SHARED: Final = frozenset(("hardware", "input output length", "max_output_len", "ttft latency"))
_SAID: Final = ("total_throughput_tok_s", "throughput_tok_s")
_TENSOR: Final = "tensor_parallel_size"
_PIPELINE: Final = "option.pipeline_parallel_size"
_DEGREES: Final = (
    (_TENSOR, r"(?:\btp\b|tensor)"),
    (_PIPELINE, r"(?:\bpp\b|pipeline)"),
    ("option.expert_parallel_size", r"(?:\bep\b|expert)"),
)


class LlmInferenceBench:
    """All_results.csv and the side files: parallelism, power, time to first token, the input × output heat map."""

    name = "llm-inference-bench"
    description = "LLM-Inference-Bench CSV (Hardware, Framework, Model, Input Output Length, Batch Size, Latency, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the header, where a name stands that no other format has."""
        folded = [name.lower() for name in header_of(head)]
        names = {_NAMES[name] for name in folded if name in _NAMES}
        complete = all(names & choice for choice in _NEEDED)
        return 0.95 if complete and _NOT_SHARED & set(folded) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on a header or cell that is none of this benchmark's."""
        columns = read_columns(path)
        renamed = {name: _NAMES.get(name.lower(), name) for name in columns}
        unique_names(renamed)
        have = set(renamed.values())
        if not all(have & choice for choice in _NEEDED):
            raise FormatError(
                "an LLM-Inference-Bench file needs Model, Batch Size, Latency and Input Output Length",
                got=list(columns),
            )
        data: dict[str, Sequence[Cell]] = {renamed[name]: cells for name, cells in columns.items()}
        n_rows = len(next(iter(columns.values())))
        data["source"] = [self.name] * n_rows
        if "length" in data:
            data["input_tokens"] = data["output_tokens"] = data.pop("length")
        if "ttft_s" in data and "e2e_latency_s" not in data:
            # Measured with one output token, where the first token is also the last one.
            data["e2e_latency_s"] = data["ttft_s"]
        if "Parallelism Type" in data:
            data |= _parallelism(data["Parallelism Type"], data.get("accelerator_count", [""] * n_rows))
        if "avg_power" in data:  # the file has milliwatts, as NVML reports them
            data["power_w"] = [parse_number(cell, "avg_power", i + 1) / 1e3 for i, cell in enumerate(data["avg_power"])]
            data["power_w"] = [None if value != value else value for value in data["power_w"]]
        canonical = {*_NAMES.values(), "source", "output_tokens", "power_w"}
        for name, cells in data.items():
            if name not in canonical or name.startswith("option."):
                data[name] = [text_to_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        frame = build_frame(data)
        fill_output_rate(frame)
        if "note" not in frame:
            frame["note"] = [_note(total, rate) for total, rate in frame[list(_SAID)].itertuples(index=False)]
        return frame


def _note(total_tok_s: float, output_tok_s: float) -> str | None:
    """What was made of a row's throughput."""
    if math.isnan(total_tok_s):
        return None
    if math.isnan(output_tok_s):
        return "Throughput and Latency contradict each other: no output rate"
    return "Throughput counts input and output tokens; the output rate is made from the latency"


def fill_output_rate(frame: pd.DataFrame) -> None:
    """Fill an unknown ``throughput_tok_s`` in place by its definition, batch × output / e2e, where the latency is
    not contradicted by a total throughput on the same row.
    """
    batch, ii, oo = (frame[name].to_numpy() for name in ("batch_size", "input_tokens", "output_tokens"))
    latency, total = (frame[name].to_numpy() for name in ("e2e_latency_s", "total_throughput_tok_s"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        implied = batch * (ii + oo) / latency
        agrees = np.isnan(total) | (np.abs(total / implied - 1) <= AGREEMENT)
        rate = batch * oo / latency
    fill = frame["throughput_tok_s"].isna().to_numpy() & agrees & np.isfinite(rate) & (rate > 0)
    frame.loc[fill, "throughput_tok_s"] = rate[fill]


def _parallelism(texts: Sequence[Cell], counts: Sequence[Cell]) -> dict[str, list[float | None]]:
    """The degrees behind texts such as "Tensor Parallelism", "PP" or "Hybrid TP = 2 and EP = 2".

    A degree of 1 is no parallelism, whatever its name, and stays unknown but for tensor parallelism.
    """
    out: dict[str, list[float | None]] = {name: [] for name, _ in _DEGREES}
    for row, (text, count) in enumerate(zip(texts, counts, strict=True), start=1):
        folded = str(text).lower()
        kinds = [name for name, pattern in _DEGREES if re.search(pattern, folded)]
        for name, pattern in _DEGREES:
            named = re.search(pattern + r"[\s=(]*(\d+)", folded)
            degree = float(named.group(1)) if named else math.nan
            if not named and kinds == [name]:
                degree = parse_number(count, "Num of Hardware", row)
            elif not named and name == _TENSOR and kinds == [_PIPELINE]:
                degree = 1.0  # the stages of a pipeline are not split further; of experts, the file does not say
            out[name].append(degree if degree > 1 or (degree == 1 and name == _TENSOR) else None)
    return out
