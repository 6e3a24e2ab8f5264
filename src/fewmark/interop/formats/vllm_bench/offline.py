"""What ``vllm bench throughput``, ``latency`` and ``startup`` write: one small object each, times in seconds.

``throughput`` hands all requests to the engine at once: a batch of `num_requests` whose latency is the elapsed time;
its ``tokens_per_second`` counts input *and* output. ``latency`` says how long batches took and neither their size nor
their lengths. ``startup`` is what a restart costs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.run_rows import RunRow, count, nested, number, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import head_text, read_objects

TOOL: Final = "vllm"
_THROUGHPUT: Final = ('"elapsed_time"', '"num_requests"')
_LATENCY: Final = ('"avg_latency"', '"latencies"')
_STARTUP: Final = "startup_time"
_COPY: Final = '"benchmark_values"'  # PyTorch's copy of a result, which lies beside it


class VllmThroughput:
    """Results of ``vllm bench throughput``."""

    name = "vllm-throughput"
    description = "JSON of vllm bench throughput (elapsed_time, num_requests, total_num_tokens, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its keys."""
        words = head_text(head)
        if _COPY in words:
            return 0.0
        return 0.9 if all(key in words for key in _THROUGHPUT) and '"total_num_tokens"' in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a run. Raises `FormatError`."""
        return rows_to_frame([_throughput(line, result) for line, result in read_objects(path)])


class VllmLatency:
    """Results of ``vllm bench latency``."""

    name = "vllm-latency"
    description = "JSON of vllm bench latency (avg_latency, latencies, percentiles)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its keys."""
        words = head_text(head)
        return 0.9 if all(key in words for key in _LATENCY) and '"completed"' not in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a run. Raises `FormatError`."""
        return rows_to_frame([_latency(line, result) for line, result in read_objects(path)])


class VllmStartup:
    """Results of ``vllm bench startup``: what a cold and a warm start cost."""

    name = "vllm-startup"
    description = "JSON of vllm bench startup (cold and warm total_startup_time, compilation_time)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By a start-up time that is an engine's, cold or warm."""
        words = head_text(head)
        return 0.85 if _STARTUP in words and "cold" in words and words.lstrip()[:1] in ("{", "[") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table: a row without a workload, its times under ``vllm.``. Raises `FormatError`."""
        return rows_to_frame([_startup(line, result) for line, result in read_objects(path)])


def _throughput(line: int, result: JsonObject) -> Row:
    row = _engine_row(result)
    elapsed, n, tokens = (positive(result.get(k)) for k in ("elapsed_time", "num_requests", "total_num_tokens"))
    if elapsed is None or n is None:
        raise FormatError(f"line {line}: vllm bench throughput writes elapsed_time and num_requests", got=result)
    row.cells["batch_size"] = count(n)
    row.put("e2e_latency_s", elapsed)
    row.put("duration_s", elapsed)
    row.put("request_throughput_req_s", n / elapsed)
    if tokens is not None:
        row.put("total_throughput_tok_s", tokens / elapsed)
        row.note("tokens_per_second counts input and output, so it is the total throughput")
    row.note(f"all {int(n)} requests were given to the engine at once: a batch of that size")
    # Some wrappers write what they asked for beside it; only if the total bears them out are they what was done.
    ii, oo = positive(result.get("input")), positive(result.get("output", result.get("ouput")))
    if ii and oo and tokens == n * (ii + oo):
        row.put("input_tokens", ii)
        row.put("output_tokens", oo)
        row.put("throughput_tok_s", n * oo / elapsed)
        row.note("lengths as asked for, which the total of tokens bears out")
    row.cells["run_id"] = run_id("throughput", int(n), int(tokens or 0), elapsed)
    row.cells["statistic"] = "median"
    return row.finish()


def _latency(line: int, result: JsonObject) -> Row:
    row = _engine_row(result)
    latencies = result.get("latencies")
    known = [value for value in map(positive, latencies if isinstance(latencies, list) else []) if value is not None]
    if not known and row.put("e2e_latency_s", result.get("avg_latency")) is None:
        raise FormatError(f"line {line}: a result of vllm bench latency needs latencies", got=result)
    if known:
        row.put("e2e_latency_s", statistics.median(known))
        row.cells["n_repeats"] = len(known)
        row.cells["statistic"] = "median"
        row.note(f"median of {len(known)} batches (the file's mean: {statistics.fmean(known):.4g} s)")
    row.note("the file says neither the batch size nor the lengths")
    row.cells["run_id"] = run_id("latency", len(known), number(result.get("avg_latency")) or 0.0)
    return row.finish()


def _startup(line: int, result: JsonObject) -> Row:
    row = _engine_row(result)
    found = dict(_times(result))
    if not found:
        raise FormatError(f"line {line}: a result of vllm bench startup needs a start-up time", got=sorted(result)[:12])
    row.cells |= {f"vllm.{name}_s": seconds for name, seconds in found.items()}
    row.note("start-up times; nothing was generated")
    row.cells["run_id"] = run_id("startup", *sorted(found.items()))
    row.cells["statistic"] = "median"
    return row.finish()


def _times(value: JsonObject, prefix: str = "", depth: int = 0) -> list[tuple[str, float]]:
    """Times by their names, those in nested objects prefixed; a list is reduced to its median."""
    found: list[tuple[str, float]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and depth < 3:
            found += _times(item, f"{name}_", depth + 1)
        elif "time" in name and not any(word in name for word in ("std", "count", "percentile")):
            known = [positive(each) for each in item] if isinstance(item, list) else [positive(item)]
            seconds = [each for each in known if each is not None]
            if seconds:
                found.append((name.removesuffix("_s"), statistics.median(seconds)))
    return found


def _engine_row(result: JsonObject) -> RunRow:
    row = RunRow(TOOL)
    row.say("engine", "vllm")
    row.say("model", result.get("model_id") or nested(result, "args", "model") or result.get("model"))
    row.say("engine_version", result.get("vllm_version"))
    size = count(result.get("tensor_parallel_size"))
    if size:
        row.cells["tensor_parallel_size"] = size
    return row
