"""llmeter: ``stats.json`` or ``summary.json`` of a run, or its ``responses.jsonl``, with ``run_config.json`` beside.

A load test writes all its levels into one folder: the summaries are the last level's, the responses of all levels
follow one another. Only the last level's are used, after checking that they are its. Rates are made from the whole
run's duration; the file's requests and input tokens per minute divide by the time between first and last sending.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, label, mapping, sibling
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import (
    PERCENTS,
    RunRow,
    count,
    failure_status,
    nested,
    number,
    positive,
    rows_to_frame,
    run_id,
)
from fewmark.interop.text.json_text import read_json, read_objects

_METRICS: Final = {
    "time_to_first_token": "ttft",
    "time_to_last_token": "e2e_latency",
    "time_per_output_token": "tpot",
}
LATE_START: Final = 2.0  # a first TTFT over all later ones from which the client was slow
_REASONING: Final = "num_tokens_output_reasoning"
_OUTPUT: Final = "num_tokens_output"
_AGREES: Final = 1e-6  # relative; the mean of the right responses is the file's own to rounding


class Llmeter:
    """One row a folder. Failures that the client's retries hide cannot be seen; the row says so."""

    name = "llmeter"
    description = "llmeter: stats.json, summary.json or responses.jsonl of a run"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a run's summary or of a response."""
        if has_keys(head, "total_requests", "total_test_time", "clients"):
            return 0.95
        return 0.9 if has_keys(head, "response_text", "time_to_last_token", "num_tokens_output") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if the file is none of llmeter's."""
        with path.open("rb") as stream:
            is_responses = has_keys(stream.read(65_536), "time_to_last_token", "num_tokens_output")
        if is_responses:
            stats, responses = sibling(path, "stats.json") or sibling(path, "summary.json"), _responses(path)
            return rows_to_frame([_row(stats, responses, sibling(path, "run_config.json"))])
        data = read_json(path)
        if "total_test_time" not in mapping(data):
            raise FormatError("a summary of llmeter has a key total_test_time", got=list(mapping(data))[:8])
        stats = {**sibling(path, "stats.json"), **mapping(data)}
        responses = _responses(path.parent / "responses.jsonl")
        return rows_to_frame([_row(stats, responses, sibling(path, "run_config.json"))])


def _row(stats: JsonObject, responses: Sequence[JsonObject], config: JsonObject) -> Row:
    total, failed = count(stats.get("total_requests")), count(stats.get("failed_requests"))
    used, why = _of_last_level(responses, stats, total)
    row = RunRow("llmeter", "requests" if used else "summary")
    row.say("model", label(stats.get("model_id")) or label(nested(config, "endpoint", "__llmeter_state__", "model_id")))
    row.say("provider", label(stats.get("provider")))
    row.say("run_name", label(stats.get("run_name")))
    if why:
        row.note(why)
    clients = positive(stats.get("clients", config.get("clients")))
    if clients is not None:
        row.cells["concurrency"] = clients
    records, errors = _records(used)
    if used:
        failed = len(errors)
    done = len(records) if used else None if total is None else total - (failed or 0)
    row.counts(done, failed)
    seconds = row.put("duration_s", stats.get("total_test_time"))
    latency = positive(stats.get("time_to_last_token-average")) or records.statistics().get("e2e_latency_s")
    row.cells["run_id"] = run_id("llmeter", done, latency, clients)
    if done == 0:
        row.fail(failure_status(errors) if errors else Status.CRASHED, f"all {failed or total} requests failed")
        return row.finish()
    told = _told(stats)
    row.cells |= told
    thought = any(positive(response.get(_REASONING)) for response in used)
    if thought:  # its first token is the first of the answer, and its TPOT counts all tokens
        row.note("TTFT waits for the end of reasoning, and is kept as llmeter.ttft_s; TPOT is of the answer's tokens")
        _keep_first_apart(row)
        told = {name: value for name, value in told.items() if name in row.cells}
    if done and seconds:
        tokens = {way: positive(stats.get(f"total_{way}_tokens")) for way in ("input", "output")}
        row.put("request_throughput_req_s", done / seconds)
        row.put("throughput_tok_s", (tokens["output"] or 0) / seconds)
        if tokens["input"] and tokens["output"]:
            row.put("total_throughput_tok_s", (tokens["input"] + tokens["output"]) / seconds)
        if stats.get("requests_per_minute") is not None:
            row.note("rates are over the whole run; requests_per_minute divides by the time of sending and is not used")
    if used:
        again = records.statistics(seconds)
        if thought:
            answers = [
                {**response, _OUTPUT: (number(response.get(_OUTPUT)) or 0) - (number(response.get(_REASONING)) or 0)}
                for response in used
            ]
            again = {name: value for name, value in again.items() if not name.startswith(("ttft_", "tpot_"))}
            of_answers = _records(answers)[0].statistics()
            again |= {name: value for name, value in of_answers.items() if name.startswith("tpot_")}
        row.compare(again, told)
        if records.bounds():
            row.note(records.bounds())
    row.note(_late_start(used, int(clients or 1)))
    retries = number(nested(config, "endpoint", "__llmeter_state__", "max_retries"))
    if retries:
        row.note(f"the client retries {retries:.0f} times: failures may be hidden, their wait is in the TTFT")
    return row.finish()


