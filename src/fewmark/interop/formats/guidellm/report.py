"""GuideLLM's ``benchmarks.json``: 0.3 without metadata, metadata version 1 (to 0.6), version 2 (from 0.7)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fewmark.core import FormatError
from fewmark.interop.formats.guidellm.benchmark import benchmark_row
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.run_rows import nested, rows_to_frame
from fewmark.interop.text.json_text import head_text, opens_json, read_json
from fewmark.interop.text.yaml_text import read_yaml


class GuidellmReport:
    """A report of GuideLLM as JSON or YAML."""

    name = "guidellm"
    description = "GuideLLM's benchmarks.json (benchmarks[] with metrics of successful, errored, incomplete, total)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By words that stand in the first kilobytes of every version."""
        words = head_text(head)
        if path.suffix.lower() in (".yaml", ".yml"):
            telling = ("guidellm_version", "generative_benchmark", "scheduler_metrics:", "time_to_first_token_ms:")
            return 0.9 if "benchmarks:" in words and any(key in words for key in telling) else 0.0
        if not opens_json(words):
            return 0.0
        if '"guidellm_version"' in words or '"generative_benchmark"' in words:
            return 0.95
        if '"benchmarks"' in words and ('"request_totals"' in words or '"time_to_first_token_ms"' in words):
            return 0.9
        return 0.85 if '"benchmarks"' in words and '"guidellm' in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a benchmark. Raises `FormatError`."""
        report = read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else read_json(path)
        benchmarks = nested(report, "benchmarks")
        if not isinstance(benchmarks, list):
            raise FormatError("a GuideLLM report has a list of benchmarks", got=report)
        version = nested(report, "metadata", "version")
        if version not in (None, 1, 2, "1", "2"):
            raise FormatError(f"GuideLLM's metadata.version {version} is unknown", hint="1, 2 and none are read")
        if not benchmarks:
            raise FormatError("the GuideLLM report holds no benchmark", hint="the run ended before its first one did")
        rows = []
        for position, benchmark in enumerate(benchmarks, start=1):
            if not isinstance(nested(benchmark, "metrics"), dict):
                raise FormatError(f"benchmark {position} has no metrics", got=benchmark)
            rows.append(benchmark_row(benchmark, mapping(report)))
        return rows_to_frame(rows)
