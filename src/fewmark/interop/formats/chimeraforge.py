"""chimeraforge's micro-benchmarks of Ollama: ``metrics.json`` with one or two agents.

Milliseconds. Zeros are what Ollama did not report. ``total_duration_ms`` is the sum over the runs; tokens per second
are those of decoding. Lengths of the prompts and the load are not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import has_keys, items, label, mapping
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import read_json


class Chimeraforge:
    """One row an agent."""

    name = "chimeraforge"
    description = "chimeraforge's metrics.json (aggregate_metrics, individual_runs of an Ollama agent)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of an agent."""
        return 0.95 if has_keys(head, "aggregate_metrics", "average_ttft_ms", "individual_runs") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there is no agent in the file."""
        rows = [_row(name, agent) for name, agent in _agents(read_json(path))]
        if not rows:
            raise FormatError("chimeraforge's metrics have an agent with aggregate_metrics")
        return rows_to_frame(rows)


def _agents(data: Json) -> Iterator[tuple[str, JsonObject]]:
    if "aggregate_metrics" in mapping(data):
        yield "", mapping(data)
    for name, agent in mapping(data).items():
        if "aggregate_metrics" in mapping(agent):
            yield name, mapping(agent)


def _row(name: str, agent: JsonObject) -> Row:
    told = mapping(agent.get("aggregate_metrics"))
    row = RunRow("chimeraforge", "requests")
    row.say("engine", "ollama")
    row.say("model", label(agent.get("model")))
    row.say("agent", name or label(agent.get("agent_type")))
    for option, value in mapping(agent.get("configuration")).items():
        if isinstance(value, (str, int, float, bool)):
            row.cells[f"option.{option}"] = value
    records, decoding, tokens = RequestRecords(), 0.0, 0.0
    for run in items(agent.get("individual_runs")):
        made = positive(mapping(run).get("tokens_generated"))
        whole, first = (positive(mapping(run).get(key)) for key in ("total_duration_ms", "ttft_ms"))
        records.add(whole and whole / 1e3, first and first / 1e3, None, made)
        if (spent := positive(mapping(run).get("eval_duration_ms"))) and made:
            decoding, tokens = decoding + spent / 1e3, tokens + made
    row.counts(len(records), None)
    recomputed = records.statistics()
    row.cells |= recomputed
    row.put(
        "ttft_s",
        recomputed.get("ttft_s") or positive(told.get("average_ttft_ms")),
        1 if "ttft_s" in recomputed else 1e-3,
    )
    row.put("decode_throughput_tok_s", tokens / decoding if decoding else told.get("average_tokens_per_second"))
    if records.bounds():
        row.note(records.bounds())
    row.note("lengths of the prompts and the load are not in the file")
    row.cells["run_id"] = run_id("chimeraforge", agent.get("timestamp"), name, row.cells.get("ttft_s"))
    return row.finish()
