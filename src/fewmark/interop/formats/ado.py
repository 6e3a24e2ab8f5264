"""IBM ado's measurements of vLLM as CSV (``ado show entities``, sample stores): a row an entity.

Columns of results carry the name of their experiment in front, or none. −1 stands for what is missing everywhere, and
for a request rate it is infinity: all requests at once, so the load is ``max_concurrency``. Experiments made by
GuideLLM use its TPOT, e2e over all tokens, which keeps that name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import first_known, label
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, failure_status, positive, rows_to_frame, run_id
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.cells import text_to_cell
from fewmark.interop.text.csv_text import header_of, read_columns

_LATENCIES: Final = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e_latency"}
_STATISTICS: Final = {"mean": "", "median": "_p50", **{f"p{percent}": f"_p{percent}" for percent in PERCENTS}}
_RATES: Final = {
    "output_throughput": "throughput_tok_s",
    "total_token_throughput": "total_throughput_tok_s",
    "request_throughput": "request_throughput_req_s",
    "request_goodput": "goodput_req_s",
    "duration": "duration_s",
}
_COUNTS: Final = ("completed", "total_input_tokens", "total_output_tokens")
_RESULT: Final = re.compile(
    r"^(?:(?P<experiment>.+?)[-.:])?(?P<name>(?:mean|median|std|p\d+(?:\.\d+)?)_(?:ttft|tpot|itl|e2el)_ms|"
    + "|".join((*_RATES, *_COUNTS))
    + r"|failed|num_prompts_failed)$"
)
_OPTIONS: Final = (
    "max_batch_tokens", "max_num_seq", "gpu_memory_utilization", "cpu_offload", "enforce_eager", "skip_tokenizer_init",
    "io_processor_plugin", "n_cpus", "memory", "kv_cache_dtype", "enable_prefix_caching", "speculative_config",
)  # fmt: skip
_SIGNS: Final = frozenset(
    ("gpu_model", "gpu_type", "n_gpus", "num_prompts", "number_input_tokens", "max_output_tokens")
)


class Ado:
    """One row an entity and experiment."""

    name = "ado"
    description = "IBM ado's vLLM performance measurements as CSV (model, request_rate, n_gpus, …, mean_ttft_ms)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By columns of the axes beside columns of results."""
        names = header_of(head)
        results = sum(_RESULT.match(name) is not None for name in names)
        axes = len(_SIGNS & set(names)) + ("request_rate" in names) + ("identifier" in names)
        return 0.9 if results >= 3 and axes >= 2 and "model" in names else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there are no columns of results."""
        columns = read_columns(path)
        experiments = dict.fromkeys(
            found["experiment"] or "" for name in columns if (found := _RESULT.match(name)) is not None
        )
        if not experiments:
            raise FormatError("ado's measurements have columns such as mean_ttft_ms", got=list(columns))
        rows: list[Row] = []
        for place in range(len(next(iter(columns.values())))):
            data = {name: text_to_cell(cells[place]) for name, cells in columns.items()}
            made = [_row(data, name, len(experiments) > 1) for name in experiments]
            rows += [row for row in made if row is not None] or [_failed(data)]
        return rows_to_frame(rows)


def _row(data: JsonObject, experiment: str, several: bool) -> Row | None:
    results = {
        found["name"]: value
        for name, value in data.items()
        if (found := _RESULT.match(name)) is not None and (found["experiment"] or "") == experiment
    }
    done = count(results.get("completed"))
    if not any(positive(value) for value in results.values()) and (several or done is None):
        return None
    row = _axes(data)
    row.say("experiment", experiment or data.get("experiment_id"))
    requested = count(data.get("num_prompts"))
    row.counts(done, None if done is None or requested is None else max(0, requested - done))
    row.cells["run_id"] = run_id("ado", data.get("identifier"), experiment, results.get("mean_ttft_ms"), done)
    if done == 0:
        row.fail(Status.CRASHED, "no request succeeded")
        return row.finish()
    for key, metric in _LATENCIES.items():
        for said, suffix in _STATISTICS.items():
            row.put(f"{metric}{suffix}_s", results.get(f"{said}_{key}_ms"), 1e-3)
    for key, name in _RATES.items():
        row.put(name, results.get(key))
    if done:
        for way in ("input", "output"):
            row.put(f"{way}_tokens", positive(results.get(f"total_{way}_tokens")), 1 / done)
    if "guidellm" in (experiment or str(data.get("experiment_id", ""))).lower():
        for name in [name for name in row.cells if name.startswith("tpot")]:
            row.cells[f"guidellm.{name}"] = row.cells.pop(name)
        row.note("guidellm.tpot_s is the latency over all output tokens")
    return row.finish()


def _failed(data: JsonObject) -> Row:
    """A row of an entity whose results are all missing: the measurement failed."""
    row = _axes(data)
    why = first_known(data, "reason", "error", "invalid_reason", "valid")
    row.cells["run_id"] = run_id("ado", data.get("identifier"), "failed")
    row.fail(failure_status([why]) if why is not None else Status.CRASHED, "the experiment left no result")
    return row.finish()


def _axes(data: JsonObject) -> RunRow:
    row = RunRow("ado")
    row.say("engine", "vllm")
    row.say("model", label(data.get("model")))
    row.say("engine_version", _version(data.get("image")))
    row.say("precision", None if data.get("dtype") == "auto" else label(data.get("dtype")))
    row.say("accelerator", label(first_known(data, "gpu_model", "gpu_type")))
    row.put("accelerator_count", data.get("n_gpus"))
    requested = count(data.get("num_prompts")) or 0
    put_load(row, rate=data.get("request_rate"), cap=data.get("max_concurrency"), n_requests=requested)
    for way, name in (("input", "number_input_tokens"), ("output", "max_output_tokens")):
        if row.put(f"{way}_tokens", data.get(name)):
            row.note("lengths are those asked for where the file has no counts")
    for name in _OPTIONS:
        value = data.get(name)
        if value is not None and value != -1:
            row.cells[f"option.{name}"] = value
    burst = positive(data.get("burstiness"))
    if burst is not None and burst != 1 and "request_rate" in row.cells:
        row.cells["workload.burstiness"] = burst
    for name in ("dataset", "endpoint", "identifier"):
        row.say(name, label(data.get(name)))
    return row


def _version(image: object) -> str | None:
    found = re.search(r":v?(\d+\.\d+[\w.]*)", str(image or ""))
    return found[1] if found else None
