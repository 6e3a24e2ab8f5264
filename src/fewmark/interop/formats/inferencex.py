"""InferenceX (SemiAnalysis): ``agg_*.json`` rows of both versions, disaggregated ones, and single runs.

Times are seconds without a suffix; ``intvty`` is 1000 over a TPOT in milliseconds. Throughputs are per GPU: of all GPUs
for ``tput_per_gpu``, of the decoding ones for ``output_tput_per_gpu`` and of the prefilling ones for
``input_tput_per_gpu`` where the two are apart; later rows have ``output_tput_per_decode_gpu`` for that. Rows that are
not disaggregated may name the same GPUs for both roles. Power counts where ``power_valid`` is 1 and the schema is
version 2; rows without a version are ambiguous. Rows of one curve may be of different runs; ``curve_run`` tells which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.columns import OPTION_PREFIX
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import first_known, has_keys, label, mapping, truth
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, number, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import read_objects

_METRICS: Final = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e_latency", "e2e": "e2e_latency"}
_NONE: Final = frozenset(("", "none", "false", "off", "0", "no"))
_RUNS: Final = ("curve_run", "github_run_id", "workflow_run_id", "run_id", "run_url", "date")
_SIDES: Final = ("prefill", "decode")
_SIDE_KEYS: Final = ("tp", "pp", "ep", "dcp", "pcp", "dp_attention", "num_workers", "hw")
_OPTIONS: Final = {
    "pp": "pipeline_parallel_size", "ep": "expert_parallel_size", "dcp_size": "decode_context_parallel_size",
    "pcp_size": "prefill_context_parallel_size", "router": "router", "kv_p2p_transfer": "kv_transfer",
}  # fmt: skip


class Inferencex:
    """One row a result."""

    name = "inferencex"
    description = "InferenceX: agg_*.json (v1, v2, disaggregated), lists of them, or a single run"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a row per GPU, or of a run with times in seconds."""
        if has_keys(head, "tput_per_gpu") and any(
            has_keys(head, name) for name in ("hw", "hardware", "device", "conc")
        ):
            return 0.95
        single = has_keys(head, "max_concurrency", "model_id") and not has_keys(head, "median_ttft_ms")
        return 0.95 if single and (has_keys(head, "median_ttft") or has_keys(head, "mean_ttft")) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on rows that are none of InferenceX's."""
        rows = []
        for line, data in read_objects(path):
            flat = {**data, **mapping(data.get("metrics"))}
            if "tput_per_gpu" in flat:
                rows.append(_aggregate(flat))
            elif "max_concurrency" in flat and {"median_ttft", "mean_ttft", "output_throughput"} & set(flat):
                rows.append(_single(flat))
            else:
                raise FormatError(
                    f"line {line}: a row of InferenceX has tput_per_gpu or median_ttft", got=list(data)[:8]
                )
        return rows_to_frame(rows)


def _aggregate(data: JsonObject) -> Row:
    row = RunRow("inferencex")
    row.say("engine", label(data.get("framework")))
    row.say("model", label(data.get("model")))
    row.say("precision", label(data.get("precision")))
    row.say("accelerator", label(first_known(data, "hw", "hardware", "device")))
    _version(row, data)
    row.put("concurrency", data.get("conc"))
    row.put("input_tokens", data.get("isl"))
    row.put("output_tokens", data.get("osl"))
    if "isl" in data:
        row.note("lengths are those asked for")
    gpus = _gpus(row, data)
    for key, name in (("spec_decoding", "spec_decoding"), ("mtp", "spec_decoding")):
        if str(data.get(key, "")).strip().lower() not in _NONE:
            row.say(f"option.{name}", data.get(key))
    for key, name in _OPTIONS.items():
        value = data.get(key)
        if str(value).strip().lower() not in (*_NONE, "1"):
            row.say(f"option.{name}", value)
    if truth(data.get("dp_attention")) is True:
        row.cells["option.dp_attention"] = True
    row.cells |= {key: value for key, value in data.items() if key.startswith(OPTION_PREFIX) and value is not None}
    row.cells |= _latencies(row, data)
    _throughputs(row, data, gpus)
    _power(row, data)
    _failed(row, data)
    row.cells["run_id"] = _identity(data, row)
    return row.finish()


def _single(data: JsonObject) -> Row:
    row = RunRow("inferencex")
    row.say("model", label(data.get("model_id")))
    row.put("concurrency", data.get("max_concurrency"))
    done = count(data.get("completed"))
    total = count(data.get("num_prompts"))
    row.counts(done, None if done is None or total is None else max(0, total - done))
    if done:
        for way in ("input", "output"):
            row.put(f"{way}_tokens", data.get(f"total_{way}_tokens"), 1 / done)
    row.cells |= _latencies(row, data)
    row.put("throughput_tok_s", data.get("output_throughput"))
    given, made = positive(data.get("input_throughput")), positive(data.get("output_throughput"))
    row.put("total_throughput_tok_s", first_known(data, "total_token_throughput") or (given or 0) + (made or 0))
    row.put("request_throughput_req_s", data.get("request_throughput"))
    row.put("goodput_req_s", data.get("request_goodput"))
    row.put("duration_s", data.get("duration"))
    row.note("engine and hardware are not in the file")
    _failed(row, data)
    row.cells["run_id"] = _identity(data, row)
    return row.finish()


@dataclass(frozen=True)
class _Gpus:
    """How many GPUs a deployment has: all of them, those that decode, those that prefill (maybe the same ones)."""

    all: float | None
    decoding: float | None
    prefilling: float | None


