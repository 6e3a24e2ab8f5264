"""InferenceX-like rows: a JSON list, seconds without a suffix, throughput for each GPU, speed as ``intvty`` (1 / TPOT).

A row there is a closed loop; static batches and open loops have no place. Without a number of GPUs there is no
throughput for each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.core.metrics import PERCENTS
from fewmark.interop.exports.base import MEASUREMENTS, Row, measured_rows, options_of, per_accelerator

_NAMES: Final = {
    "hw": "accelerator", "model": "model", "framework": "engine", "precision": "precision", "isl": "input_tokens",
    "osl": "output_tokens", "conc": "concurrency", "tp": "tensor_parallel_size", "num_gpus": "accelerator_count",
}  # fmt: skip
_METRICS: Final = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e_latency"}
_OPTIONS: Final = {"pipeline_parallel_size": "pp", "expert_parallel_size": "ep", "router": "router"}


@dataclass(frozen=True)
class InferencexRows:
    """Rows as InferenceX's aggregate has them."""

    name = "inferencex"
    description = "InferenceX-like rows (JSON): closed loops, throughput for each GPU"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The closed loops whose number of accelerators is known."""
        rows = measured_rows(frame, "rows of InferenceX")
        fit = [row for row in rows if "concurrency" in row and "accelerator_count" in row]
        if not fit:
            raise InputError(
                "rows of InferenceX are closed loops on a known number of GPUs",
                got=f"{len(rows)} rows without concurrency or accelerator_count",
            )
        write_file(out, json.dumps([_row(row) for row in fit], indent=1, ensure_ascii=False) + "\n")
        return len(fit)


def _row(row: Row) -> Row:
    out: Row = {name: row[column] for name, column in _NAMES.items() if column in row}
    if "engine_version" in row and "engine" in row:
        out["image"] = f"{row['engine']}:{row['engine_version']}"
    options = options_of(row)
    out |= {_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS}
    out |= {f"option.{name}": value for name, value in options.items() if name not in _OPTIONS}
    total, output = row.get("total_throughput_tok_s"), row.get("throughput_tok_s")
    rates = {
        "tput_per_gpu": per_accelerator(row, total),
        "output_tput_per_gpu": per_accelerator(row, output),
        "input_tput_per_gpu": per_accelerator(row, total - output if total and output else None),
    }
    out |= {name: value for name, value in rates.items() if value is not None}
    for key, stem in _METRICS.items():
        said = {"mean": f"{stem}_s", "median": f"{stem}_p50_s", **{f"p{p}": f"{stem}_p{p}_s" for p in PERCENTS[1:]}}
        out |= {f"{word}_{key}": row[name] for word, name in said.items() if name in row}
    out |= {f"{word}_intvty": 1 / out[f"{word}_tpot"] for word in ("mean", "median") if out.get(f"{word}_tpot")}
    if "power_w" in row:
        out |= {"avg_total_gpu_power_w": row["power_w"], "power_valid": 1, "power_metric_schema_version": 2}
    return out
