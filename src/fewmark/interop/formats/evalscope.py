"""evalscope's performance test: ``benchmark_summary.json`` of all versions, ``benchmark_data.db``, the web page's JSON.

Keys are prose with a unit in brackets and changed with versions; they are read by their words and their units:

* until 0.16: "Throughput(average tokens/s)", whose "Average time per output token (s)" is the test's duration over all
  output tokens and so kept as ``evalscope.tpot_s``;
* 0.17 to 1.x: "Output token throughput (tok/s)", "Average time to first token (s)";
* 1.14: "Avg TTFT (ms)", "Stream Requests", "Non-Stream Requests".

Without streaming the first token's time is that of the whole answer. A rate or concurrency of −1 is none. Zeros are
not measured values. Tokens are the server's usage.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, is_object, items, label, mapping, sibling, truth
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, number, positive, rows_to_frame, run_id
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import head_text, read_json

_DB_HEAD: Final = b"SQLite format 3\x00"
_UNITS: Final = {"s": 1.0, "ms": 1e-3}
_FIELDS: Final[Mapping[str, str]] = {
    "time taken for tests": "duration_s",
    "test duration": "duration_s",
    "number of concurrency": "concurrency",
    "concurrency": "concurrency",
    "request rate": "request_rate",
    "total requests": "total",
    "succeed requests": "done",
    "success requests": "done",
    "failed requests": "failed",
    "stream requests": "streamed",
    "non-stream requests": "unstreamed",
    "throughput": "throughput_tok_s",
    "output token throughput": "throughput_tok_s",
    "output throughput": "throughput_tok_s",
    "total token throughput": "total_throughput_tok_s",
    "total throughput": "total_throughput_tok_s",
    "request throughput": "request_throughput_req_s",
    "req throughput": "request_throughput_req_s",
    "average qps": "request_throughput_req_s",
    "average latency": "e2e_latency_s",
    "avg latency": "e2e_latency_s",
    "average time to first token": "ttft_s",
    "avg ttft": "ttft_s",
    "average time per output token": "tpot_s",
    "avg tpot": "tpot_s",
    "average inter-token latency": "itl_s",
    "avg itl": "itl_s",
    "average input tokens per request": "input_tokens",
    "avg input tokens": "input_tokens",
    "average output tokens per request": "output_tokens",
    "avg output tokens": "output_tokens",
    "avg decoded tok/iter": "tokens_per_event",
    "average package latency": "gap_s",
    "average package per request": "events",
}
_SIGNS: Final = ("latency (s)", "tokens per request", "throughput", "requests")
_PERCENTILES: Final = {"latency": "e2e_latency", "ttft": "ttft", "tpot": "tpot", "itl": "itl"}
_KEY: Final = re.compile(r"^(?P<words>[^()]+?)\s*(?:\((?P<unit>[^()]*)\))?$")


class Evalscope:
    """One row a load; ``benchmark_args.json``, ``benchmark_percentile.json`` and the data base beside it are used."""

    name = "evalscope"
    description = "evalscope perf: benchmark_summary.json (any version), benchmark_data.db, its web page's JSON"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the prose keys, or by the table of the data base."""
        if head.startswith(_DB_HEAD):
            return 0.9 if b"first_chunk_latency" in head and b"completion_tokens" in head else 0.0
        if has_keys(head, "summary_columns") and "api_type" in head_text(head):
            return 0.9
        if not is_object(head):
            return 0.0
        keys = {_split(key)[0] for key in re.findall(r'"([^"\n]{3,60})"\s*:', head_text(head)[:8000])}
        known = {_FIELDS[key] for key in keys if key in _FIELDS}
        return 0.95 if len(known) >= 5 and {"total", "throughput_tok_s"} <= known else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if the file is none of evalscope's."""
        with path.open("rb") as stream:
            is_data_base = stream.read(len(_DB_HEAD)) == _DB_HEAD
        if is_data_base:
            summary = sibling(path, "benchmark_summary.json")
            return rows_to_frame([_row(path, summary, _requests(path))])
        data = read_json(path)
        if not isinstance(data, Mapping):
            raise FormatError("an evalscope summary is a JSON object", got=type(data).__name__)
        if "summary_rows" in data:
            return rows_to_frame(_web_rows(data))
        if not {"throughput_tok_s", "e2e_latency_s"} & set(_fields(data)):
            raise FormatError("not a summary of evalscope's performance test", got=list(data)[:8])
        return rows_to_frame([_row(path, data, _requests(path.parent / "benchmark_data.db"))])


