"""Forecasts as AIConfigurator's ``pareto.csv``, so that what reads its results reads ours beside them.

Milliseconds; a row is one replica. As there, ``tokens/s`` leaves each answer's first token out under a closed loop and
counts it for a static batch, whose tables alone have ``context_latency``. Unknown cells are empty, where
AIConfigurator would write 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.core.metrics import derive_metrics
from fewmark.interop.exports.base import PREDICTIONS, Row, options_of, per_accelerator, predicted_rows
from fewmark.interop.write import csv_text

_OPTIONS: Final = {
    "pipeline_parallel_size": "pp", "data_parallel_size": "dp", "moe_tensor_parallel_size": "moe_tp",
    "expert_parallel_size": "moe_ep", "context_parallel_size": "cp", "kvcache_type": "kvcache", "fmha_type": "fmha",
    "moe_type": "moe", "comm_type": "comm",
}  # fmt: skip
_COLUMNS: Final = (
    "model", "isl", "osl", "concurrency", "bs", "global_bs", "ttft", "tpot", "request_latency", "context_latency",
    "generation_latency", "seq/s", "seq/s/gpu", "tokens/s", "tokens/s/gpu", "tokens/s/user", "num_total_gpus", "tp",
    *_OPTIONS.values(), "gemm", "backend", "version", "system",
)  # fmt: skip
_STATIC: Final = ("bs", "global_bs", "context_latency", "generation_latency")


@dataclass(frozen=True)
class AiconfiguratorTable:
    """The columns of AIConfigurator that follow from what fewmark predicts."""

    name = "aiconfigurator"
    description = "AIConfigurator-style CSV of forecasts (--cases)"
    takes = PREDICTIONS
    targets = ("tpot_s", "ttft_s", "throughput_tok_s")

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The forecasts of closed loops, or of static batches, that say TTFT and TPOT."""
        rows = predicted_rows(frame, ("ttft_s", "tpot_s"), "AIConfigurator's table")
        kinds = {name for row in rows for name in ("batch_size", "concurrency", "request_rate") if name in row}
        if len(kinds) != 1 or kinds == {"request_rate"}:
            raise InputError(
                "AIConfigurator's tables are of closed loops, or of static batches",
                got=", ".join(sorted(kinds)),
                hint="export them apart",
            )
        static = kinds == {"batch_size"}
        names = [name for name in _COLUMNS if name not in (("concurrency",) if static else _STATIC)]
        table = pd.DataFrame([_row(row) for row in rows]).reindex(columns=names).astype(object)
        write_file(out, csv_text(table.where(table.notna(), None), names))
        return len(rows)


def _row(row: Row) -> dict[str, object]:
    osl, load = row["output_tokens"], row.get("batch_size") or row["concurrency"]
    ttft, tpot = row["ttft_s"], row["tpot_s"]
    known = {name: row.get(name) for name in ("ttft_s", "tpot_s", "e2e_latency_s", "throughput_tok_s")}
    static = "batch_size" in row
    found = derive_metrics(
        known,
        input_tokens=row["input_tokens"],
        output_tokens=osl,
        batch_size=row.get("batch_size"),
    )
    e2e, rate = found["e2e_latency_s"], found["throughput_tok_s"]
    tokens = rate if static or rate is None else rate * (osl - 1) / osl
    per_second = None if rate is None else rate / osl
    options = options_of(row)
    return {
        "model": row.get("model"),
        "isl": row["input_tokens"],
        "osl": osl,
        "concurrency": load,
        "bs": load,
        "global_bs": load,
        "ttft": ttft * 1e3,
        "tpot": tpot * 1e3,
        "request_latency": None if e2e is None else e2e * 1e3,
        "context_latency": ttft * 1e3,
        "generation_latency": None if e2e is None else (e2e - ttft) * 1e3,
        "seq/s": per_second,
        "seq/s/gpu": per_accelerator(row, per_second),
        "tokens/s": tokens,
        "tokens/s/gpu": per_accelerator(row, tokens),
        "tokens/s/user": 1 / tpot,
        "num_total_gpus": row.get("accelerator_count"),
        "tp": row.get("tensor_parallel_size"),
        **{column: options.get(name) for name, column in _OPTIONS.items()},
        "gemm": row.get("precision"),
        "backend": row.get("engine"),
        "version": row.get("engine_version"),
        "system": row.get("accelerator"),
    }
