"""What SGLang's benchmarks append to their JSON lines, to 0.5.23, headings of the user between the lines or not.

``bench_serving`` (``sglang.benchmark.serving``) writes milliseconds and a *measured* mean concurrency beside the cap;
without streaming its TTFT is the whole latency or 0.0 and ITL and TPOT are (minus) zero. ``bench_one_batch`` times
one batch in the engine, ``bench_one_batch_server`` one against a server, where ``output_throughput`` leaves the prefill
out. ``bench_offline_throughput`` hands all requests to the engine at once. Times of batches are in seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.client_results import drop_unstreamed, put_requests, put_statistics
from fewmark.interop.results.run_rows import (
    TOLERANCE,
    RunRow,
    count,
    failure_status,
    listed,
    nested,
    number,
    positive,
    rows_to_frame,
    run_id,
)
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import head_text, opens_json, read_objects

TOOL: Final = "sglang"
METRICS: Final = (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e_latency", "e2e_latency"))
RETOKENIZED_TOLERANCE: Final = 0.2  # relative; tokens told and re-tokenised that differ by more cannot both be right
COUNTED_TOLERANCE: Final = 0.05  # relative; tokens as the events count them
_SERVING: Final = (
    "total_output_tokens_retokenized",
    "mean_e2e_latency_ms",
    "median_e2e_latency_ms",
    "accept_length",
)
_OFFLINE: Final = (
    *("backend", "successful_requests", "total_latency", "total_input_tokens", "total_output_tokens"),
    "total_throughput",
)
_ENGINES: Final = ("sglang", "vllm", "lmdeploy")


class SglangBench:
    """JSON lines of SGLang's four benchmarks."""

    name = "sglang-bench"
    description = "JSON lines of SGLang's bench_serving, bench_one_batch(_server) or bench_offline_throughput"

    def sniff(self, path: Path, head: bytes) -> float:
        """By keys that only SGLang writes."""
        words = head_text(head)
        if not opens_json(words):
            return 0.0
        if any(f'"{key}"' in words for key in _SERVING) and '"duration"' in words:
            return 0.95
        if '"random_range_ratio"' in words and '"duration"' in words and '"completed"' in words:
            return 0.85
        batch = '"batch_size"' in words and '"input_len"' in words and '"overall_throughput"' in words
        offline = all(f'"{key}"' in words for key in _OFFLINE)
        return 0.9 if batch or offline else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row an object. Raises `FormatError`."""
        return rows_to_frame([_row(line, result) for line, result in read_objects(path)])


def _row(line: int, result: JsonObject) -> Row:
    if "completed" in result and "duration" in result:
        return serving_row(result)
    if "batch_size" in result and ("total_latency" in result or "latency" in result):
        return batch_row(line, result)
    if "total_latency" in result and "total_output_tokens" in result:
        if count(result.get("successful_requests")) is None:
            raise FormatError(
                f"line {line}: bench_offline_throughput writes successful_requests", got=sorted(result)[:12]
            )
        return offline_row(result)
    raise FormatError(f"line {line}: of none of SGLang's benchmarks", got=sorted(result)[:12])


def serving_row(result: JsonObject, detail: str = "summary") -> Row:
    """One row of the canonical table from one result of ``bench_serving``, or from a console block read into one."""
    row = RunRow(TOOL, detail)
    done = count(result.get("completed")) or 0
    duration = positive(result.get("duration"))
    ii, oo = positive(result.get("total_input_tokens")), positive(result.get("total_output_tokens"))
    errors = [error for error in listed(result.get("errors")) if error]
    failed = count(result.get("failed", len(errors) if isinstance(result.get("errors"), list) else None))
    _deployment(row, result)
    row.put("duration_s", duration)
    row.cells["run_id"] = run_id("serving", done, int(ii or 0), int(oo or 0), f"{duration or 0:.2f}")
    rate = result.get("request_rate")
    put_load(row, rate=rate, cap=result.get("max_concurrency"), n_requests=done + (failed or 0))
    row.own("mean_concurrency", result.get("concurrency"))
    row.counts(done, failed)
    if not done:
        row.fail(failure_status(errors), "no request succeeded; zeros in the file are not data")
        return row.finish()
    anew = positive(result.get("total_output_tokens_retokenized"))
    differ = bool(anew and oo and abs(anew / oo - 1) > RETOKENIZED_TOLERANCE)
    if anew and oo and duration and differ and _were_asked_for(result, done, anew):
        row.note(
            f"output tokens are the {anew:.0f} re-tokenised, as the gaps say; the {oo:.0f} told are those asked for"
        )
        result, oo = _with_tokens(result, done, anew, duration), anew
        differ = False
    row.put("input_tokens", (ii or 0) / done)
    row.put("output_tokens", (oo or 0) / done)
    row.put("throughput_tok_s", result.get("output_throughput"))
    row.put("total_throughput_tok_s", result.get("total_throughput"))
    if "total_throughput_tok_s" not in row.cells and ii and oo and duration:
        row.put("total_throughput_tok_s", (ii + oo) / duration)
    row.put("request_throughput_req_s", result.get("request_throughput"))
    row.put_goodput(result.get("request_goodput"))
    put_statistics(row, result, METRICS)
    put_requests(row, result, done, duration)
    drop_unstreamed(row)
    if differ:
        row.note(f"output tokens are {oo:.0f} as told and {anew:.0f} re-tokenised; those told may be those asked for")
    row.own("accept_length", result.get("accept_length"))
    for key, value in result.items():
        if key.startswith("steady_state_") and not key.endswith("_ms"):
            row.own(key, value)
    return row.finish()


def _were_asked_for(result: JsonObject, done: int, anew: float) -> bool:
    """Whether the tokens that came, one an event, are those re-tokenised and not those told.

    Where a server tells no usage, as with ``--backend sglang-oai``, the client takes the length asked for.
    """
    ttft, whole, gap = (positive(result.get(f"mean_{name}_ms")) for name in ("ttft", "e2e_latency", "itl"))
    if ttft is None or whole is None or gap is None or whole <= ttft:
        return False
    return abs(anew / done / (1 + (whole - ttft) / gap) - 1) < COUNTED_TOLERANCE


def _with_tokens(result: JsonObject, done: int, tokens: float, duration: float) -> JsonObject:
    """The result with other output tokens, and what follows from them."""
    out = {name: value for name, value in result.items() if "tpot" not in name}
    ttft, whole = number(result["mean_ttft_ms"]) or 0.0, number(result["mean_e2e_latency_ms"]) or 0.0
    if tokens > done:
        out["mean_tpot_ms"] = (whole - ttft) / (tokens / done - 1)
    gaps = listed(result.get("itls"))
    if gaps:
        out["output_lens"] = [1 + len(listed(each)) for each in gaps]
    rate = tokens / duration
    return {
        **out,
        "total_output_tokens": tokens,
        "output_throughput": rate,
        "total_throughput": rate + (positive(result.get("total_input_tokens")) or 0.0) / duration,
    }


def batch_row(line: int, result: JsonObject, detail: str = "summary") -> Row:
    """One row from one result of ``bench_one_batch``, or from what it printed."""
    row = RunRow(TOOL, detail)
    row.say("engine", "sglang")
    _deployment(row, result)
    row.say("sglang.run_name", result.get("run_name"))
    size, ii, oo = (positive(result.get(key)) for key in ("batch_size", "input_len", "output_len"))
    latency = positive(result.get("total_latency", result.get("latency")))
    if size is None or ii is None or oo is None:
        raise FormatError(f"line {line}: a batch has a batch_size, an input_len and an output_len", got=dict(result))
    row.cells |= {"batch_size": count(size), "input_tokens": ii, "output_tokens": oo}
    first, step = positive(result.get("prefill_latency")), positive(result.get("median_decode_latency"))
    printed = (latency or 0.0,) if first is None else (f"{latency or 0:.3f}", f"{first:.5f}", f"{step or 0:.5f}")
    row.cells["run_id"] = run_id("batch", size, ii, oo, *printed)  # as rounded as the run prints them
    row.cells["statistic"] = "median"
    if latency is None:
        row.fail(failure_status([result.get("error")]), "the batch has no latency")
        return row.finish()
    row.put("e2e_latency_s", latency)
    on_server = "prefill_latency" not in result
    ttft = row.put("ttft_s", result.get("last_ttft") if on_server else result.get("prefill_latency"))
    row.put("throughput_tok_s", size * oo / latency)
    row.put("total_throughput_tok_s", size * (ii + oo) / latency)
    if ttft and latency > ttft and oo > 1:
        row.put("tpot_s", (latency - ttft) / (oo - 1))
        row.put("decode_throughput_tok_s", size * (oo - 1) / (latency - ttft))
    row.own("median_decode_step_s", result.get("median_decode_latency"))
    if on_server:
        row.own("output_throughput_tok_s", result.get("output_throughput"))
        row.note("output_throughput leaves the prefill out, so throughput is batch × output / latency")
        if ttft:
            row.note("TTFT is that of the batch's last sequence")
    told = positive(result.get("overall_throughput"))
    total = row.known("total_throughput_tok_s")
    if told and total and abs(told / total - 1) > TOLERANCE:
        row.note(f"overall_throughput {told:.4g} contradicts batch × (input + output) / latency")
    return row.finish()


def offline_row(result: JsonObject, detail: str = "summary") -> Row:
    """One row from one result of ``bench_offline_throughput``, or from a console block read into one."""
    row = RunRow(TOOL, detail)
    row.say("engine", "sglang")
    _deployment(row, result)
    done, elapsed = count(result.get("successful_requests")) or 0, positive(result.get("total_latency"))
    ii, oo = positive(result.get("total_input_tokens")), positive(result.get("total_output_tokens"))
    row.cells["run_id"] = run_id("offline", done, ii or 0.0, oo or 0.0, f"{elapsed or 0:.2f}")
    row.cells["statistic"] = "median"
    if not done or elapsed is None or oo is None:
        row.fail(failure_status([]), "no request succeeded")
        return row.finish()
    row.cells["batch_size"] = done
    row.put("input_tokens", (ii or 0) / done)
    row.put("output_tokens", oo / done)
    row.put("e2e_latency_s", elapsed)
    row.put("duration_s", elapsed)
    row.put("throughput_tok_s", oo / elapsed)
    row.put("total_throughput_tok_s", (ii + oo) / elapsed if ii else None)
    row.put("request_throughput_req_s", done / elapsed)
    row.own("last_gen_throughput_tok_s", result.get("last_gen_throughput"))
    row.note(f"all {done} requests were given to the engine at once: a batch of that size")
    return row.finish()


def _deployment(row: RunRow, result: JsonObject) -> None:
    backend = str(result.get("backend") or "")
    engine = next((name for name in _ENGINES if backend.startswith(name)), None)
    if engine:
        row.say("engine", engine)
    info = result.get("server_info")
    row.say(
        "model",
        nested(info, "model_path") or nested(info, "served_model_name") or result.get("model", result.get("model_id")),
    )
    row.say("engine_version", nested(info, "version"))
    size = count(nested(info, "tp_size"))
    if size:
        row.cells["tensor_parallel_size"] = size
    row.say("precision", nested(info, "quantization") or _unless(nested(info, "dtype"), "auto"))
    if nested(info, "kv_cache_dtype") not in (None, "auto"):
        row.say("option.kv_cache_dtype", nested(info, "kv_cache_dtype"))
    row.say("sglang.tag", result.get("tag"))
    row.say("sglang.backend", backend)
    row.say("sglang.dataset", result.get("dataset_name"))
    if number(result.get("random_range_ratio")) not in (None, 1.0) and result.get("dataset_name") == "random":
        row.note("lengths are drawn at random; those here are means")


def _unless(value: object, word: str) -> object:
    return None if value == word else value
