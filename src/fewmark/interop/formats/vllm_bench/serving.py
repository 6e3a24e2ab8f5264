"""What ``vllm bench serve`` (``benchmark_serving.py`` before 0.8) writes, from 0.6 on, with its Python or Rust client.

One object a run: alone, run together in one file (``--append-result``), a list (a sweep's ``summary.json``) or a row of
a sweep's ``summary.csv``. Times are in milliseconds, those of single requests in seconds. TPOT is ours,
(e2e − ttft)/(n − 1), meaned over requests; ITL pools the gaps between *events* of the stream, which are those between
tokens only if an event is a token. A mean of 0.0 means that there was nothing to mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.base import HEAD_BYTES, NotAResultError
from fewmark.interop.results.client_results import drop_unstreamed, put_requests, put_statistics
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.records import ATTRIBUTE, Objects
from fewmark.interop.results.run_rows import (
    SECRET,
    RunRow,
    count,
    failure_status,
    listed,
    nested,
    number,
    positive,
    rows_to_frame,
    run_id,
    text,
)
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import head_text, opens_json, parse_json, read_objects

TOOL: Final = "vllm"
METRICS: Final = (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2el", "e2e_latency"))
_NEEDED: Final = ('"completed"', '"total_input_tokens"', '"request_throughput"')
_RATES: Final = ('"total_token_throughput"', '"output_throughput"', "_ttft_ms")
_SORTED: Final = ('"completed"', '"duration"')
_ASKED: Final = ('"burstiness"', '"endpoint_type"', '"tokenizer_id"', '"best_of"')
_OF_SGLANG: Final = ("total_output_tokens_retokenized", "mean_e2e_latency_ms", "accept_length", "random_range_ratio")
_OF_A_RUN: Final = re.compile(  # metadata that names the run and not what ran
    r"(?i).*(\bid|_id|uuid|sha|commit|hash|host|user|owner|author|team|job|build|url|link|note|comment|name|date|time|"
    r"trial|repeat|iteration|attempt|tag|experiment|project|cluster|node|pod|namespace|path|file|dir).*"
)
# Keys that vLLM writes itself; any other at the top level is --metadata or a sweep's parameter.
_OWN: Final = re.compile(
    r"date|endpoint_type|backend|label|model_id|tokenizer_id|best_of|num_prompts|request_rate|burstiness|max_concurrency|"
    r"duration|completed|failed|total_.*|request_.*|input_.*|output_.*|max_(output|concurrent).*|max_model_len|rtfx|"
    r"latencies|queue_times|start_times|ttfts|itls|generated_texts|errors|server_.*|failed_requests|"
    r"(mean|median|std|p[\d.]+)_.*|probe_.*|rps_change_events|spec_decode.*|diffusion_.*|steady_state|ramp_up_.*|"
    r"goodput.*|run_number|mode|num_conversations|conversations_.*|turns_.*|avg_.*|multi_turn.*|inter_turn.*|per_turn.*|"
    r"prefix_.*_ratio|no_history.*|use_beam_search|dataset_(name|path).*|(random|sharegpt|sonnet|hf|custom)_.*|seed|"
    r"num_warmups|ignore_eos|temperature|top_[pk]|min_p|percentile_metrics|metric_percentiles|base_url|host|port|endpoint|"
    r"tokenizer|tokenizer_mode|extra_body|logprobs|Unnamed.*|"
)
_METADATA: Final[Mapping[str, str]] = {
    "tp": "tensor_parallel_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "tensor_parallel": "tensor_parallel_size",
    "gpu": "accelerator",
    "gpu_name": "accelerator",
    "gpu_type": "accelerator",
    "hardware": "accelerator",
    "accelerator": "accelerator",
    "num_gpus": "accelerator_count",
    "gpu_count": "accelerator_count",
    "accelerator_count": "accelerator_count",
    "precision": "precision",
    "dtype": "precision",
    "engine": "engine",
    "engine_version": "engine_version",
    "vllm_version": "engine_version",
}
_COUNTS: Final = ("tensor_parallel_size", "accelerator_count")
_ENGINES: Final = {"vllm": "vllm", "vllm-chat": "vllm", "sglang": "sglang", "lmdeploy": "lmdeploy", "tgi": "tgi"}


class VllmServe:
    """Results of ``vllm bench serve`` 0.6 to 0.33 and of its sweeps."""

    name = "vllm-serve"
    description = "JSON of vllm bench serve (completed, total_input_tokens, request_throughput, mean_ttft_ms, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By keys that stand before any list of requests."""
        words = head_text(head)
        if any(key in words for key in _OF_SGLANG):
            return 0.0
        if opens_json(words):
            if all(key in words for key in _NEEDED) and any(key in words for key in _RATES):
                return 0.9
            if all(key in words for key in _SORTED) and any(key in words for key in _ASKED):
                return 0.8  # keys in the order of the alphabet, so that lists of requests come first
            return 0.85 if '"run_number"' in words and '"error_type"' in words else 0.0
        names = set(header_of(head))
        if "number_input_tokens" in names:  # an experiment of ado that ran this client
            return 0.0
        return 0.9 if {"completed", "request_throughput", "mean_ttft_ms"} <= names else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a run. Raises `FormatError`; `NotAResultError` for a warm-up's file."""
        rows: list[Row] = []
        records, warm_ups = Objects(), 0
        for line, result in _results(path):
            if count(result.get("run_number")) is None and number(result.get("run_number")) == -1:
                warm_ups += 1
                continue
            records.append(result)
            if "error_type" in result and "completed" not in result:
                rows.append(_failed_run(result))
                continue
            missing = [key for key in ("completed", "duration") if number(result.get(key)) is None]
            if missing:
                raise FormatError(f"line {line}: vllm bench serve writes {missing[0]}", got=sorted(result)[:12])
            rows.append(serving_row(result))
        if not rows and warm_ups:
            raise NotAResultError("the file holds a warm-up, which is not a result", got=path.name)
        frame = rows_to_frame(rows)
        frame.attrs[ATTRIBUTE] = records
        return frame


