"""AIConfigurator's ``pareto.csv`` and ``best_config_topn.csv``: forecasts, never measurements.

A row is one replica: its concurrency, its GPUs, its rate. Milliseconds. ``tokens/s`` leaves the first token out in
aggregated serving (requests per second × (osl − 1)) and not in static batches and disaggregated serving, so the output
rate is made from requests per second. Static batches have columns for the latencies of context and generation.
A ``power_w`` of 0.0 is unknown; it is per GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.interop.results.foreign_predictions import predicted_row
from fewmark.interop.results.lookups import label
from fewmark.interop.results.run_rows import RunRow, number, positive, rows_to_frame, run_id
from fewmark.interop.text.csv_text import header_of, read_columns

_NEEDED: Final = frozenset(("isl", "osl", "ttft", "tpot", "tokens/s/gpu"))
_DEGREES: Final = {
    "pp": "pipeline_parallel_size", "dp": "data_parallel_size", "moe_tp": "moe_tensor_parallel_size",
    "moe_ep": "expert_parallel_size", "cp": "context_parallel_size",
}  # fmt: skip
_TYPES: Final = ("gemm", "kvcache", "fmha", "moe", "comm")


class Aiconfigurator:
    """One row a configuration, ``provenance`` "predicted"."""

    name = "aiconfigurator"
    description = "AIConfigurator's pareto.csv or best_config_topn.csv: forecasts of it, not measurements"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the header."""
        return 0.95 if set(header_of(head)) >= _NEEDED else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on another header."""
        columns = read_columns(path)
        missing = sorted(_NEEDED - set(columns))
        if missing:
            raise FormatError(f"AIConfigurator's results have columns {', '.join(missing)}", got=list(columns))
        n_rows = len(columns["isl"])
        return rows_to_frame([_row({name: cells[i] for name, cells in columns.items()}) for i in range(n_rows)])


def _row(data: Mapping[str, str]) -> Row:
    row = predicted_row("aiconfigurator", None)
    row.say("engine", label(_side(data, "backend")))
    row.say("engine_version", label(_side(data, "version")))
    row.say("model", label(data.get("model")))
    row.say("accelerator", label(_side(data, "system")))
    output = row.put("output_tokens", data["osl"])
    row.put("input_tokens", data["isl"])
    if positive(data.get("prefix")):
        row.put("workload.cached_tokens", data.get("prefix"))
    apart = any(name.startswith("(p)") for name in data)
    static = "context_latency" in data
    if static:
        row.put("batch_size", positive(data.get("global_bs")) or positive(data.get("bs")))
    else:
        row.put("concurrency", data.get("concurrency"))
        row.note("the load of one replica")
    gpus = positive(data.get("num_total_gpus"))
    row.put("accelerator_count", gpus)
    for side, prefix in (("p", "prefill_"), ("d", "decode_")) if apart else ((None, ""),):
        for key, name in {"tp": "tensor_parallel_size", **_DEGREES, "workers": "workers"}.items():
            value = number(data.get(f"({side}){key}" if side else key))
            if value is not None and value >= 1 and (value > 1 or key in ("tp", "workers")):
                row.cells[name if key == "tp" and not side else f"option.{prefix}{name}"] = value
    if apart:
        row.cells["option.disaggregated"] = True
    row.say("precision", label(_side(data, "gemm")))
    for name in _TYPES[1:]:
        row.say(f"option.{name}_type", label(_side(data, name)))
    row.put("ttft_s", data["ttft"], 1e-3)
    row.put("tpot_s", data["tpot"], 1e-3)
    row.put("e2e_latency_s", data.get("request_latency"), 1e-3)
    _exclusive_tpot(row)
    per_second = positive(data.get("seq/s"))
    if per_second is None and gpus and positive(data.get("seq/s/gpu")):
        per_second = (positive(data.get("seq/s/gpu")) or 0) * gpus
    row.put("request_throughput_req_s", per_second)
    if per_second and output:
        row.put("throughput_tok_s", per_second * output)
        said = positive(data.get("tokens/s"))
        if said and abs(said / (per_second * output) - 1) > 0.001:
            row.own("tokens_per_s", said)
            row.note("tokens/s leaves the first token out; the output rate counts it")
    else:
        per_gpu = positive(data["tokens/s/gpu"])
        row.put("throughput_tok_s", positive(data.get("tokens/s")) or (per_gpu * gpus if per_gpu and gpus else None))
        row.note("tokens/s may leave the first token of each answer out")
    row.own("power_per_gpu_w", data.get("power_w"))
    row.own("memory_gib", data.get("memory"))
    facts = (
        "model",
        "concurrency",
        "parallel",
        "(p)parallel",
        "(d)parallel",
        "(p)workers",
        "(d)workers",
        *sorted(_NEEDED),
    )
    row.cells["run_id"] = run_id("aiconfigurator", *(data.get(name) for name in facts))
    return row.finish()


def _exclusive_tpot(row: RunRow) -> None:
    """Convert a TPOT over all tokens, as ``--inclusive-tpot`` writes it: what times it gives the latency tells."""
    first, each, whole, tokens = (row.known(name) for name in ("ttft_s", "tpot_s", "e2e_latency_s", "output_tokens"))
    if not (first and each and whole and tokens and tokens > 1):
        return
    over_all, over_rest = each * tokens, first + each * (tokens - 1)
    if abs(over_all / whole - 1) < 0.001 < abs(over_rest / whole - 1):
        row.cells["tpot_s"] = (whole - first) / (tokens - 1)
        row.own("inclusive_tpot_s", each)
        row.note("tpot was the latency over all tokens (--inclusive-tpot)")


def _side(data: Mapping[str, str], name: str) -> str | None:
    """A value of the whole, or of the prefill and decode sides where these are apart: one if they agree."""
    if data.get(name):
        return data[name]
    sides = [data[key] for key in (f"(p){name}", f"(d){name}") if data.get(key)]
    return "/".join(dict.fromkeys(sides)) or None
