"""One benchmark of GuideLLM as a row, from its distributions and, where they are there, its single requests.

Of the parts of a distribution only ``successful`` is read: ``errored`` and ``incomplete`` count latencies of 0, and
``total`` mixes them in. Absent is 0.0, whatever `count` says. ``request_latency`` is in seconds and ends with the
stream, a little after the last token; other latencies are in milliseconds. Its TPOT is e2e/n (0.3: (last − first)/n)
and keeps its own name; its ITL of a request is (last − first)/(n − 1), which is our TPOT, meaned with a request's
tokens as weight. Of rates, distributions over time, only the mean is a throughput.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from fewmark.core import Status
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import (
    PERCENTS,
    TOLERANCE,
    RunRow,
    count,
    failure_status,
    nested,
    number,
    positive,
    text,
)

TOOL: Final = "guidellm"
_OPEN: Final = ("constant", "poisson", "async_constant", "async_poisson", "async")


def benchmark_row(benchmark: JsonObject, report: JsonObject) -> Row:
    """The row of one entry of ``benchmarks``. `report` is the whole file, for what older versions say once."""
    row = RunRow(TOOL)
    metrics = benchmark.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    totals = metrics.get("request_totals") or benchmark.get("request_totals") or _made(benchmark) or {}
    done, errored, cut = (count(nested(totals, key)) for key in ("successful", "errored", "incomplete"))
    if done is None:
        done = count(nested(metrics, "request_latency", "successful", "count")) or 0
    _identity(row, benchmark, report)
    put_strategy(row, _strategy(benchmark, report))
    row.put("duration_s", benchmark.get("duration") or _span(benchmark))
    row.counts(done, errored)
    if cut:
        row.note(f"{cut} more requests were cut off at the end")
    lost = count(nested(benchmark, "scheduler_state", "processing_requests"))
    if lost and not cut:
        row.note(f"{lost} more requests were sent and are nowhere accounted for")
    if not done:
        fail_without_success(row, errored, cut, _errors(benchmark))
        return row.finish()
    put_distributions(row, {name: nested(metrics, name, "successful") for name in metrics})
    if positive(metrics.get("slo_determined_requests")):
        row.put_goodput(nested(metrics, "request_goodput", "successful", "mean"))
    _requests(row, benchmark, done)
    count_all(row, done)
    return row.finish()


def fail_without_success(row: RunRow, errored: int | None, cut: int | None, errors: list[str]) -> None:
    """A status instead of the zeros of a run in which no request finished."""
    if errored or not cut:
        row.fail(failure_status(errors), f"all {errored or 0} requests failed; its zeros are not data")
    else:
        row.fail(Status.TIMEOUT, f"the run ended before any of its {cut} requests did; its zeros are not data")


def put_strategy(row: RunRow, strategy: JsonObject) -> None:
    """Set the load by the strategy of one benchmark: streams in a closed loop, or a rate."""
    kind = (text(strategy.get("type_") or strategy.get("kind") or strategy.get("type")) or "").lower()
    if kind == "synchronous":
        row.cells["concurrency"] = 1
    elif kind == "concurrent":
        streams = count(strategy.get("streams") or strategy.get("max_concurrency"))
        if streams:
            row.cells["concurrency"] = streams
    elif kind in _OPEN:
        row.put("request_rate", strategy.get("rate"))
    elif kind:
        row.note(f"the strategy {kind} has no one load")
    row.say("guidellm.strategy", kind)


def put_distributions(row: RunRow, successful: JsonObject) -> None:
    """Set the metrics from the ``successful`` parts of distributions, by GuideLLM's names of metrics."""
    row.put("input_tokens", nested(successful, "prompt_token_count", "mean"))
    row.put("output_tokens", nested(successful, "output_token_count", "mean"))
    row.put("throughput_tok_s", nested(successful, "output_tokens_per_second", "mean"))
    row.put("total_throughput_tok_s", nested(successful, "tokens_per_second", "mean"))
    row.put("request_throughput_req_s", nested(successful, "requests_per_second", "mean"))
    row.put("guidellm.mean_concurrency", nested(successful, "request_concurrency", "mean"))
    for theirs, ours, scale in (("time_to_first_token_ms", "ttft", 1e-3), ("request_latency", "e2e_latency", 1.0)):
        _put(row, f"{ours}", successful.get(theirs), scale)
    row.own("tpot_s", nested(successful, "time_per_output_token_ms", "mean"), 1e-3)
    if "guidellm.tpot_s" in row.cells:
        row.note("GuideLLM's TPOT counts the first token's time and is kept as guidellm.tpot_s")
    itl = successful.get("inter_token_latency_ms")
    if row.put("tpot_s", nested(itl, "mean"), 1e-3) is None:
        return
    spread = number(nested(successful, "output_token_count", "std_dev"))
    if spread == 0:
        _put(row, "tpot", itl, 1e-3)
        row.note("TPOT is GuideLLM's ITL, (last − first)/(n − 1) of each request")
    else:
        row.note("TPOT is GuideLLM's ITL, (last − first)/(n − 1), meaned by tokens and not by requests")
        for percent in PERCENTS:
            row.own(f"itl_p{percent}_s", _percentile(itl, percent), 1e-3)
    bundle = number(nested(successful, "iter_tokens_per_iteration", "mean"))
    if bundle is not None and abs(bundle - 1) <= 0.05:
        row.put("itl_s", nested(itl, "mean"), 1e-3)
    elif bundle:
        row.note(f"events hold {bundle:.2f} tokens, so no gaps between tokens are known")