def _gpus(row: RunRow, data: JsonObject) -> _Gpus:
    apart = truth(data.get("disagg")) is True
    prefill, decode = positive(data.get("num_prefill_gpu")), positive(data.get("num_decode_gpu"))
    if apart:
        row.cells["option.disaggregated"] = True
        for side in _SIDES:
            for key in _SIDE_KEYS:
                value = data.get(f"{side}_{key}")
                if value not in (None, "") and str(value).strip().lower() not in _NONE:
                    row.say(f"option.{side}_{key}", value)
        found = _Gpus(prefill + decode if prefill and decode else None, decode, prefill)
    else:
        tensor = positive(first_known(data, "tp", "decode_tp"))
        row.put("tensor_parallel_size", tensor)
        shared = decode if prefill == decode else None  # both roles on the same GPUs: they are not added
        factors = [tensor, positive(data.get("pp")) or 1.0, positive(data.get("pcp_size")) or 1.0]
        product = factors[0] * factors[1] * factors[2] if factors[0] and factors[1] and factors[2] else None
        count_of = positive(first_known(data, "num_gpus", "total_gpus", "num_gpu")) or shared or product
        found = _Gpus(count_of, count_of, count_of)
    row.put("accelerator_count", found.all)
    return found


def _throughputs(row: RunRow, data: JsonObject, gpus: _Gpus) -> None:
    """Whole throughputs from those per GPU, each with the number of GPUs that it is per."""
    if gpus.all is None:
        for key in ("tput_per_gpu", "output_tput_per_gpu", "input_tput_per_gpu"):
            row.own(key, data.get(key))
        row.note("how many GPUs there are is not in the row: throughputs are only known per GPU")
        return
    total = row.put("total_throughput_tok_s", data.get("tput_per_gpu"), gpus.all)
    output, given = positive(data.get("output_tput_per_gpu")), positive(data.get("input_tput_per_gpu"))
    per_output, per_input = gpus.decoding or gpus.all, gpus.prefilling or gpus.all
    by_role = (positive(data.get("output_tput_per_decode_gpu")), positive(data.get("input_tput_per_prefill_gpu")))
    if by_role[0]:
        output, given = by_role
    elif per_output != gpus.all and total and output and given:
        # Later rows give both per all GPUs, and the roles' own under other names; whichever adds up to the total holds.
        of_all = abs((output + given) * gpus.all / total - 1)
        per_output, per_input = (
            (gpus.all, gpus.all)
            if of_all < abs((output * per_output + given * per_input) / total - 1)
            else (per_output, per_input)
        )
    row.put("throughput_tok_s", output, per_output)
    row.own("input_tok_s", given, per_input)
    row.note(
        f"throughputs are times {gpus.all:g} GPUs" + (f", output {per_output:g}" if per_output != gpus.all else "")
    )


def _latencies(row: RunRow, data: JsonObject) -> dict[str, float]:
    out: dict[str, float] = {}
    for key, metric in _METRICS.items():
        names = {"mean": f"{metric}_s", "median": f"{metric}_p50_s", **{f"p{p}": f"{metric}_p{p}_s" for p in PERCENTS}}
        for said, name in names.items():
            found = positive(data.get(f"{said}_{key}"))
            if found is None and key == "tpot" and (speed := positive(data.get(f"{said}_intvty"))):
                found = 1 / speed
            if found is not None:
                out[name] = found
    if not any(f"{metric}_s" in out for metric in _METRICS.values()) and out:
        row.note("only percentiles are in the file, no means")
    speculative = any(name.startswith("option.spec") for name in row.cells)
    if speculative:
        for name in [name for name in out if name.startswith("itl")]:
            row.own(name, out.pop(name))
        row.note("with speculative decoding an event holds several tokens: inferencex.itl_s is between events")
    return out


def _power(row: RunRow, data: JsonObject) -> None:
    names = [
        name for name in ("avg_total_gpu_power_w", "avg_power_w", "total_gpu_energy_j") if positive(data.get(name))
    ]
    if not names:
        return
    version, valid = number(data.get("power_metric_schema_version")), truth(data.get("power_valid"))
    if valid is False:
        row.note("power was measured but is marked as not valid, and left out")
    elif version is None or version < 2:
        for name in names:
            row.own(name, data.get(name))
        row.note("power has no schema version, so whether it is per GPU or of all cannot be told")
    else:
        row.put("power_w", data.get("avg_total_gpu_power_w"))
        row.own("avg_power_w", data.get("avg_power_w"))
        row.own("total_gpu_energy_j", data.get("total_gpu_energy_j"))


def _version(row: RunRow, data: JsonObject) -> None:
    image = label(data.get("image"))
    row.say("image", image)
    found = re.search(r"[:#]v?(\d+\.\d+[\w.]*)", image or "")
    if found:
        row.say("engine_version", found[1])


def _failed(row: RunRow, data: JsonObject) -> None:
    done = count(data.get("completed"))
    if done == 0:
        row.fail(Status.CRASHED, "no request succeeded")


def _identity(data: JsonObject, row: RunRow) -> str:
    origin = text_of_run(data)
    if origin:
        row.say("curve_run", origin)
    facts = (data.get("conc", data.get("max_concurrency")), data.get("median_ttft"), data.get("median_tpot"))
    return run_id("inferencex", data.get("model", data.get("model_id")), *facts)


def text_of_run(data: JsonObject) -> str | None:
    """What says which run a row is of; rows of different runs do not make one curve."""
    return label(first_known(data, *_RUNS))
