"""llm-d's Benchmark Report 0.1, 0.2 and 0.2.1, YAML or JSON, checked by its own package where that is installed.

What a report calls TPOT and whose tokens it counts depends on the tool it was made from, which `scenario.load` names;
so does the load, which the official converters sometimes get wrong: a ``rate_qps`` that is the number of requests, a
concurrency of infinity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import CASE_COLUMNS, FormatError
from fewmark.core.cells import Row
from fewmark.core.columns import OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.run_rows import (
    PERCENTS,
    RunRow,
    count,
    failure_status,
    nested,
    number,
    positive,
    rows_to_frame,
)
from fewmark.interop.results.run_rows import text as words_of
from fewmark.interop.text.json_text import head_text
from fewmark.interop.text.yaml_text import read_yaml_documents

TOOL: Final = "llmd_report"
VERSIONS: Final = ("0.1", "0.2", "0.2.1")
_SECONDS: Final = {"s": 1.0, "s/token": 1.0, "ms": 1e-3, "ms/token": 1e-3}
_VERSION: Final = re.compile(r"^[{ \t]*[\"']?version[\"']?\s*:", re.MULTILINE)
_OWN: Final = frozenset((*CASE_COLUMNS, "source", "n_repeats", "statistic"))
_REACHED: Final = 0.9
_FLAT: Final = 0.05


class BenchmarkReport:
    """One Benchmark Report."""

    name = "llmd-benchmark-report"
    description = "llm-d's Benchmark Report 0.1, 0.2, 0.2.1 (version, scenario, results or metrics)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its version and a block that only it has."""
        words = head_text(head)
        if path.suffix.lower() not in (".yaml", ".yml", ".json", ""):
            return 0.0
        new = "request_performance" in words and ("results" in words or _VERSION.search(words) is not None)
        old = _VERSION.search(words) is not None and "input_length" in words and "request_latency" in words
        return 0.9 if new or old else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a report: a file holds one, a list of them, or one in each YAML document.

        Raises `FormatError`; with the package, also where a report does not keep its schema.
        """
        documents = read_yaml_documents(path)
        reports = documents[0] if len(documents) == 1 and isinstance(documents[0], list) else documents
        rows = []
        for place, report in enumerate(reports or [None], start=1):
            try:
                rows.append(_row(report))
            except FormatError as error:
                where = f"report {place}: " if len(reports) > 1 else ""
                raise FormatError(f"{where}{error.what}", got=error.got, hint=error.hint) from None
        return rows_to_frame(rows)


def _row(report: Json) -> Row:
    if not isinstance(report, Mapping):
        raise FormatError("a Benchmark Report is a mapping", got=report)
    version = words_of(report.get("version"))
    if version not in VERSIONS:
        raise FormatError(f"the Benchmark Report's version is {version!r}", hint=f"{', '.join(VERSIONS)} are read")
    checked = _check({**report, "version": version})
    row = _row_0_1(report) if version == "0.1" else _row_0_2(report)
    row.say("tool_version", version)
    if not checked:
        row.note("not checked against its schema: install fewmark[llm-d]")
    return row.finish()


def _check(report: dict[str, Json]) -> bool:
    """Whether the package is there and the report keeps its schema. Raises `FormatError` naming the first field."""
    try:
        from llmd_benchmark_report import load_benchmark_report
    except ImportError:
        return False
    try:
        load_benchmark_report(report)
    except (ValueError, TypeError, RecursionError) as error:
        found = error.errors() if hasattr(error, "errors") else []
        if not found:
            raise FormatError("the file does not keep the Benchmark Report's schema", got=str(error)) from None
        place = ".".join(str(part) for part in found[0].get("loc", ()))
        raise FormatError(f"{place}: {found[0].get('msg')}", got=found[0].get("input")) from None
    return True


def _row_0_2(report: JsonObject) -> RunRow:
    row = RunRow(TOOL)
    stack = nested(report, "scenario", "stack")
    parts = [nested(item, "standardized") for item in stack] if isinstance(stack, list) else []
    engines = [part for part in parts if isinstance(part, Mapping) and part.get("kind") == "inference_engine"]
    _deployment(
        row,
        [(e.get("tool"), e.get("tool_version"), e.get("accelerator"), e.get("role")) for e in engines],
        nested(engines[0], "model", "name") if engines else None,
    )
    if len(engines) == 1 and (count(engines[0].get("replicas")) or 1) > 1:
        row.cells["option.replicas"] = count(engines[0]["replicas"])
    row.say("llmd_report.uid", nested(report, "run", "uid"))
    load = nested(report, "scenario", "load", "standardized")
    native = nested(report, "scenario", "load", "native", "config")
    tool = (words_of(nested(load, "tool")) or _tool_of(nested(report, "run", "uid"))).lower()
    aggregate = nested(report, "results", "request_performance", "aggregate")
    requests = nested(aggregate, "requests")
    if nested(load, "multi_turn", "enabled"):
        row.note("sessions of several turns; a request is a turn")
    prefix = positive(nested(load, "prefix", "prefix_len", "value"))
    if prefix:
        row.cells["workload.prefix_tokens"] = prefix
    rates = {
        "throughput_tok_s": nested(aggregate, "throughput", "output_token_rate", "mean"),
        "total_throughput_tok_s": nested(aggregate, "throughput", "total_token_rate", "mean"),
        "request_throughput_req_s": nested(aggregate, "throughput", "request_rate", "mean"),
    }
    if tool == "fewmark" and isinstance(native, Mapping):
        _restore(row, native)
    else:
        asked = (nested(load, "rate_qps"), nested(load, "concurrency"))
        _load(row, asked, requests, rates["request_throughput_req_s"], tool, native, nested(load, "stage"))
    _results(row, requests, nested(aggregate, "latency"), rates, tool)
    return row


def _restore(row: RunRow, own: JsonObject) -> None:
    """What a report that fewmark wrote is about, from the row that it holds; a static batch has no place elsewhere."""
    kept = {
        str(name): value
        for name, value in own.items()
        if name in _OWN or str(name).startswith((OPTION_PREFIX, WORKLOAD_PREFIX))
    }
    row.cells |= kept
    row.put("power_w", own.get("power_w"))


def _row_0_1(report: JsonObject) -> RunRow:
    row = RunRow(TOOL)
    scenario = report.get("scenario")
    engines = nested(scenario, "platform", "engine")
    hosts, kinds = nested(scenario, "host", "accelerator"), nested(scenario, "host", "type")
    parts = []
    for place, host in enumerate(hosts if isinstance(hosts, list) else []):
        engine = nested(engines, place)
        parts.append((nested(engine, "name"), nested(engine, "version"), host, nested(kinds, place)))
    _deployment(row, parts, nested(scenario, "model", "name"))
    row.say("precision", nested(scenario, "model", "quantization"))
    metrics = report.get("metrics")
    requests, rate = nested(metrics, "requests"), nested(metrics, "throughput", "requests_per_sec")
    rates = {
        "throughput_tok_s": nested(metrics, "throughput", "output_tokens_per_sec"),
        "total_throughput_tok_s": nested(metrics, "throughput", "total_tokens_per_sec"),
        "request_throughput_req_s": rate,
    }
    arguments = nested(scenario, "load", "args")
    asked = (
        nested(arguments, "qps_values") or nested(arguments, "request_rate") or nested(arguments, "rate"),
        nested(arguments, "max_concurrency") or nested(arguments, "concurrency"),
    )
    tool = (words_of(nested(scenario, "load", "name")) or "").lower()
    if "inference-perf" not in tool:  # whose converter writes how long was sent
        row.put("duration_s", nested(metrics, "time", "duration"))
    _load(row, asked, requests, rate, tool, arguments, nested(scenario, "load", "metadata", "stage"))
    _results(row, requests, nested(metrics, "latency"), rates, tool)
    return row


def _deployment(row: RunRow, parts: list[tuple[Json, Json, Json, Json]], model: Json) -> None:
    row.say("model", None if words_of(model) == "unknown" else model)
    if not parts:
        return
    names = {words_of(part[0]) for part in parts}
    if len(names) == 1:
        row.say("engine", parts[0][0])
        row.say("engine_version", parts[0][1])
    kinds = {words_of(nested(part[2], "model")) for part in parts}
    if len(kinds) == 1:
        row.say("accelerator", kinds.pop())
    counts = [count(nested(part[2], "count")) or 0 for part in parts]
    if all(counts):
        row.cells["accelerator_count"] = sum(counts)
    if len(parts) == 1:
        size = count(nested(parts[0][2], "parallelism", "tp"))
        if size:
            row.cells["tensor_parallel_size"] = size
    else:
        roles = [words_of(part[3]) or "?" for part in parts]
        row.cells["option.roles"] = ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))


def _load(
    row: RunRow,
    asked: tuple[Json, Json],
    requests: Json,
    reached: Json,
    tool: str,
    native: Json,
    stage: Json,
) -> None:
    """Set the load, unless a converter is known to write something else in its place."""
    rate, level = positive(asked[0]), count(asked[1])
    if kind_of_load(native) == "concurrent":
        stages, place = nested(native, "load", "stages"), count(stage)
        if place is None and isinstance(stages, list) and len(stages) == 1:
            place = 0
        level, rate = count(nested(stages, place, "concurrency_level")) if place is not None else level, None
    total, achieved = number(nested(requests, "total")), positive(reached)
    if rate is not None and achieved is not None and achieved < _REACHED * rate:
        if "inference-perf" in tool and rate == total:
            row.note(f"rate_qps {rate:g} is the number of requests and no rate")
            rate = None
        else:
            row.note(f"{achieved:.3g} req/s were done where {rate:g} were asked for")
    if rate is not None:
        row.cells["request_rate"] = rate
        if level:
            row.cells["workload.max_concurrency"] = level
    elif level:
        row.cells["concurrency"] = min(level, int(total)) if total else level
    else:
        row.note("the report does not say the load")


def kind_of_load(native: Json) -> str:
    """The kind of load in inference-perf's own settings."""
    return (words_of(nested(native, "load", "type")) or "").lower()


