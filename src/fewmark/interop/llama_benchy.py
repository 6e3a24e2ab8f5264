"""llama-benchy: a report with ``benchmarks``, each a prompt and an answer at some concurrency and depth of context.

Times are milliseconds. ``e2e_ttft`` is the time to the first token; ``ttfr`` that to the first answer of any kind;
``est_ppt`` takes the network's latency off, and so does ``pp_throughput``, which counts input tokens only. Throughputs
of generation leave the first token out: (n − 1) tokens over the time after it. Lengths are those asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.interop.json_text import read_json
from fewmark.interop.lookups import has_keys, label, mapping, truth
from fewmark.interop.run_rows import PERCENTS, RunRow, count, positive, rows_to_frame, run_id

_KEPT: Final = {"pp_throughput": "prompt_tok_s", "peak_throughput": "peak_tok_s"}


class LlamaBenchy:
    """One row a benchmark of the report."""

    name = "llama-benchy"
    description = "llama-benchy's JSON report (benchmarks with pp_throughput, tg_throughput, e2e_ttft)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a benchmark."""
        return 0.95 if has_keys(head, "benchmarks", "pp_throughput") and has_keys(head, "prompt_size") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there are no benchmarks in it."""
        data = mapping(read_json(path))
        benchmarks = data.get("benchmarks")
        if not isinstance(benchmarks, list) or not benchmarks:
            raise FormatError("llama-benchy's report has a list of benchmarks", got=list(data))
        return rows_to_frame([_row(data, mapping(benchmark), place) for place, benchmark in enumerate(benchmarks, 1)])


def _row(data: Mapping[str, Any], benchmark: Mapping[str, Any], place: int) -> dict[str, Any]:
    prompt, answer = count(benchmark.get("prompt_size")), count(benchmark.get("response_size"))
    depth = count(benchmark.get("context_size")) or 0
    if prompt is None or answer is None:
        raise FormatError(f"benchmark {place}: prompt_size and response_size must be numbers", got=list(benchmark))
    row = RunRow("llama-benchy")
    row.say("model", label(data.get("model")))
    row.say("tool_version", label(data.get("version")))
    row.put("concurrency", benchmark.get("concurrency"))
    loading = truth(benchmark.get("is_context_prefill_phase")) is True
    cached = bool(depth) and not loading and truth(data.get("prefix_caching_enabled")) is True
    row.put("input_tokens", depth if loading and depth else depth + prompt)
    row.put("output_tokens", answer)
    if cached:
        row.cells["workload.cached_tokens"] = depth
        row.note(f"the first {depth} tokens of the input were sent before and may be in the server's prefix cache")
    if loading:
        row.note("the run that loads the context")
    firsts = _values(benchmark, "e2e_ttft")
    row.put("ttft_s", mapping(benchmark.get("e2e_ttft")).get("mean"), 1e-3)
    if firsts:
        ordered = sorted(firsts)
        row.cells["n_requests"] = len(ordered)
        for percent in PERCENTS:
            row.put(f"ttft_p{percent}_s", ordered[max(0, -(-percent * len(ordered) // 100) - 1)], 1e-3)
        if len(ordered) < 10:
            row.note(f"percentiles of {len(ordered)} requests are a lower bound")
    speeds = _values(benchmark, "tg_req_throughput")
    if speeds:
        row.put("tpot_s", sum(1 / speed for speed in speeds) / len(speeds))
        row.note("TPOT is the mean of each request's time per token after the first")
    repeats = _values(benchmark, "tg_throughput") or _values(benchmark, "pp_throughput")
    if repeats:
        row.cells["n_repeats"] = len(repeats)
    row.put("decode_throughput_tok_s", mapping(benchmark.get("tg_throughput")).get("mean"))
    for key, name in _KEPT.items():
        row.own(name, mapping(benchmark.get(key)).get("mean"))
    row.put("llama-benchy.network_latency_s", data.get("latency_ms"), 1e-3)
    row.note("lengths are those asked for")
    row.cells["run_id"] = run_id(
        "llama-benchy", data.get("timestamp"), data.get("model"), place, row.cells.get("ttft_s")
    )
    return row.finish()


def _values(benchmark: Mapping[str, Any], key: str) -> list[float]:
    values = mapping(benchmark.get(key)).get("values")
    return [found for value in values if (found := positive(value))] if isinstance(values, list) else []
