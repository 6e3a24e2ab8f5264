"""inference-perf 0.2 to 0.7: ``stage_N_lifecycle_metrics.json`` and ``summary_lifecycle_metrics.json``, in seconds.

By default the client counts the output tokens of the text anew (``output_len``) and uses that for TPOT and all rates;
the server's count, where it stands beside (``output_tokens``, from 0.5), takes its place here. ITL stays on the
client's tokens, with gaps of 0 put in between tokens of one event, so it is ours only where events are tokens. 0.2
takes each line of the stream for a token, of which an event has two: its TPOT and ITL are half of the true ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.formats.inference_perf.settings import TOOL, put_server, put_stage_load, stage_files, stage_number
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, failure_status, nested, positive, rows_to_frame
from fewmark.interop.text.json_text import head_text, read_json
from fewmark.interop.text.yaml_text import read_settings

COUNT_TOLERANCE: Final = 1e-3  # relative; counts of tokens that differ by less are the same
TPOT_TOLERANCE: Final = 0.05
LINES_AN_EVENT: Final = 1.9  # TPOT by the latency over the file's from which that counts lines
FLAT: Final = 0.05  # a median gap below that share of the mean: events hold several tokens


class InferencePerf:
    """A stage's or the summary's report of inference-perf."""

    name = "inference-perf"
    description = "inference-perf's stage_N_lifecycle_metrics.json or summary_lifecycle_metrics.json"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its two blocks."""
        words = head_text(head)
        return 0.95 if words.lstrip().startswith("{") and '"load_summary"' in words and '"successes"' in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row. Raises `FormatError`."""
        report = mapping(read_json(path))
        if not all(isinstance(nested(report, key), Mapping) for key in ("successes", "load_summary")):
            raise FormatError("inference-perf writes a load_summary and successes", got=report)
        row = lifecycle_row(report, read_settings(path.with_name("config.yaml")), stage_number(path))
        if stage_number(path) is None and "requested_rate" not in mapping(report["load_summary"]):
            n_stages = len(stage_files(path.parent))
            if n_stages > 1:
                row.cells["detail"] = "mixed"
            row.note("a summary" + (f" of {n_stages} stages" if n_stages else " mixes the stages of a run, if several"))
        return rows_to_frame([row.finish()])


def lifecycle_row(report: JsonObject, settings: JsonObject, stage: int | None) -> RunRow:
    """The row of one report; finished by the caller."""
    row = RunRow(TOOL)
    put_server(row, settings)
    good = mapping(report["successes"])
    done, failed = count(good.get("count")) or 0, count(nested(report, "failures", "count"))
    rate = positive(nested(good, "throughput", "requests_per_sec"))
    duration = positive(report.get("benchmark_time_seconds")) or (done / rate if rate else None)
    row.put("duration_s", duration)
    put_stage_load(row, mapping(report["load_summary"]), settings, stage)
    row.counts(done, failed)
    latency = nested(good, "latency")
    e2e = positive(nested(latency, "request_latency", "mean"))
    row.name_run(done, e2e, f"{duration or 0:.2f}", stage)
    if not done or e2e is None:
        errors = nested(report, "failures", "by_label") or nested(report, "failures", "errors") or []
        row.fail(failure_status([errors]), f"all {failed or 0} requests failed")
        return row
    row.put("request_throughput_req_s", rate)
    row.put_goodput(nested(report, "goodput_metrics", "request_goodput"))
    for theirs, ours in (("request_latency", "e2e_latency"), ("time_to_first_token", "ttft")):
        _put(row, ours, nested(latency, theirs))
    _tokens(row, good, latency)
    _gaps(row, nested(latency, "inter_token_latency"))
    return row


def _tokens(row: RunRow, good: JsonObject, latency: Json) -> None:
    """Set lengths, rates and TPOT by the server's counts where they are there, else by the client's."""
    served_in, served_out = good.get("prompt_tokens"), good.get("output_tokens")
    told_in = nested(good, "prompt_len", "mean")
    ii = row.put("input_tokens", nested(served_in, "mean")) or row.put("input_tokens", told_in)
    said = positive(nested(good, "output_len", "mean"))
    oo = row.put("output_tokens", nested(served_out, "mean")) or row.put("output_tokens", said)
    rates = good.get("throughput")
    by_rate, requests = positive(nested(rates, "output_tokens_per_sec")), positive(nested(rates, "requests_per_sec"))
    if oo is None:
        return
    used = by_rate / requests if by_rate and requests else said
    if requests:
        row.put("throughput_tok_s", requests * oo)
        row.put("total_throughput_tok_s", requests * (oo + ii) if ii else None)
    per_token = nested(latency, "time_per_output_token")
    if positive(nested(served_out, "mean")) is None:
        row.note("tokens are counted by the client, from the text")
        if not _counts_lines(row, per_token, oo):
            _put(row, "tpot", per_token)
    elif used is not None and abs(used / oo - 1) <= COUNT_TOLERANCE:
        _put(row, "tpot", per_token)
    else:
        row.own("tpot_s", nested(per_token, "mean"))
        row.note(f"tokens by the server's count ({oo:.4g} each), not by the client's ({used or 0:.4g})")
        e2e, ttft = row.known("e2e_latency_s"), row.known("ttft_s")
        if e2e and ttft and oo > 1:
            row.put("tpot_s", (e2e - ttft) / (oo - 1))
            if nested(served_out, "min") != nested(served_out, "max"):
                row.note("TPOT is meaned by tokens and not by requests, since lengths differ")


def _counts_lines(row: RunRow, per_token: Json, oo: float) -> bool:
    """Make TPOT anew where the file's is of the stream's lines, of which an event has two, as in 0.2."""
    e2e, ttft, told = row.known("e2e_latency_s"), row.known("ttft_s"), positive(nested(per_token, "mean"))
    if not (e2e and ttft and told) or oo <= 2 or (e2e - ttft) / (oo - 1) < LINES_AN_EVENT * told:
        return False
    row.put("tpot_s", (e2e - ttft) / (oo - 1))
    row.own("tpot_s", told)
    row.note(f"the file's TPOT counts the blank line after each event as a token, and is kept as {TOOL}.tpot_s")
    return True


def _gaps(row: RunRow, part: Json) -> None:
    mean, tpot = positive(nested(part, "mean")), row.known("tpot_s")
    if mean is None:
        return
    median = positive(nested(part, "median")) or positive(nested(part, "p50")) or 0.0
    single = tpot is not None and abs(mean / tpot - 1) <= TPOT_TOLERANCE and median > FLAT * mean
    if single:
        _put(row, "itl", part)
    else:
        row.own("itl_s", mean)
        row.note(f"gaps are between the client's tokens, several an event, and kept as {TOOL}.itl_s")


def _put(row: RunRow, name: str, part: Json) -> None:
    row.put(f"{name}_s", nested(part, "mean"))
    for percent in PERCENTS:
        value = nested(part, f"p{percent}")
        row.put(f"{name}_p{percent}_s", nested(part, "median") if value is None and percent == 50 else value)