def _results(path: Path) -> list[tuple[int, dict[str, Json]]]:
    with path.open("rb") as stream:
        words = head_text(stream.read(HEAD_BYTES))
    if opens_json(words):
        return read_objects(path)
    columns = read_columns(path)
    n_rows = len(next(iter(columns.values())))
    return [(i + 2, {name: _cell(cells[i]) for name, cells in columns.items()}) for i in range(n_rows)]


def _cell(cell: str) -> Json:
    """A CSV cell's value: a list is written as Python prints it."""
    words = cell.strip()
    if words.startswith("["):
        try:
            return parse_json(words.replace("'", '"').replace("None", "null"))
        except FormatError:
            return words
    return words or None


def serving_row(result: JsonObject, detail: str = "summary") -> Row:
    """One row of the canonical table from one result object, or from a console block read into one."""
    row = RunRow(TOOL, detail)
    done = count(result.get("completed")) or 0
    duration = positive(result.get("duration"))
    asked = count(result.get("num_prompts"))
    failed = count(result.get("failed"))
    if failed is None and asked is not None and asked >= done:
        failed = asked - done
    ii, oo = positive(result.get("total_input_tokens")), positive(result.get("total_output_tokens"))
    _deployment(row, result)
    row.put("duration_s", duration)
    row.cells["run_id"] = run_id("serving", done, int(ii or 0), int(oo or 0), f"{duration or 0:.2f}")
    if result.get("mode") == "multi_turn":
        row.put("concurrency", result.get("multi_turn_concurrency"))
        row.note("conversations of several turns; a request is a turn")
    else:
        put_load(
            row,
            rate=result.get("request_rate"),
            cap=result.get("max_concurrency"),
            n_requests=asked or done + (failed or 0),
            ramp=result.get("ramp_up_strategy"),
            ramp_ends=(result.get("ramp_up_start_rps"), result.get("ramp_up_end_rps")),
        )
    row.counts(done, failed)
    if not done:
        errors = [*_errors(result), *(nested(item, "error") for item in listed(result.get("failed_requests")))]
        row.fail(failure_status(errors), f"all {failed or asked or 0} requests failed; its zeros are not data")
        return row.finish()
    row.put("input_tokens", (ii or 0) / done)
    row.put("output_tokens", (oo or 0) / done)
    row.put("throughput_tok_s", result.get("output_throughput"))
    row.put("total_throughput_tok_s", result.get("total_token_throughput"))
    if "total_throughput_tok_s" not in row.cells and ii and oo and duration:
        row.put("total_throughput_tok_s", (ii + oo) / duration)
    row.put("request_throughput_req_s", result.get("request_throughput"))
    row.put_goodput(result.get("request_goodput", result.get("request_goodput:")))
    put_statistics(row, result, METRICS)
    put_requests(row, result, done, duration)
    drop_unstreamed(row)
    _steady_state(row, result.get("steady_state"))
    if positive(result.get("probe_completed")):
        row.note(f"{count(result['probe_completed'])} probe requests ran beside the load and are not counted")
        _keep_waits_apart(row)
    row.say("vllm.date", result.get("date"))
    row.say("vllm.run_number", result.get("run_number"))
    return row.finish()


