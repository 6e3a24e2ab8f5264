"""llmperf: ``…_summary.json`` and ``…_individual_responses.json``.

Tokens are counted by the client's own tokenizer, whatever the model. The tool's inter-token latency is the whole
latency over the output tokens, so it is kept as ``llmperf.inter_token_latency_s``; TPOT comes from single requests.
The lengths in ``mean_input_tokens`` and ``mean_output_tokens`` are those asked for; the measured ones are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import first_known, has_keys, label, mapping, sibling
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import (
    PERCENTS,
    RunRow,
    count,
    failure_status,
    number,
    positive,
    rows_to_frame,
    run_id,
)
from fewmark.interop.text.json_text import read_json

_METRICS: Final = {"ttft_s": "ttft", "end_to_end_latency_s": "e2e_latency"}
_INDIVIDUAL: Final = ("_individual_responses", "_summary")
_TOKENS: Final = "tokens are counted by the client's tokenizer"


class Llmperf:
    """One row a file; a summary and the responses of one run have the same ``run_id``."""

    name = "llmperf"
    description = "llmperf: …_summary.json (results_ttft_s_mean, …) or …_individual_responses.json"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a summary or of a response."""
        if has_keys(head, "num_concurrent_requests") and b'"results_' in head:
            return 0.95
        return 0.9 if has_keys(head, "end_to_end_latency_s", "request_output_throughput_token_per_s") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if the file is none of llmperf's."""
        data = read_json(path)
        if isinstance(data, list):
            summary = sibling(path, path.name.replace(*_INDIVIDUAL)) if _INDIVIDUAL[0] in path.name else {}
            return rows_to_frame([_responses_row(data, summary)])
        flat = _flat(mapping(data))
        if not any(name.startswith("results_") for name in flat):
            raise FormatError("a summary of llmperf has keys that begin with results_", got=list(flat)[:8])
        return rows_to_frame([_summary_row(flat)])


def _summary_row(data: JsonObject) -> Row:
    row = RunRow("llmperf")
    _what(row, data)
    done, failed = count(data.get("results_num_completed_requests")), count(data.get("results_number_errors"))
    row.counts(done, failed)
    for key, metric in _METRICS.items():
        row.put(f"{metric}_s", data.get(f"results_{key}_mean"))
        for percent in PERCENTS:
            row.put(f"{metric}_p{percent}_s", data.get(f"results_{key}_quantiles_p{percent}"))
    row.cells["run_id"] = _run_id(done, row.cells.get("e2e_latency_s"), row.cells.get("ttft_s"))
    if done == 0:
        row.fail(Status.CRASHED, f"all {failed or 0} requests failed")
        return row.finish()
    for way in ("input", "output"):
        row.put(f"{way}_tokens", data.get(f"results_number_{way}_tokens_mean"))
    row.put("throughput_tok_s", data.get("results_mean_output_throughput_token_per_s"))
    row.put("request_throughput_req_s", data.get("results_num_completed_requests_per_min"), 1 / 60)
    row.own("inter_token_latency_s", data.get("results_inter_token_latency_s_mean"))
    row.note("llmperf.inter_token_latency_s is the whole latency over the output tokens; TPOT needs the responses")
    row.note(_TOKENS)
    return row.finish()


def _responses_row(data: list[Json], summary: JsonObject) -> Row:
    records, errors, own = RequestRecords(), [], []
    for place, response in enumerate(data, start=1):
        if not isinstance(response, Mapping):
            raise FormatError(f"entry {place}: a response is a JSON object", got=response)
        latency = positive(response.get("end_to_end_latency_s"))
        if response.get("error_code") not in (None, "") or latency is None:
            errors.append(f"{response.get('error_code')} {response.get('error_msg')}")
            continue
        tokens = (positive(response.get(f"number_{way}_tokens")) for way in ("input", "output"))
        records.add(latency, positive(response.get("ttft_s")), *tokens)
        if (gap := number(response.get("inter_token_latency_s"))) is not None:
            own.append(gap)
    row = RunRow("llmperf", "requests")
    _what(row, _flat(summary))
    row.counts(len(records), len(errors))
    recomputed = records.statistics()
    row.cells["run_id"] = _run_id(len(records), recomputed.get("e2e_latency_s"), recomputed.get("ttft_s"))
    if not len(records):
        row.fail(failure_status(errors), f"all {len(errors)} requests failed")
        return row.finish()
    if summary:
        row.put("throughput_tok_s", _flat(summary).get("results_mean_output_throughput_token_per_s"))
    row.cells |= recomputed
    row.note("recomputed from single requests")
    if own:
        row.own("inter_token_latency_s", sum(own) / len(own))
    if records.bounds():
        row.note(records.bounds())
    row.note(_TOKENS)
    if "concurrency" not in row.cells:
        row.note("the load is not in this file; import the summary as well")
    return row.finish()


def _what(row: RunRow, data: JsonObject) -> None:
    row.say("model", label(data.get("model")))
    row.say("engine", label(first_known(data, "framework", "llm_api")))
    row.put("concurrency", data.get("num_concurrent_requests"))


def _flat(data: JsonObject) -> dict[str, Json]:
    """Older files nest the results under one key."""
    nested = mapping(data.get("results"))
    return {**data, **_joined("results", nested)} if nested else dict(data)


def _joined(prefix: str, data: JsonObject) -> dict[str, Json]:
    out: dict[str, Json] = {}
    for key, value in data.items():
        name = f"{prefix}_{key}"
        out |= _joined(name, value) if isinstance(value, Mapping) else {name: value}
    return out


def _run_id(done: int | None, latency: Json, first: Json) -> str:
    return run_id("llmperf", done, f"{latency or 0:.6g}", f"{first or 0:.6g}")
