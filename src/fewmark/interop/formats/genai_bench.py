"""genai-bench: one file a load, ``…_concurrency_N_time_Ts.json``, with ``experiment_metadata.json`` beside it.

``_time_unit`` says whether times are seconds or milliseconds; files without it hold seconds. TPOT is recomputed from
the requests, since early versions divided by the number of output tokens instead of one less. Requests in flight at the
ends of a run are not counted though they loaded the server, so rates are a lower bound where many are in flight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import accelerator_name, has_keys, items, label, mapping, sibling
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, nested, number, positive, rows_to_frame, run_id
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import read_objects

_UNITS: Final = {"s": 1.0, "ms": 1e-3}
_METRICS: Final = {"ttft": "ttft", "tpot": "tpot", "e2e_latency": "e2e_latency"}


class GenaiBench:
    """One row a file. Hardware and engine are what the user claimed on the command line."""

    name = "genai-bench"
    description = "genai-bench: …_concurrency_N_time_Ts.json with aggregated_metrics"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of the aggregate."""
        named = has_keys(head, "aggregated_metrics") or has_keys(
            head, "scenario", "mean_output_throughput_tokens_per_s"
        )
        return 0.95 if (named and has_keys(head, "error_rate")) or (named and has_keys(head, "num_requests")) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if the file has no aggregate."""
        metadata = sibling(path, "experiment_metadata.json")
        rows = []
        for line, data in read_objects(path):
            aggregate = mapping(data.get("aggregated_metrics")) or data
            if "stats" not in aggregate:
                raise FormatError(f"line {line}: genai-bench's aggregate has a key stats", got=list(aggregate)[:8])
            rows.append(_row(data, aggregate, metadata))
        return rows_to_frame(rows)


def _row(data: JsonObject, aggregate: JsonObject, metadata: JsonObject) -> Row:
    unit = str(data.get("_time_unit", "s"))
    if unit not in _UNITS:
        raise FormatError("unknown time unit", got=unit, hint=f"one of {', '.join(_UNITS)}")
    scale = _UNITS[unit]
    requests = [request for request in items(data.get("individual_request_metrics")) if isinstance(request, Mapping)]
    succeeded = [request for request in requests if request.get("error_code") in (None, 200)]
    done, failed = count(aggregate.get("num_completed_requests")), _failed(aggregate, len(requests) - len(succeeded))
    records = _records(succeeded, scale)
    complete = len(records) > 0 and len(records) == (done if done is not None else len(records))
    kept = _kept(succeeded, aggregate) if complete else None
    row = RunRow("genai-bench", "requests" if complete else "summary")
    _deployment(row, metadata)
    row.say("scenario", aggregate.get("scenario"))
    if aggregate.get("iteration_type") == "batch_size":
        row.put("genai-bench.batch_size", aggregate.get("batch_size"))
        row.note("genai-bench.batch_size is texts in one request, not sequences in a batch")
    rate, streams = aggregate.get("request_rate"), aggregate.get("num_concurrency")
    put_load(row, rate=rate, cap=streams, n_requests=(done or 0) + (failed or 0))
    row.counts(done, failed)
    latency = nested(aggregate, "stats", "e2e_latency", "mean")
    row.cells["run_id"] = run_id("genai-bench", done, number(latency), aggregate.get("run_duration"))
    if done == 0:
        row.fail(Status.CRASHED, f"all {failed or 0} requests failed")
        return row.finish()
    told = _told(row, aggregate, scale)
    row.cells |= told
    if kept is not None and len(kept) < len(succeeded):
        row.note(f"{len(succeeded) - len(kept)} of {len(succeeded)} requests, at the start and the end, are left out")
        records, complete = _records(kept, scale), len(kept) > 0
        row.cells["n_requests"] = len(kept) or done
        _make_rates(row)
    if complete:
        row.compare(records.statistics(), told)
        if records.bounds():
            row.note(records.bounds())
    else:
        _convert_tpot(row, aggregate)
    row.note("requests in flight at the ends are uncounted though they loaded the server: rates are a lower bound")
    return row.finish()


def _failed(aggregate: JsonObject, listed: int) -> int | None:
    """How many requests failed, which a run without a success has as 0 beside the frequencies of its errors."""
    codes = [number(found) or 0 for found in mapping(aggregate.get("error_codes_frequency")).values()]
    said = count(aggregate.get("num_error_requests"))
    return said if said is None and not codes and not listed else int(max([said or 0, listed, sum(codes)]))


def _kept(succeeded: list[JsonObject], aggregate: JsonObject) -> list[JsonObject]:
    """The requests that the statistics are of: some first ones and last ones may be left out, as a warm-up.

    How many stands nowhere: it is told by the number and the sum of latencies. Empty if no run of requests has those.
    """
    total, mean = (number(nested(aggregate, "stats", "e2e_latency", key)) for key in ("sum", "mean"))
    if not total or not mean or (n := round(total / mean)) >= len(succeeded):
        return succeeded
    sums = [0.0]
    for request in succeeded:
        sums.append(sums[-1] + (number(request.get("e2e_latency")) or 0.0))
    starts = range(len(succeeded) - n + 1)
    start = min(starts, key=lambda place: abs(sums[place + n] - sums[place] - total))
    return succeeded[start : start + n] if abs(sums[start + n] - sums[start] - total) <= 1e-6 * total else []


def _make_rates(row: RunRow) -> None:
    """Rates of tokens by all requests: the file divides the tokens of those it kept by the time of all."""
    reached = row.known("request_throughput_req_s")
    ii, oo = row.known("input_tokens"), row.known("output_tokens")
    told = row.known("throughput_tok_s")
    row.drop("throughput_tok_s", "total_throughput_tok_s")
    if reached and oo:
        row.cells["throughput_tok_s"] = reached * oo
        if ii:
            row.cells["total_throughput_tok_s"] = reached * (oo + ii)
        row.note(
            f"their tokens were left out of the rates, not their time: {reached * oo:.4g} (the file says {told:.4g})"
        )


def _told(row: RunRow, aggregate: JsonObject, scale: float) -> dict[str, float]:
    out: dict[str, float] = {}
    for key, metric in _METRICS.items():
        stats = mapping(nested(aggregate, "stats", key))
        names = {"mean": f"{metric}_s", **{f"p{p}": f"{metric}_p{p}_s" for p in PERCENTS}}
        out |= {name: found * scale for said, name in names.items() if (found := positive(stats.get(said))) is not None}
    for key, name in (("num_input_tokens", "input_tokens"), ("num_output_tokens", "output_tokens")):
        if (found := positive(nested(aggregate, "stats", key, "mean"))) is not None:
            out[name] = found
    rates = {
        "mean_output_throughput_tokens_per_s": ("throughput_tok_s", 1.0),
        "requests_per_second": ("request_throughput_req_s", 1.0),
        "requests_per_minute": ("request_throughput_req_s", 1 / 60),
    }
    for key, (name, factor) in rates.items():
        if (found := positive(aggregate.get(key))) is not None:
            out.setdefault(name, found * factor)
    run_s = row.put("duration_s", aggregate.get("run_duration"))
    total = positive(nested(aggregate, "stats", "total_tokens", "sum"))
    if run_s and total:  # the key for it held something else in early versions
        out["total_throughput_tok_s"] = total / run_s
    return out


def _convert_tpot(row: RunRow, aggregate: JsonObject) -> None:
    """Where requests are missing: tell by the mean decode time which number of tokens the tool divided by."""
    own, tokens = row.known("tpot_s"), row.known("output_tokens")
    first, latency = row.known("ttft_s"), row.known("e2e_latency_s")
    if not (own and tokens and tokens > 1 and first and latency):
        return
    same_length = number(nested(aggregate, "stats", "num_output_tokens", "stddev")) == 0
    by_all, by_less = (latency - first) / tokens, (latency - first) / (tokens - 1)
    if abs(own / by_all - 1) < 0.25 * (by_less / by_all - 1):
        names = [name for name in row.cells if re.fullmatch(r"tpot(_p\d+)?_s", name)]
        for name in names:
            value = row.known(name)
            row.drop(name)
            if same_length and value is not None:
                row.cells[name] = value * tokens / (tokens - 1)
            else:
                row.own(name, value)
        row.note(
            "tpot of this version divides by all output tokens: "
            + ("converted to one less" if same_length else "kept as genai-bench.tpot_s")
        )


def _records(requests: Sequence[JsonObject], scale: float) -> RequestRecords:
    records = RequestRecords()
    for request in requests:
        latency = positive(request.get("e2e_latency"))
        if latency is not None:
            first = positive(request.get("ttft"))
            tokens = (positive(request.get(name)) for name in ("num_input_tokens", "num_output_tokens"))
            records.add(latency * scale, None if first is None else first * scale, *tokens)
    return records


def _deployment(row: RunRow, metadata: JsonObject) -> None:
    row.say("engine", label(metadata.get("server_engine")))
    row.say("engine_version", label(metadata.get("server_version")))
    row.say("model", label(metadata.get("api_model_name")) or label(metadata.get("model")))
    row.say("accelerator", accelerator_name(metadata.get("server_gpu_type")))
    row.put("accelerator_count", count(metadata.get("server_gpu_count")))
    row.say("tool_version", label(metadata.get("benchmark_version")))
    if row.cells.get("accelerator"):
        row.note("the accelerator is what the user chose from the tool's fixed list of GPUs")