def _keep_waits_apart(row: RunRow) -> None:
    """Give latencies that hold waits for a probe's connection vLLM's name: both share as many as the cap allows."""
    if row.known("concurrency") is None and row.known("workload.max_concurrency") is None:
        return
    for name in [name for name in row.cells if name.startswith(("ttft_", "e2e_latency_"))]:
        row.cells[f"{TOOL}.{name}"] = row.cells.pop(name)
    row.note("probes take connections of the load's, so TTFT and latency hold waits and are kept as vllm.ttft_s")


def _deployment(row: RunRow, result: JsonObject) -> None:
    row.say("model", result.get("model_id"))
    backend = text(result.get("backend")) or ""
    if backend in _ENGINES:
        row.say("engine", _ENGINES[backend])
        row.note(f"engine taken from the client's backend {backend}")
    row.say("vllm.backend", backend)
    for key, value in result.items():
        known = text(value)
        if _OWN.fullmatch(key) or known is None or SECRET.search(key):
            continue
        name = _METADATA.get(key.lower())
        if name in _COUNTS:
            if count(value):
                row.cells[name] = count(value)
        elif name:
            row.say(name, known)
        elif len(known) <= 200:
            prefix = "vllm" if _OF_A_RUN.fullmatch(key) else "option"
            row.cells[f"{prefix}.{key}"] = value if isinstance(value, (int, float)) else known


def _errors(result: JsonObject) -> list[Json]:
    errors = result.get("errors")
    return [error for error in errors if error] if isinstance(errors, list) else []


def _steady_state(row: RunRow, block: object) -> None:
    """The Rust client's window at full concurrency: other requests than the whole run's, so under their own names."""
    if not isinstance(block, Mapping):
        return
    row.own("steady_state_duration_s", nested(block, "window", "duration_s"))
    row.own("steady_state_concurrency", nested(block, "window", "target_concurrency"))
    row.own("steady_state_throughput_tok_s", block.get("output_throughput"))
    row.own("steady_state_total_throughput_tok_s", block.get("total_token_throughput"))
    row.own("steady_state_request_throughput_req_s", block.get("request_throughput"))
    for metric in ("ttft", "tpot"):
        row.own(f"steady_state_{metric}_s", block.get(f"mean_{metric}_ms"), 1e-3)
        row.own(f"steady_state_{metric}_p50_s", block.get(f"median_{metric}_ms"), 1e-3)
    row.note("the steady-state window's values stand beside those of the whole run")
    row.say("vllm.steady_state_warning", nested(block, "window", "warning"))


def _failed_run(result: JsonObject) -> Row:
    """A sweep's ``run=N.failure.json``: what was asked for, and why it failed."""
    row = RunRow(TOOL)
    asked: dict[str, Json] = {}
    for key in ("serve_overrides", "bench_overrides"):
        overrides = mapping(result.get(key))
        asked |= {str(name).replace("-", "_").lstrip("_"): value for name, value in overrides.items()}
    _deployment(row, asked | {"model_id": asked.get("model")})
    row.drop("option.model")
    put_load(
        row,
        rate=asked.get("request_rate", "inf"),
        cap=asked.get("max_concurrency"),
        n_requests=count(asked.get("num_prompts")) or 0,
    )
    row.put("input_tokens", asked.get("random_input_len"))
    row.put("output_tokens", asked.get("random_output_len"))
    why = f"{text(result.get('error_type')) or 'error'}: {(text(result.get('error')) or '')[:200]}"
    row.cells["run_id"] = run_id("failure", json.dumps(dict(result), sort_keys=True, default=str))
    row.fail(failure_status([why]), f"the run failed ({why})")
    return row.finish()
