"""Dynamo's planner: ``profile_results``, the two ``raw_data.npz`` that its profiler takes hours of GPUs to measure.

Prefill: the TTFT (ms) and the throughput (tokens/s/GPU) of one request over its input tokens. Decode: ITL (ms) and
throughput (tokens/s/GPU) over the share of the cache in use and the mean context, which of n requests of i tokens in
and o out is i + o/2, and n · (i + o/2) over the cache's tokens. The planner interpolates the former by cubic splines,
for which it needs four lengths.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.interop.exports.base import PREDICTIONS, Row, by_deployment, folder, load_of, predicted_rows

MIN_LENGTHS: Final = 4
PREFILL: Final = "selected_prefill_interpolation"
DECODE: Final = "selected_decode_interpolation"
_MAX_KV: Final = "max_kv_tokens"


@dataclass(frozen=True)
class DynamoProfile:
    """A folder as Dynamo's profiler leaves it; `max_kv_tokens` is how many tokens the engine's cache holds."""

    max_kv_tokens: int | None = None

    name = "dynamo"
    description = "Dynamo planner's profile_results from forecasts (OUT is a folder; --set max_kv_tokens=N)"
    takes = PREDICTIONS
    targets = ("ttft_s", "tpot_s")

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The forecasts of one deployment: of single requests for the prefill, of all loads for the decoding."""
        rows = predicted_rows(frame, ("accelerator_count",), "a profile")
        if len(by_deployment(rows)) > 1:
            raise InputError("a profile is of one deployment", got=f"{len(by_deployment(rows))} deployments")
        capacity = self.max_kv_tokens or next((row[_MAX_KV] for row in rows if _MAX_KV in row), None)
        if not capacity:
            raise InputError(
                "a profile needs the number of tokens that the engine's cache holds",
                hint="--set max_kv_tokens=N, as the engine prints it when it starts; or a column max_kv_tokens",
            )
        prefill, decode = _prefill(rows), _decode(rows, float(capacity))
        place = folder(out)
        for name, arrays in ((PREFILL, prefill), (DECODE, decode)):
            (place / name).mkdir(exist_ok=True)
            stream = io.BytesIO()
            np.savez(stream, **arrays)
            write_file(place / name / "raw_data.npz", stream.getvalue())
        return len(decode["z_itl"]) + len(prefill["prefill_isl"])


def _prefill(rows: list[Row]) -> dict[str, Any]:
    found: dict[float, tuple[float, int]] = {}
    for row in rows:
        kind, load = load_of(row)
        if kind != "request_rate" and load == 1 and "ttft_s" in row:
            found.setdefault(row["input_tokens"], (row["ttft_s"], row["accelerator_count"]))
    if len(found) < MIN_LENGTHS:
        raise InputError(
            f"a profile needs the TTFT of single requests at {MIN_LENGTHS} lengths of input or more",
            got=len(found),
            hint="add cells with a batch_size or a concurrency of 1 to the cases",
        )
    lengths = np.array(sorted(found), dtype=float)
    times = np.array([found[length][0] for length in lengths])
    count = np.array([found[length][1] for length in lengths], dtype=float)
    return {
        "prefill_isl": lengths,
        "prefill_ttft": times * 1e3,
        "prefill_thpt_per_gpu": lengths / times / count,
    }


def _decode(rows: list[Row], capacity: float) -> dict[str, Any]:
    points = []
    for row in rows:
        kind, load = load_of(row)
        context = row["input_tokens"] + row["output_tokens"] / 2
        if kind == "request_rate" or "tpot_s" not in row or load * context > capacity:
            continue  # more requests than the cache holds wait, and are no point of the decoding alone
        points.append((load * context / capacity, context, row["tpot_s"], load / row["tpot_s"]))
    if len(points) < MIN_LENGTHS:
        raise InputError(
            f"a profile needs the TPOT of {MIN_LENGTHS} cells or more whose tokens the cache holds",
            got=f"{len(points)} cells within {capacity:g} tokens",
        )
    usage, context, itl, rate = np.array(points, dtype=float).T
    return {
        "x_kv_usage": usage,
        "y_context_length": context,
        "z_itl": itl * 1e3,
        "z_thpt_per_gpu": rate / rows[0]["accelerator_count"],
        "max_kv_tokens": np.array([int(capacity)]),
    }
