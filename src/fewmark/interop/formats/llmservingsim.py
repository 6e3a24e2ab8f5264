"""LLMServingSim: ``requests.jsonl`` of a real vLLM with ``meta.json`` beside it, and the simulator's own CSV.

The first is measured inside the engine: times count from when a request was queued there, not from its sending; its
``arrival_time`` is on another clock and tells only the offered rate. The simulator's CSV (nanoseconds) is a forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.foreign_predictions import predicted_row
from fewmark.interop.results.lookups import first_known, has_keys, label, sibling
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, nested, number, positive, rows_to_frame, run_id
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import read_objects

_CSV: Final = frozenset(("instance id", "request id", "input", "output", "arrival", "latency", "TTFT"))
_STAMPS: Final = ("queued_ts", "first_token_ts", "last_token_ts")
_NS: Final = 1e-9


class Llmservingsim:
    """One row a run, or a model of the simulator's CSV."""

    name = "llmservingsim"
    description = "LLMServingSim: requests.jsonl of a real vLLM (with meta.json), or the simulator's CSV (a forecast)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a request, or by the CSV's header."""
        if has_keys(head, "input_toks", "output_toks", *_STAMPS):
            return 0.95
        return 0.95 if set(header_of(head)) >= _CSV else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if the file is none of the two."""
        with path.open("rb") as stream:
            head = stream.read(65_536)
        if set(header_of(head)) >= _CSV:
            return rows_to_frame(_simulated(read_columns(path)))
        return rows_to_frame([_measured(read_objects(path), sibling(path, "meta.json"))])


def _measured(requests: Sequence[tuple[int, JsonObject]], meta: JsonObject) -> Row:
    records, arrivals, begin, end, failed = RequestRecords(), [], float("inf"), 0.0, 0
    for line, request in requests:
        if "output_toks" not in request:
            raise FormatError(f"line {line}: a request has input_toks and output_toks", got=list(request))
        queued, first, last = (number(request.get(name)) for name in _STAMPS)
        if (arrival := number(request.get("arrival_time"))) is not None:
            arrivals.append(arrival)
        if queued is None or last is None or last <= queued:
            failed += 1
            continue
        begin, end = min(begin, queued), max(end, last)
        tokens = positive(request.get("input_toks")), positive(request["output_toks"])
        records.add(last - queued, positive(first - queued) if first else None, *tokens, queued)
    row = RunRow("llmservingsim", "requests")
    row.say("engine", "vllm")
    row.say("engine_version", label(meta.get("vllm_version")))
    row.say("model", label(first_known(meta, "model")))
    row.say("precision", label(nested(meta, "engine_kwargs", "dtype")))
    row.say("accelerator", label(nested(meta, "hardware", "device_name")))
    row.put("accelerator_count", nested(meta, "hardware", "device_count"))
    row.put("tensor_parallel_size", nested(meta, "engine_kwargs", "tensor_parallel_size"))
    for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len"):
        row.put(f"option.{name}", nested(meta, "engine_kwargs", name))
    row.counts(len(records), failed)
    seconds = row.put("duration_s", end - begin if len(records) else None)
    recomputed = records.statistics(seconds)
    row.cells["run_id"] = run_id("llmservingsim", len(records), recomputed.get("e2e_latency_s"))
    _rate(row, arrivals, 1.0)
    if not len(records):
        row.fail(Status.CRASHED, "no request was finished")
        return row.finish()
    row.cells |= recomputed
    row.note(
        "recomputed from single requests; times count from a request's queueing in the engine, not from its sending"
    )
    if records.bounds():
        row.note(records.bounds())
    return row.finish()


def _simulated(columns: Mapping[str, Sequence[str]]) -> list[Row]:
    by_model: dict[str, list[int]] = {}
    for place, model in enumerate(columns.get("model", [""] * len(columns["input"]))):
        by_model.setdefault(model, []).append(place)
    rows = []
    for model, places in by_model.items():
        records, ends_told = RequestRecords(), 0
        requests: list[tuple[float, float | None, float | None, float | None]] = []
        by_end: list[bool | None] = []  # whether the output is the position of its end; None where no time tells
        for place in places:
            latency, first = positive(columns["latency"][place]), positive(columns["TTFT"][place])
            made = columns["generated_tokens"][place] if "generated_tokens" in columns else columns["output"][place]
            given = positive(columns["input"][place])
            if latency is None:
                raise FormatError(
                    f"row {place + 1}: latency must be a number of nanoseconds", got=columns["latency"][place]
                )
            told = positive(made)
            step = positive(columns["TPOT"][place]) if "TPOT" in columns else None
            timed = 1 + (latency - first) / step if first and step else None
            by_end.append(_is_end(told, given, timed) if given and told and timed else None)
            requests.append((latency, first, given, told))
        others = any(by_end) and False not in by_end  # one token takes no time after its first, and is written alike
        for (latency, first, given, told), is_end in zip(requests, by_end, strict=True):
            if given and told and told > given and (others if is_end is None else is_end):
                told, ends_told = told - given, ends_told + 1
            records.add(latency * _NS, None if first is None else first * _NS, given, told)
        row = predicted_row("llmservingsim", None)
        row.cells["detail"] = "requests"
        row.say("model", label(model))
        row.counts(len(records), None)
        arrivals = [found for place in places if (found := number(columns["arrival"][place])) is not None]
        ended = columns.get("end_time", ())
        ends = [found for place in places if ended and (found := number(ended[place])) is not None]
        seconds = row.put("duration_s", max(ends) - min(arrivals), _NS) if ends and arrivals else None
        row.cells |= records.statistics(seconds)
        row.cells["run_id"] = run_id("llmservingsim", "simulated", len(records), row.cells.get("e2e_latency_s"))
        _rate(row, arrivals, _NS)
        if ends_told:
            row.note("the output counts the input as well, as the time of its tokens says, and was taken off")
        rows.append(row.finish())
    return rows


def _is_end(told: float, given: float, timed: float) -> bool:
    """Whether an output is the position of its end: the tokens that took the time are those behind the input."""
    return abs(told - given - timed) < 0.5 < abs(told - timed)


def _rate(row: RunRow, arrivals: Sequence[float], scale: float) -> None:
    if len(arrivals) > 2 and max(arrivals) > min(arrivals):
        row.put("request_rate", (len(arrivals) - 1) / ((max(arrivals) - min(arrivals)) * scale))
        row.note("the rate is that of the arrivals")
