"""Files that tools leave beside their results and that hold none: settings, prompts, percentiles, time series.

They are known so that a folder can pass over them, and so that one given alone is refused with the file to give
instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.interop.base import NotAResultError
from fewmark.interop.results.lookups import has_keys
from fewmark.interop.text.csv_text import header_of
from fewmark.interop.text.json_text import head_text


@dataclass(frozen=True)
class _Kind:
    """A kind of side file: what it is, what to give instead, and the JSON keys or CSV columns that tell it."""

    what: str
    instead: str
    keys: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    pattern: str = ""

    def matches(self, head: bytes) -> bool:
        """Whether a file's first bytes are of this kind."""
        if self.keys and has_keys(head, *self.keys):
            return True
        if self.columns and set(header_of(head)) >= set(self.columns):
            return True
        return bool(self.pattern) and re.search(self.pattern, head_text(head)[:2000]) is not None


_KINDS: Final = (
    _Kind("the prompts of an AIPerf run", "profile_export_aiperf.json", ("session_id", "payloads")),
    _Kind("the settings of an AIPerf run", "profile_export_aiperf.json", ("benchmark_id", "cfg", "sweep_id")),
    _Kind("the server's metrics of an AIPerf run", "profile_export_aiperf.json", ("endpoints_configured",)),
    _Kind("the list of an AIPerf run's phases", "profile_export_aiperf.json", ("phases", "phase_kind", "metrics_json")),
    _Kind("an AIPerf run, slice by slice", "profile_export_aiperf.json", ("timeslices",)),
    _Kind("a mark that an AIPerf run is over", "profile_export_aiperf.json", ("ready", "was_cancelled", "partial")),
    _Kind("the server's metrics of an AIPerf run", "profile_export_aiperf.json", pattern="^# AIPerf Server Metrics"),
    _Kind(
        "the rounded table of an AIPerf run",
        "profile_export_aiperf.json",
        columns=("Metric", "min", "max", "std"),
        pattern="NVIDIA AIPerf",
    ),
    _Kind("the rounded table of a genai-perf run", "profile_export_genai_perf.json", columns=("Metric", "avg", "p25")),
    _Kind(
        "the rounded table of an AIPerf aggregate",
        "profile_export_aiperf_aggregate.json",
        columns=("metric", "ci_low", "t_critical"),
    ),
    _Kind(
        "the rounded table of an AIPerf sweep",
        "profile_export_aiperf_sweep.json",
        columns=("request_latency_mean", "request_latency_cv"),
    ),
    _Kind("the checks of an inference-perf run", "stage_N_lifecycle_metrics.json", pattern=r'(?s)"global".*"warnings"'),
    _Kind(
        "the settings of an inference-perf run",
        "stage_N_lifecycle_metrics.json",
        pattern=r"(?sm)^(api|data|load|server):.*^(load|server):",
    ),
    _Kind("the raw metrics of MLCommons endpoints", "result_summary.json", ("n_pending_tasks", "metrics")),
    _Kind("PyTorch's copy of a vLLM result", "the file without .pytorch", ("benchmark_values", "extra_info")),
    _Kind("the settings of an optimum-benchmark run", "benchmark_report.json", ("backend", "scenario", "launcher")),
    _Kind(
        "the requests as Perf Analyzer saw them in a genai-perf run, without counts of tokens",
        "profile_export_genai_perf.json",
        ("experiments", "window_boundaries"),
    ),
    _Kind("the settings of an evalscope run", "benchmark_summary.json", ("sla_auto_tune", "parallel", "number")),
    _Kind("the percentiles of an evalscope run", "benchmark_summary.json", ("Percentiles", "Latency (s)")),
    _Kind("the throughput over time of an evalscope run", "benchmark_summary.json", ("last_window_s", "warmup_frac")),
    _Kind("the time line of an evalscope run", "benchmark_summary.json", ("cum_completion", "cum_new_prompt")),
    _Kind("the table that evalscope prints", "benchmark_summary.json", pattern="Performance Test Summary Report"),
    _Kind("the log of an evalscope run", "benchmark_summary.json", pattern=r"evalscope - INFO"),
    _Kind(
        "the settings of a genai-bench experiment",
        "the files …_concurrency_N_time_Ts.json",
        ("benchmark_version", "traffic_scenario", "server_gpu_type"),
    ),
    _Kind(
        "the settings of an llmeter run", "stats.json or responses.jsonl", ("__llmeter_class__", "__llmeter_state__")
    ),
    _Kind(
        "the prompts of an llmeter run", "stats.json or responses.jsonl", pattern=r'^\s*\{"messages": \[.*"max_tokens"'
    ),
    _Kind("the header of a BLIS trace", "the CSV of its requests", pattern=r"(?m)^trace_version:\s*\d"),
    _Kind("a web page", "the JSON or CSV that it was made from", pattern=r"(?i)^\s*<(!doctype\s+)?html"),
    _Kind(
        "the state of the machine over time in an LLMServingSim bundle",
        "requests.jsonl",
        columns=("t", "prompt_throughput", "gen_throughput", "running", "waiting"),
    ),
    _Kind(
        "the settings of an LLMServingSim bundle", "requests.jsonl", ("engine_kwargs", "vllm_version", "dataset_hash")
    ),
)


class SideFile:
    """Recognised, and always refused."""

    name = "side-file"
    description = "settings and the like that tools leave beside their results (refused with what to give instead)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By keys and columns; less sure than any format of results."""
        return 0.45 if any(kind.matches(head) for kind in _KINDS) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """Nothing: raises `NotAResultError`, which names the file that holds the results."""
        with path.open("rb") as stream:
            head = stream.read(65_536)
        kind = next((kind for kind in _KINDS if kind.matches(head)), None)
        what, instead = (kind.what, kind.instead) if kind else ("no file that fewmark knows", "the results")
        raise NotAResultError(f"{what}, not a result", got=path.name, hint=f"import {instead}")
