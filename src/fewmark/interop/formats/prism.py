"""llm-d Prism's rows: benchmark entries as its dashboard keeps them, or the profiles of the service it reads.

Times are milliseconds. An entry is filled with placeholders before its values: 0, "Unknown", and one accelerator, none
of which says anything. Its medians are copies of the means where the service gave only means. Its time per output token
may be the rest of the latency over all output tokens, so it keeps the name ``prism.tpot_s``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import first_known, has_keys, label, mapping, value_at
from fewmark.interop.results.run_rows import RunRow, count, nested, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import read_json

_LISTS: Final = ("entries", "benchmarks", "data", "rows", "results")
_PROFILES: Final = ("profile", "profiles", "benchmarkingData")


class Prism:
    """One row an entry."""

    name = "prism"
    description = (
        "llm-d Prism's rows (source_info, workload, metrics with latency and ttft), or profiles of its service"
    )

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of an entry or a profile."""
        if has_keys(head, "metrics", "ttft") and (
            has_keys(head, "source_info") or has_keys(head, "time_per_output_token")
        ):
            return 0.9
        return 0.9 if has_keys(head, "performanceStats", "outputTokensPerSecond") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there are no entries in the file."""
        data = read_json(path)
        rows = [_profile_row(profile, stats) for profile, stats in _profiles(data)]
        rows += [_entry_row(entry) for entry in _entries(data)] if not rows else []
        if not rows:
            raise FormatError("the file holds none of Prism's entries", got=list(mapping(data))[:8])
        return rows_to_frame(rows)


def _entries(data: Json) -> Iterator[JsonObject]:
    if isinstance(data, Mapping) and "metrics" not in data:
        data = next((data[name] for name in _LISTS if isinstance(data.get(name), list)), [])
    for entry in data if isinstance(data, list) else [data]:
        if isinstance(entry, Mapping) and "metrics" in entry:
            yield entry


def _entry_row(entry: JsonObject) -> Row:
    known, work, metrics = (mapping(entry.get(name)) for name in ("metadata", "workload", "metrics"))
    row = RunRow("prism")
    row.say("engine", label(first_known(known, "backend")) or label(entry.get("backend")))
    row.say("model", label(known.get("model_name")) or label(first_known(entry, "model_name", "model")))
    row.say("precision", label(known.get("precision")) or label(entry.get("precision")))
    row.say("accelerator", label(known.get("hardware")) or label(entry.get("hardware")))
    devices = count(known.get("accelerator_count"))
    if devices and devices > 1:
        row.cells["accelerator_count"] = devices
    elif devices:
        row.note("one accelerator is Prism's placeholder as well, and left unknown")
    row.put("input_tokens", positive(entry.get("isl")) or work.get("input_tokens"))
    row.put("output_tokens", positive(entry.get("osl")) or work.get("output_tokens"))
    streams = positive(first_known({**work, **entry}, "concurrency", "max_concurrency"))
    if streams:
        row.cells["concurrency"] = streams
    elif positive(work.get("target_qps")):
        row.put("request_rate", work.get("target_qps"))
    for name, metric in (("ttft", "ttft"), ("latency", "e2e_latency")):
        stats = mapping(metrics.get(name)) or mapping(entry.get(name))
        if not positive(stats.get("mean")):
            stats = mapping(entry.get(name))
        row.put(f"{metric}_s", stats.get("mean"), 1e-3)
        for percent in (50, 90, 95, 99):
            if percent != 50 or stats.get("p50") != stats.get("mean"):
                row.put(f"{metric}_p{percent}_s", stats.get(f"p{percent}"), 1e-3)
    row.own("tpot_s", first_known({**entry, **metrics}, "tpot", "time_per_output_token"), 1e-3)
    row.own("ntpot_s", first_known({**entry, **metrics}, "ntpot"), 1e-3)
    row.put(
        "throughput_tok_s", positive(metrics.get("output_tput")) or metrics.get("throughput") or entry.get("throughput")
    )
    row.put("total_throughput_tok_s", metrics.get("total_tput"))
    row.put("request_throughput_req_s", positive(metrics.get("request_rate")) or entry.get("qps"))
    errors = count(metrics.get("error_count"))
    if errors:
        row.cells["n_failed"] = errors
    row.say("prism.origin", label(nested(entry, "source_info", "type")) or label(entry.get("source")))
    row.cells["run_id"] = run_id("prism", row.cells.get("model"), *(value_at(entry, "metrics", *p) for p in _IDENTITY))
    return row.finish()


_IDENTITY: Final = (("ttft", "mean"), ("latency", "mean"), ("throughput",), ("output_tput",))


def _profiles(data: Json) -> Iterator[tuple[JsonObject, JsonObject]]:
    found = next((under for name in _PROFILES if isinstance(under := mapping(data).get(name), list)), None)
    profiles = found if found is not None else data if isinstance(data, list) else [data]
    for profile in profiles:
        stats = mapping(profile).get("performanceStats")
        for each in stats if isinstance(stats, list) else [stats] if isinstance(stats, Mapping) else []:
            yield mapping(profile), mapping(each)


def _profile_row(profile: JsonObject, each: JsonObject) -> Row:
    stats = mapping(each.get("performanceMetrics")) or each
    used = mapping(each.get("resources")) or mapping(profile.get("resourcesUsed"))
    row = RunRow("prism")
    row.say("engine", label(nested(profile, "modelServerInfo", "modelServer")))
    row.say("engine_version", label(nested(profile, "modelServerInfo", "modelServerVersion")))
    row.say("model", label(nested(profile, "modelServerInfo", "model")) or label(profile.get("model")))
    row.say("accelerator", label(first_known({**used, **profile}, "acceleratorType")))
    row.put("accelerator_count", used.get("acceleratorCount"))
    for way in ("Input", "Output"):
        row.put(f"{way.lower()}_tokens", nested(profile, "workloadSpec", f"average{way}Length"))
    row.put("throughput_tok_s", first_known(stats, "outputTokensPerSecond", "outputTokenThroughputTokensPerSecond"))
    row.put("total_throughput_tok_s", stats.get("totalTokensPerSecond"))
    row.put("request_throughput_req_s", first_known(stats, "queriesPerSecond", "requestThroughput"))
    row.put("ttft_s", first_known(stats, "ttftMilliseconds", "meanTimeToFirstTokenMilliseconds"), 1e-3)
    row.put("e2e_latency_s", stats.get("meanLatencyMilliseconds"), 1e-3)
    row.own("ntpot_s", stats.get("ntpotMilliseconds"), 1e-3)
    row.own("tpot_s", first_known(stats, "meanTimePerOutputTokenMilliseconds", "interTokenLatency"), 1e-3)
    row.note("prism.ntpot_s is the latency over the output tokens; the load is not in a profile")
    row.cells["run_id"] = run_id("prism", row.cells.get("model"), *sorted(map(str, stats.items())))
    return row.finish()