def _late_start(responses: Sequence[JsonObject], clients: int) -> str:
    """What to say of first requests that waited for the client, which imports its libraries within them."""
    waits = [positive(response.get("time_to_first_token")) or 0.0 for response in responses]
    later = [wait for wait in waits[clients:] if wait]
    if not later or max(waits[:clients]) <= LATE_START * max(later):
        return ""
    return f"the first TTFT, {max(waits[:clients]):.3g} s, is the client's own start; it is in the means"


def _keep_first_apart(row: RunRow) -> None:
    """Give the wait for the answer's first token llmeter's name, and forget a TPOT made with it."""
    for name in [name for name in row.cells if name.startswith(("ttft_", "tpot_"))]:
        row.cells[f"{row.tool}.{name}"] = row.cells.pop(name)


def _told(stats: JsonObject) -> dict[str, float]:
    out: dict[str, float] = {}
    for key, metric in _METRICS.items():
        names = {"average": f"{metric}_s", **{f"p{percent}": f"{metric}_p{percent}_s" for percent in PERCENTS}}
        for said, name in names.items():
            if (found := positive(stats.get(f"{key}-{said}"))) is not None:
                out[name] = found
    for way in ("input", "output"):
        if (found := positive(stats.get(f"num_tokens_{way}-average"))) is not None:
            out[f"{way}_tokens"] = found
    return out


def _responses(path: Path) -> list[JsonObject]:
    if not path.is_file():
        return []
    return [response for _, response in read_objects(path) if "time_to_last_token" in response]


def _of_last_level(
    responses: Sequence[JsonObject], stats: JsonObject, total: int | None
) -> tuple[Sequence[JsonObject], str]:
    """The responses that the summary is about, and what to say of the others."""
    if total is None or len(responses) == total or not responses:
        return responses, ""
    if len(responses) < total:
        return (), f"only {len(responses)} of {total} responses are there; they are not used"
    last = responses[-total:] if total else ()
    times = [number(response.get("time_to_last_token")) for response in last if not response.get("error")]
    known = [time for time in times if time is not None]
    said = number(stats.get("time_to_last_token-average"))
    if said is None or not known or abs(sum(known) / len(known) / said - 1) > _AGREES:
        return (), f"{len(responses)} responses of several levels for {total} requests; they are not used"
    rest = len(responses) - total
    return last, f"{rest} responses of earlier levels are left out: their load is not recorded"


def _records(responses: Sequence[JsonObject]) -> tuple[RequestRecords, list[str]]:
    records, errors = RequestRecords(), []
    for response in responses:
        last = positive(response.get("time_to_last_token"))
        if response.get("error") or last is None:
            errors.append(str(response.get("error")))
            continue
        first = positive(response.get("time_to_first_token"))
        records.add(last, first, positive(response.get("num_tokens_input")), positive(response.get(_OUTPUT)))
    return records, errors