def _row(path: Path, data: JsonObject, records: RequestRecords | None) -> Row:
    arguments = sibling(path, "benchmark_args.json")
    row = RunRow("evalscope", "requests" if records is not None else "summary")
    fields = _fields(data)
    row.say("model", label(arguments.get("model")))
    row.say("dataset", label(arguments.get("dataset")))
    done, failed, total = (count(fields.get(name)) for name in ("done", "failed", "total"))
    if failed is None and done is not None and total is not None:
        failed = max(0, total - done)
    put_load(
        row,
        rate=fields.get("request_rate", arguments.get("rate") or _of_folder(path, "rate")),
        cap=fields.get("concurrency", arguments.get("parallel") or _of_folder(path, "parallel")),
        n_requests=total or 0,
    )
    row.counts(done if data or records is None else len(records), failed)
    told = _values(row, fields, data, arguments)
    latency = told.get("e2e_latency_s") or (records.statistics().get("e2e_latency_s") if records is not None else None)
    load_told = row.cells.get("request_rate", row.cells.get("concurrency"))
    row.cells["run_id"] = run_id("evalscope", row.cells.get("n_requests"), f"{latency or 0:.3g}", load_told)
    if done == 0 and total:
        row.fail(Status.CRASHED, f"all {total} requests failed")
        return row.finish()
    row.cells |= told
    _add_percentiles(row, sibling_list(path, "benchmark_percentile.json"))
    if records is not None:
        streamed = not row.cells.pop("_whole", False)
        recomputed = records.statistics(fields.get("duration_s"))
        dropped = () if streamed else ("ttft", "tpot")
        row.compare({k: v for k, v in recomputed.items() if not k.startswith(dropped or ("\0",))}, told)
        if records.bounds():
            row.note(records.bounds())
    row.cells.pop("_whole", None)
    if arguments and truth(arguments.get("no_test_connection")) is False:
        row.note("one more request was sent as a connection test, uncounted")
    return row.finish()


def _values(row: RunRow, fields: Mapping[str, float], data: JsonObject, arguments: JsonObject) -> dict[str, float]:
    """The metrics of a summary by canonical name; what is none of ours is put into the row under evalscope's."""
    names = ("input_tokens", "output_tokens", "e2e_latency_s", "ttft_s", "tpot_s", "itl_s")
    rates = ("throughput_tok_s", "total_throughput_tok_s", "request_throughput_req_s")
    out = {name: value for name in (*names, *rates) if (value := positive(fields.get(name))) is not None}
    row.put("duration_s", fields.get("duration_s"))
    streamed, unstreamed = fields.get("streamed"), fields.get("unstreamed")
    tokens, latency, first = (out.get(name) for name in ("output_tokens", "e2e_latency_s", "ttft_s"))
    whole = truth(arguments.get("stream")) is False or (unstreamed is not None and unstreamed > 0)
    if streamed is None and first and latency and (tokens or 2) > 1.5 and first >= 0.999 * latency:
        whole = True
    if whole:
        row.cells["_whole"] = True
        for name in ("ttft_s", "tpot_s", "itl_s"):
            out.pop(name, None)
        row.note("answers were not streamed: what the file calls TTFT is the latency of the whole answer")
    if any(_split(key)[0] == "throughput" for key in data) and "tpot_s" in out:
        row.own("tpot_s", out.pop("tpot_s"))
        row.note("evalscope.tpot_s is the test's duration over all output tokens")
    bundle, events = fields.get("tokens_per_event"), positive(fields.get("events"))
    if bundle is None and events and tokens:
        bundle = (tokens - 1) / events  # the first one is not among them
        out.setdefault("itl_s", positive(fields.get("gap_s")) or 0.0)
    if "itl_s" in out and (whole or not out["itl_s"] or (tokens is not None and tokens <= 1)):
        out.pop("itl_s")
    if bundle is not None and bundle > 1.05 and "itl_s" in out:
        row.own("itl_s", out.pop("itl_s"))
        row.note(f"an event holds {bundle:.3g} tokens: evalscope.itl_s is between events")
    return out


