"""One run of AIPerf or genai-perf as a row, from its metrics: ``{unit, avg, p50 … p99, std, count, sum}`` each.

``inter_token_latency`` of a request is (latency − TTFT)/(output tokens − 1), which is our TPOT; ``inter_chunk_latency``
pools the gaps between events. By default the output tokens are the *client's* count of the text, and the server's own
lie beside them as ``usage_completion_tokens``: then everything per token is made anew from those. Units stand in each
metric: AIPerf writes milliseconds, genai-perf nanoseconds, at first as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fewmark.core import Status
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.run_rows import (
    PERCENTS,
    TOLERANCE,
    RunRow,
    count,
    failure_status,
    listed,
    nested,
    number,
    positive,
    text,
)
from fewmark.interop.results.serving_load import put_load

_SECONDS: Final = {"ns": 1e-9, "nanoseconds": 1e-9, "us": 1e-6, "ms": 1e-3, "milliseconds": 1e-3, "s": 1.0, "sec": 1.0}
_SECONDS_LONG: Final = {"seconds": 1.0, "second": 1.0, "min": 60.0}
_ONE_EVENT_A_TOKEN: Final = 0.05
WARM_UPS: Final = ("warmup", "warm-up", "warm_up")


def seconds(metric: Json, statistic: str = "avg") -> float | None:
    """A statistic of a time, in seconds by the metric's unit; None if it is unknown or zero."""
    unit = (text(nested(metric, "unit")) or "ms").lower()
    value = positive(nested(metric, statistic))
    scale = _SECONDS.get(unit, _SECONDS_LONG.get(unit))
    return None if value is None or scale is None else value * scale


def run_row(metrics: JsonObject, report: JsonObject, tool: str, detail: str = "summary") -> RunRow:
    """The row of one run. `report` is the whole file: what was asked for, and how the run ended.

    Returns
    -------
    RunRow, to be finished by the caller.
    """
    row = RunRow(tool, detail)
    identify(row, report)
    e2e = metrics.get("request_latency")
    done = count(nested(metrics, "request_count", "avg"))
    if done is None:
        done = count(nested(e2e, "count"))
    failed = count(nested(metrics, "error_request_count", "avg"))
    whole = count(nested(metrics, "completed_request_count", "avg"))
    if failed is None and done is not None and whole is not None:
        failed = whole - done
    row.put("duration_s", seconds(metrics.get("benchmark_duration")))
    put_aiperf_load(row, report, (done or 0) + (failed or 0))
    row.counts(done, failed)
    latency = seconds(e2e)
    row.name_run(done, latency, report.get("benchmark_id"))
    if ended_early(row, report):
        return row
    if latency is None or done == 0:
        errors = [nested(item, "error_details", "message") for item in listed(report.get("error_summary"))]
        row.fail(failure_status(errors), "no request succeeded")
        return row
    row.put("e2e_latency_s", latency)
    row.put("ttft_s", seconds(metrics.get("time_to_first_token")))
    row.put("request_throughput_req_s", nested(metrics, "request_throughput", "avg"))
    row.put_goodput(nested(metrics, "goodput", "avg"))
    for percent in PERCENTS:
        row.put(f"e2e_latency_p{percent}_s", seconds(e2e, f"p{percent}"))
        row.put(f"ttft_p{percent}_s", seconds(metrics.get("time_to_first_token"), f"p{percent}"))
    _tokens(row, metrics, report)
    _gaps(row, metrics, done)
    return row


def identify(row: RunRow, report: JsonObject) -> None:
    """Set the model and the tool's version by whatever version's settings there are."""
    config = settings(report)
    models = (
        nested(config, "models", "items", 0, "name"),
        nested(config, "endpoint", "model_names", 0),
        nested(config, "model_names", 0),
        config.get("model"),
        nested(config, "model", 0),
        config.get("formatted_model_name"),
        nested(report, "metadata", "model"),
        nested(report, "run", "model"),
    )
    row.say("model", next((model for model in models if text(model)), None))
    row.say("tool_version", report.get("aiperf_version"))
    gpus = [
        text(nested(gpu, "gpu_name"))
        for endpoint in mapping(nested(report, "telemetry_data", "endpoints")).values()
        for gpu in mapping(nested(endpoint, "gpus")).values()
    ]
    if gpus and gpus[0] and len(set(gpus)) == 1:  # those that were watched, be they used or not
        row.cells["accelerator"] = gpus[0]
    if text(config.get("service_kind")) == "triton" and text(config.get("backend")) in ("vllm", "tensorrtllm"):
        row.say("engine", {"vllm": "vllm", "tensorrtllm": "tensorrt-llm"}[str(config["backend"])])


def settings(report: JsonObject) -> JsonObject:
    """What was asked for: ``input_config``, or a run's ``run_config.json``."""
    found = report.get("input_config") or report.get("cfg") or nested(report, "run", "config")
    return found if isinstance(found, Mapping) else {}