def count_all(row: RunRow, done: int) -> None:
    """Make the rates anew where they leave requests or time out.

    A benchmark ends with the request whose end the scheduler heard of last, which need not be the last one; those that
    ended later are in no rate. Rates of tokens of 0.5 are over the time from the first token on.
    """
    duration, rate, told = (row.known(name) for name in ("duration_s", "request_throughput_req_s", "throughput_tok_s"))
    ii, oo = row.known("input_tokens"), row.known("output_tokens")
    if not duration or not rate:
        return
    lost = done - rate * duration
    if 0.5 < lost < done:
        row.note(f"the file's rates leave out {lost:.0f} of {done} requests that ended at the very end")
        rate = row.cells["request_throughput_req_s"] = done / duration
    elif oo and told and told > (1 + TOLERANCE) * rate * oo:
        row.note(f"the file's rate of output tokens, {told:.4g}, leaves out the time before the first one")
    else:
        return
    if oo:
        row.cells["throughput_tok_s"] = rate * oo
        if ii:
            row.cells["total_throughput_tok_s"] = rate * (ii + oo)


def _put(row: RunRow, name: str, part: Json, scale: float) -> None:
    row.put(f"{name}_s", nested(part, "mean"), scale)
    for percent in PERCENTS:
        row.put(f"{name}_p{percent}_s", _percentile(part, percent), scale)


def _percentile(part: Json, percent: int) -> Json:
    value = nested(part, "percentiles", f"p{percent}")
    return nested(part, "median") if value is None and percent == 50 else value


def _identity(row: RunRow, benchmark: JsonObject, report: JsonObject) -> None:
    config = benchmark.get("config")
    row.say("run_id", nested(config, "id_") or benchmark.get("id_"))
    row.say("tool_version", nested(report, "metadata", "guidellm_version"))
    backends = (
        nested(config, "backend"),
        nested(benchmark, "benchmarker", "backend"),
        nested(report, "config", "spec", "backend"),
    )
    models: list[Json] = [nested(backend, "model") for backend in backends]
    models += [nested(benchmark, "worker", "backend_model"), nested(report, "args", "model")]
    row.say("model", next((model for model in models if text(model)), None))
    kind = next((text(nested(backend, "kind") or nested(backend, "type_")) for backend in backends if backend), None)
    if kind and kind.startswith("vllm"):
        row.say("engine", "vllm")
    labels = nested(report, "config", "metadata", "labels")
    if isinstance(labels, Mapping):
        for key, value in labels.items():
            if key in ("engine", "engine_version", "accelerator", "precision"):
                row.say(key, value)


def _strategy(benchmark: JsonObject, report: JsonObject) -> JsonObject:
    """The strategy, wherever a version keeps it; else what a profile of one strategy amounts to."""
    for path in (("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy"), ("strategy",)):
        found = nested(benchmark, *path)
        if isinstance(found, Mapping):
            return found
    for path in (("config", "profile"), ("benchmarker", "profile"), ("args", "profile")):
        profile = nested(benchmark, *path)
        if isinstance(profile, Mapping):
            single = {key: value[0] for key, value in profile.items() if isinstance(value, list) and len(value) == 1}
            return {**profile, **single}
    return {}


def _made(benchmark: JsonObject) -> Json:
    return nested(benchmark, "run_stats", "requests_made") or nested(benchmark, "scheduler_metrics", "requests_made")


def _span(benchmark: JsonObject) -> float | None:
    start, end = number(benchmark.get("start_time")), number(benchmark.get("end_time"))
    return end - start if start is not None and end is not None else None


def _errors(benchmark: JsonObject) -> list[str]:
    failed = nested(benchmark, "requests", "errored")
    if not isinstance(failed, list):
        return []
    return [str(nested(item, "info", "error") or nested(item, "error")) for item in failed[:100]]


def _requests(row: RunRow, benchmark: JsonObject, done: int) -> None:
    """Make the statistics anew where all requests that succeeded are listed; a sample of them says less."""
    listed = nested(benchmark, "requests", "successful")
    if not isinstance(listed, list) or len(listed) != done:
        return
    records = RequestRecords()
    gaps = events = 0.0
    for item in listed:
        timings = nested(item, "info", "timings")
        timings = timings if isinstance(timings, Mapping) else {}
        start = number(timings.get("request_start", nested(item, "start_time")))
        last = number(timings.get("last_token_iteration", nested(item, "last_token_time")))
        whole = positive(nested(item, "request_latency"))
        e2e = last - start if start is not None and last is not None else whole
        ttft = positive(nested(item, "time_to_first_token_ms"))
        ii = positive(nested(item, "prompt_tokens")) or positive(nested(item, "input_metrics", "text_tokens"))
        oo = positive(nested(item, "output_tokens")) or positive(nested(item, "output_metrics", "text_tokens"))
        if e2e is None:
            return
        records.add(e2e, None if ttft is None else ttft / 1e3, ii, oo, start)
        seen = positive(timings.get("token_iterations"))
        if seen and oo and ttft is not None and oo > 1:
            gaps += oo - 1
            events += seen - 1
    duration = row.known("duration_s")
    recomputed = records.statistics(duration)
    if "throughput_tok_s" in row.cells and "throughput_tok_s" in recomputed:
        del recomputed["throughput_tok_s"]  # the tool's mean counts within the same window
        recomputed.pop("total_throughput_tok_s", None)
        recomputed.pop("request_throughput_req_s", None)
    told = {name: value for name in row.cells if name in recomputed and (value := row.known(name)) is not None}
    row.compare(recomputed, told)
    row.note(records.bounds())
    row.cells["detail"] = "requests"
    for name in [name for name in row.cells if re.fullmatch(r"guidellm\.itl_p\d+_s", name)]:
        del row.cells[name]
    row.notes = [note for note in row.notes if not note.startswith("TPOT is GuideLLM's ITL")]
    if gaps and events and abs(events / gaps - 1) > 0.05:
        row.drop("itl_s")