def _add_percentiles(row: RunRow, table: list[JsonObject]) -> None:
    by_level: dict[str, JsonObject] = {}
    for line in table:
        level = str(line.get("Percentiles", line.get("Percentile", ""))).strip().lower()
        by_level[level] = line
    for level, line in by_level.items():
        percent = number(level.rstrip("%"))
        for key, value in line.items():
            words, unit = _split(key)
            metric = _PERCENTILES.get(words)
            if metric is None or percent is None or percent not in PERCENTS or f"{metric}_s" not in row.cells:
                continue
            row.put(f"{metric}_p{int(percent)}_s", value, _UNITS.get(unit, 1.0))
    for key in {key for line in table for key in line}:
        metric = _PERCENTILES.get(_split(key)[0])
        low = [number(by_level[level].get(key)) for level in ("10%", "25%") if level in by_level]
        if metric in ("ttft", "e2e_latency") and low and low[-1] == 0:
            value = row.cells.get(f"{metric}_s")
            row.drop(f"{metric}_s", *(f"{metric}_p{percent}_s" for percent in PERCENTS))
            row.own(f"{metric}_s", value)
            row.note(f"{metric} is 0 for a quarter of the requests, so it was not measured")


def _requests(path: Path) -> RequestRecords | None:
    """The answered requests of a data base; None if there is none. Its pickled columns are never touched."""
    if not path.is_file():
        return None
    records = RequestRecords()
    columns = "success, latency, first_chunk_latency, prompt_tokens, completion_tokens, start_time"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            known = {name for _, name, *_ in opened.execute("PRAGMA table_info(result)")}
            query = f"SELECT {columns}, {'is_stream' if 'is_stream' in known else '1'} FROM result"
            for success, latency, first, prompt, completion, start, streamed in opened.execute(query):
                if success in (1, "1", True):
                    first = positive(first) if streamed in (1, "1", True) else None
                    records.add(positive(latency), first, positive(prompt), positive(completion), number(start))
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise FormatError("the data base of requests cannot be read", got=f"{path.name}: {error}") from None
    return records if len(records) else None


def _web_rows(data: JsonObject) -> list[Row]:
    units = {
        str(mapping(column).get("key")): mapping(mapping(column).get("semantics")).get("raw_unit")
        for column in items(data.get("summary_columns"))
    }
    names = {
        "avg_latency": "e2e_latency_s",
        "avg_ttft": "ttft_s",
        "avg_tpot": "tpot_s",
        "output_token_throughput": "throughput_tok_s",
        "total_token_throughput": "total_throughput_tok_s",
        "request_throughput": "request_throughput_req_s",
        "avg_input_tokens": "input_tokens",
        "avg_output_tokens": "output_tokens",
    }
    out = []
    for line in items(data.get("summary_rows")):
        values = mapping(mapping(line).get("values"))
        row = RunRow("evalscope")
        row.say("model", label(data.get("model")))
        put_load(row, rate=values.get("request_rate"), cap=values.get("concurrency"), n_requests=0)
        for key, name in names.items():
            row.put(name, values.get(key), _UNITS.get(str(units.get(key)), 1.0))
        requests = mapping(mapping(line).get("sample_counts")).get("success_rate", data.get("total_requests"))
        total, share = count(requests), number(values.get("success_rate"))
        if total is not None and share is not None:
            done = round(total * share / 100)
            row.counts(done, total - done)
            if not done and total:
                row.fail(Status.CRASHED, f"all {total} requests failed")
        out.append(row.finish())
    return out


def sibling_list(path: Path, name: str) -> list[JsonObject]:
    """The objects of a JSON list in another file of the same folder; empty if there is none that can be read."""
    other = path.parent / name
    try:
        found = read_json(other) if other.is_file() else []
    except (OSError, FormatError):
        return []
    return [line for line in found if isinstance(line, Mapping)] if isinstance(found, list) else []


def _fields(data: JsonObject) -> dict[str, float]:
    """The numbers of a summary by field, times in seconds."""
    out: dict[str, float] = {}
    for key, value in data.items():
        words, unit = _split(key)
        found = number(value)
        if words in _FIELDS and found is not None:
            out.setdefault(_FIELDS[words], found * _UNITS.get(unit, 1.0))
    return out


def _split(key: str) -> tuple[str, str]:
    """A key's words and its unit, folded: "Avg TTFT (ms)" gives "avg ttft" and "ms"."""
    found = _KEY.match(" ".join(str(key).split()))
    return ("", "") if found is None else (found["words"].strip().lower(), (found["unit"] or "").strip().lower())


def _of_folder(path: Path, word: str) -> float | None:
    """A load from a folder's name such as ``parallel_4_number_16`` or ``rate_4.0_number_8``."""
    found = re.search(rf"(?:^|_){word}_(\d+(?:\.\d+)?)", path.parent.name)
    return float(found[1]) if found else None
