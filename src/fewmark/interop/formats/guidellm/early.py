"""GuideLLM 0.1: a report of reports, each benchmark a list of single requests and no statistics.

Seconds; `first_token_time` counts from the request's start. Where the server told no usage, the counts of tokens are
counts of words: they are equal then in every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import label, mapping
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, failure_status, nested, number, positive, rows_to_frame, run_id
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import head_text, opens_json, read_json
from fewmark.interop.text.yaml_text import read_yaml

TOOL: Final = "guidellm"
_TELLING: Final = ("first_token_time", "decode_times", "output_word_count")


class GuidellmEarly:
    """A report of GuideLLM 0.1 as JSON or YAML."""

    name = "guidellm-0.1"
    description = "GuideLLM 0.1's report (benchmarks[].benchmarks[] with results of single requests)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a single request, or of the reports around."""
        words = head_text(head)
        if not (opens_json(words) or path.suffix.lower() in (".yaml", ".yml")) or "benchmarks" not in words:
            return 0.0
        return 0.95 if all(name in words for name in _TELLING) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a benchmark. Raises `FormatError`."""
        report = read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else read_json(path)
        outer = nested(report, "benchmarks")
        if not isinstance(outer, list):
            raise FormatError("a GuideLLM report has a list of benchmarks", got=report)
        around = [mapping(one) for one in outer]
        if around and all("results" in one for one in around):  # a report alone, not a report of reports
            around = [{"benchmarks": outer, "args": nested(report, "args")}]
        rows = []
        for one in around:
            benchmarks = one.get("benchmarks")
            if not isinstance(benchmarks, list):
                raise FormatError("a report of GuideLLM 0.1 has benchmarks", got=one)
            rows += [_row(mapping(benchmark), mapping(one.get("args"))) for benchmark in benchmarks]
        if not rows:
            raise FormatError("the GuideLLM report holds no benchmark", hint="the run ended before its first one did")
        return rows_to_frame(rows)


def _row(benchmark: JsonObject, arguments: JsonObject) -> Row:
    results, errors = benchmark.get("results"), benchmark.get("errors")
    if not isinstance(results, list):
        raise FormatError("a benchmark of GuideLLM 0.1 has results", got=benchmark)
    failed = len(errors) if isinstance(errors, list) else 0
    row = RunRow(TOOL, "requests")
    row.say("tool_version", "0.1")
    row.say("model", label(arguments.get("model")))
    if arguments.get("backend_type") not in (None, "openai_server"):  # the client's route, not the engine
        row.say("guidellm.backend", label(arguments.get("backend_type")))
    mode = benchmark.get("mode")
    if mode == "synchronous":
        put_load(row, rate="inf", cap=1, n_requests=len(results) + failed)
    elif mode == "asynchronous":
        put_load(row, rate=benchmark.get("rate"), cap=None, n_requests=len(results) + failed)
    else:
        row.note("as many requests at once as could be sent; the load is not known")
    records, begin, end, in_words = RequestRecords(), float("inf"), 0.0, bool(results)
    for result in results:
        start, stop = (number(nested(result, name)) for name in ("start_time", "end_time"))
        if not isinstance(result, Mapping) or start is None or stop is None or stop <= start:
            failed += 1
            continue
        begin, end = min(begin, start), max(end, stop)
        lengths = [positive(result.get(f"{kind}_token_count")) for kind in ("prompt", "output")]
        in_words &= _counts_words(result)
        records.add(stop - start, positive(result.get("first_token_time")), lengths[0], lengths[1], start)
        records.add_gaps(nested(result, "decode_times", "data"))
    row.counts(len(records), failed)
    seconds = row.put("duration_s", end - begin) if len(records) else None
    recomputed = records.statistics(seconds)
    row.cells["run_id"] = run_id(TOOL, "0.1", mode, len(records), recomputed.get("e2e_latency_s"))
    if not len(records):
        row.fail(failure_status(_messages(errors)), f"no request succeeded of {failed}")
        return row.finish()
    if in_words:
        recomputed = {name: value for name, value in recomputed.items() if "tok" not in name and "tpot" not in name}
        row.note("tokens were counted as words, and are unknown")
    row.cells |= recomputed
    row.note("recomputed from single requests")
    if not in_words and records.bounds():
        row.note(records.bounds())
    return row.finish()


def _counts_words(result: Mapping[str, Json]) -> bool:
    return all(result.get(f"{kind}_token_count") == result.get(f"{kind}_word_count") for kind in ("prompt", "output"))


def _messages(errors: Json) -> list[str]:
    return [str(mapping(error).get("message")) for error in errors] if isinstance(errors, list) else []