def put_aiperf_load(row: RunRow, report: JsonObject, n_requests: int) -> None:
    """Set the load from the places where versions keep it: phases, ``loadgen``, a stimulus, a sweep's values."""
    config = settings(report)
    phases = [
        phase
        for phase in [*listed(config.get("phases")), config.get("profiling")]
        if isinstance(phase, Mapping)
        and text(phase.get("kind") or phase.get("name")) not in WARM_UPS
        and not phase.get("exclude_from_results")
    ]
    if len(phases) > 1:
        row.note(f"{len(phases)} phases with loads of their own are meaned together; no one load holds")
        row.cells["detail"] = "mixed"
        return
    varied = report.get("parameters") or nested(report, "run_info", "variation_values")
    varied = varied or nested(report, "metadata", "variation_values") or {}
    stimulus = nested(config, "perf_analyzer", "stimulus")
    places = [_last_words(varied), *phases, config.get("loadgen"), stimulus, config]
    cap = rate = kind = None
    for place in places:
        if not isinstance(place, Mapping):
            continue
        cap = cap if cap is not None else positive(place.get("concurrency"))
        rate = rate if rate is not None else positive(place.get("request_rate", place.get("rate")))
        kind = kind or text(place.get("type"))
    if kind in ("fixed_schedule", "trace", "user_centric") and rate is None:
        row.note(f"the load follows a {kind.replace('_', ' ')}; no one load holds")
        return
    asked = rate if rate is not None or cap is None else "inf"
    put_load(row, rate=asked, cap=cap, n_requests=n_requests)


def ended_early(row: RunRow, report: JsonObject) -> bool:
    """Whether the run was cancelled or is not complete; then the row has a status and no values."""
    cancelled = report.get("was_cancelled") or nested(report, "summary", "was_cancelled")
    if cancelled is not True and report.get("is_complete") is not False:
        return False
    why = "the run was cancelled" if cancelled is True else "the run is not complete"
    reason = text(report.get("incomplete_reason"))
    row.fail(Status.INVALID, why + (f": {reason}" if reason else ""))
    return True


def _tokens(row: RunRow, metrics: JsonObject, report: JsonObject) -> None:
    """Set lengths, rates and TPOT by the server's counts of tokens where they are there, else by the client's."""
    told_in = _first(metrics, "input_sequence_length", "num_input_token")
    told_out = _first(metrics, "output_sequence_length", "num_output_token", "output_token_count")
    used_in, used_out = metrics.get("usage_prompt_tokens"), metrics.get("usage_completion_tokens")
    ii = row.put("input_tokens", nested(used_in, "avg")) or row.put("input_tokens", nested(told_in, "avg"))
    said = positive(nested(told_out, "avg"))
    oo = row.put("output_tokens", nested(used_out, "avg")) or row.put("output_tokens", said)
    rate = positive(nested(metrics, "output_token_throughput", "avg"))
    itl = metrics.get("inter_token_latency")
    if rate is not None and oo and said:
        row.put("throughput_tok_s", rate * oo / said)
        row.put("total_throughput_tok_s", rate * (oo + ii) / said if ii else None)
    by_server = nested(settings(report), "endpoint", "use_server_token_count") is True
    if oo and said and abs(oo / said - 1) > TOLERANCE / 10:
        row.note(f"tokens by the server's count ({oo:.4g} each), not by the client's ({said:.4g})")
        row.own("tpot_s", seconds(itl))
        _tpot_by_usage(row, metrics, oo)
        return
    if not by_server and positive(nested(used_out, "avg")) is None:
        row.note("tokens are counted by the client, from the text")
    if nested(settings(report), "endpoint", "per_chunk_usage") is True:
        row.own("tpot_s", seconds(itl))
        row.note("inter_token_latency leaves out the first event's tokens and is kept as aiperf.tpot_s")
        _tpot_by_usage(row, metrics, oo or 0.0)
        return
    row.put("tpot_s", seconds(itl))
    for percent in PERCENTS:
        row.put(f"tpot_p{percent}_s", seconds(itl, f"p{percent}"))


def _tpot_by_usage(row: RunRow, metrics: JsonObject, tokens: float) -> None:
    e2e, ttft = row.known("e2e_latency_s"), row.known("ttft_s")
    if e2e is None or ttft is None or tokens <= 1:
        return
    row.put("tpot_s", (e2e - ttft) / (tokens - 1))
    if number(nested(metrics, "usage_completion_tokens", "std")) == 0:
        for percent in PERCENTS:
            decode = seconds(metrics.get("decode_duration"), f"p{percent}")
            row.put(f"tpot_p{percent}_s", None if decode is None else decode / (tokens - 1))
    else:
        row.note("TPOT is meaned by tokens and not by requests, since lengths differ")


def _gaps(row: RunRow, metrics: JsonObject, done: int | None) -> None:
    chunk = metrics.get("inter_chunk_latency")
    mean, n = seconds(chunk), positive(nested(chunk, "count"))
    if mean is None:
        return
    tokens = row.known("output_tokens") or 0
    after_first = (done or 0) * (tokens - 1)
    tpot = row.known("tpot_s")
    single = (
        abs(n / after_first - 1) <= _ONE_EVENT_A_TOKEN
        if n is not None and after_first > 0
        else tpot is not None and abs(mean / tpot - 1) <= _ONE_EVENT_A_TOKEN
    )
    prefix = "" if single else f"{row.tool}."
    row.put(f"{prefix}itl_s", mean)
    for percent in PERCENTS:
        row.put(f"{prefix}itl_p{percent}_s", seconds(chunk, f"p{percent}"))
    if not single:
        row.note(f"events are not single tokens, so gaps between events are kept as {row.tool}.itl_s")


def _first(metrics: JsonObject, *names: str) -> Json:
    return next((metrics[name] for name in names if metrics.get(name)), None)


def _last_words(values: Json) -> dict[str, Json]:
    """``phases.profiling.concurrency`` as ``concurrency``."""
    items = values.items() if isinstance(values, Mapping) else ()
    return {str(key).rsplit(".", 1)[-1]: value for key, value in items}