def _tool_of(uid: Json) -> str:
    """The tool in a run's name, such as ``inference-perf-stage-1-…``."""
    found = re.match(r"(inference-perf|guidellm|aiperf|vllm)", words_of(uid) or "")
    return found.group(1) if found else ""


def _results(row: RunRow, requests: Json, latency: Json, rates: JsonObject, tool: str) -> None:
    total, failed = count(nested(requests, "total")), count(nested(requests, "failures"))
    cut = count(nested(requests, "incomplete"))
    done = None if total is None else max(0, total - (failed or 0))
    row.say("llmd_report.tool", tool)
    row.counts(done, failed)
    if cut:
        row.note(f"{cut} requests were incomplete")
    e2e = _seconds(nested(latency, "request_latency"), "mean")
    row.name_run(done, e2e, row.cells.get("llmd_report.uid"))
    if done == 0:
        row.fail(failure_status([]), f"all {failed or 0} requests failed")
        return
    row.put("input_tokens", nested(requests, "input_length", "mean"))
    row.put("output_tokens", nested(requests, "output_length", "mean"))
    for name, value in rates.items():
        row.put(name, value)
    _put(row, "e2e_latency", nested(latency, "request_latency"))
    _put(row, "ttft", nested(latency, "time_to_first_token"))
    per_token, gaps = nested(latency, "time_per_output_token"), nested(latency, "inter_token_latency")
    if "guidellm" in tool:
        row.own("tpot_s", _seconds(per_token, "mean"))
        _put(row, "tpot", gaps)
        row.note("GuideLLM's TPOT counts the first token's time; TPOT here is its ITL, (last − first)/(n − 1)")
        return
    if "aiperf" in tool:
        _put(row, "tpot", gaps)
        row.note(
            "AIPerf's inter_token_latency of a request is TPOT; output tokens may be the client's count of the text"
        )
        return
    _put(row, "tpot", per_token)
    if "inference-perf" in tool:
        row.note("output tokens may be the client's count of the text, as is that tool's default")
    mean, median, tpot = _seconds(gaps, "mean"), _seconds(gaps, "p50"), row.known("tpot_s")
    if mean is None:
        return
    if tool == "fewmark":
        _put(row, "itl", gaps)
        return
    flat = nested(gaps, "p50") is not None and (median or 0) < _FLAT * mean
    if flat or tpot is None or abs(mean / tpot - 1) > _FLAT:
        row.own("itl_s", mean)
        row.note(f"gaps are not between single tokens and kept as {TOOL}.itl_s")
    else:
        _put(row, "itl", gaps)


def _put(row: RunRow, name: str, part: Json) -> None:
    row.put(f"{name}_s", _seconds(part, "mean"))
    for percent in PERCENTS:
        row.put(f"{name}_p{percent}_s", _seconds(part, f"p{percent}"))


def _seconds(part: Json, statistic: str) -> float | None:
    scale = _SECONDS.get(words_of(nested(part, "units")) or "s")
    value = positive(nested(part, statistic))
    return None if value is None or scale is None else value * scale
