"""llama-benchy's report as JSON, CSV or markdown: prompts and answers at some concurrency and depth of context.

Times are milliseconds. ``e2e_ttft`` is the time to the first token; ``ttfr`` that to the first answer of any kind;
``est_ppt`` takes the network's latency off, and so does ``pp_throughput``, which counts input tokens only. Throughputs
of generation leave the first token out: (n − 1) tokens over the time after it; ``peak`` ones count one token more than
gaps, so that they are too high for short answers. Lengths are those asked for. In the tables a prompt's line is
followed by its answer's; a context that is loaded ("ctx_pp") has no length of its answer there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, label, mapping, truth
from fewmark.interop.results.run_rows import PERCENTS, RunRow, count, positive, rows_to_frame, run_id
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import head_text, parse_json, read_text

_TABLE: Final = re.compile(r"(?m)^\|\s*model\s*\|\s*test\s*\|.*\bttfr \(ms\)")
_TEST: Final = re.compile(
    r"^(?P<context>ctx_)?(?P<kind>pp|tg)(?P<tokens>\d+)?(?:\s*@\s*d(?P<depth>\d+))?(?:\s*\(c(?P<streams>\d+)\))?$"
)
_COLUMNS: Final = {
    "model": "model",
    "test_name": "test",
    "test": "test",
    "t_s_mean": "total",
    "t/s (total)": "total",
    "t/s": "total",
    "t_s_req_mean": "each",
    "t/s (req)": "each",
    "e2e_ttft_mean": "first_ms",
    "e2e_ttft (ms)": "first_ms",
}
_KEPT: Final = {"pp_throughput": "prompt_tok_s", "peak_throughput": "peak_tok_s"}


class LlamaBenchy:
    """One row a benchmark of the report."""

    name = "llama-benchy"
    description = "llama-benchy's report as JSON, CSV or markdown (pp_throughput, tg_throughput, e2e_ttft)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a benchmark, or the columns of a table."""
        if {"test_name", "t_s_mean", "ttfr_mean"} <= set(header_of(head)) or _TABLE.search(head_text(head)):
            return 0.95
        return 0.95 if has_keys(head, "benchmarks", "pp_throughput") and has_keys(head, "prompt_size") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there are no benchmarks in it."""
        text = read_text(path)
        if not text.lstrip().startswith(("{", "[")):
            lines = _markdown(text) if _TABLE.search(text) else _csv(path)
            return rows_to_frame([_line_row(*pair) for pair in _pairs(lines)])
        data = mapping(parse_json(text))
        benchmarks = data.get("benchmarks")
        if not isinstance(benchmarks, list) or not benchmarks:
            raise FormatError("llama-benchy's report has a list of benchmarks", got=list(data))
        return rows_to_frame([_row(data, mapping(benchmark), place) for place, benchmark in enumerate(benchmarks, 1)])


def _row(data: JsonObject, benchmark: JsonObject, place: int) -> Row:
    prompt, answer = count(benchmark.get("prompt_size")), count(benchmark.get("response_size"))
    depth = count(benchmark.get("context_size")) or 0
    if prompt is None or answer is None:
        raise FormatError(f"benchmark {place}: prompt_size and response_size must be numbers", got=list(benchmark))
    row = RunRow("llama-benchy")
    row.say("model", label(data.get("model")))
    row.say("tool_version", label(data.get("version")))
    row.put("concurrency", benchmark.get("concurrency"))
    loading = truth(benchmark.get("is_context_prefill_phase")) is True
    cached = bool(depth) and not loading and truth(data.get("prefix_caching_enabled")) is True
    row.put("input_tokens", depth if loading and depth else depth + prompt)
    row.put("output_tokens", answer)
    if cached:
        row.cells["workload.cached_tokens"] = depth
        row.note(f"the first {depth} tokens of the input were sent before and may be in the server's prefix cache")
    if loading:
        row.note("the run that loads the context")
    firsts = _values(benchmark, "e2e_ttft")
    row.put("ttft_s", mapping(benchmark.get("e2e_ttft")).get("mean"), 1e-3)
    if firsts:
        ordered = sorted(firsts)
        row.cells["n_requests"] = len(ordered)
        for percent in PERCENTS:
            row.put(f"ttft_p{percent}_s", ordered[max(0, -(-percent * len(ordered) // 100) - 1)], 1e-3)
        if len(ordered) < 10:
            row.note(f"percentiles of {len(ordered)} requests are a lower bound")
    speeds = _values(benchmark, "tg_req_throughput")
    if speeds:
        row.put("tpot_s", sum(1 / speed for speed in speeds) / len(speeds))
        row.note("TPOT is the mean of each request's time per token after the first")
    repeats = _values(benchmark, "tg_throughput") or _values(benchmark, "pp_throughput")
    if repeats:
        row.cells["n_repeats"] = len(repeats)
    row.put("decode_throughput_tok_s", mapping(benchmark.get("tg_throughput")).get("mean"))
    for key, name in _KEPT.items():
        row.own(name, mapping(benchmark.get(key)).get("mean"))
    row.put("llama-benchy.network_latency_s", data.get("latency_ms"), 1e-3)
    row.note("lengths are those asked for")
    row.cells["run_id"] = run_id(
        "llama-benchy", data.get("timestamp"), data.get("model"), place, row.cells.get("ttft_s")
    )
    return row.finish()


def _values(benchmark: JsonObject, key: str) -> list[float]:
    values = mapping(benchmark.get(key)).get("values")
    return [found for value in values if (found := positive(value))] if isinstance(values, list) else []


def _csv(path: Path) -> Iterator[dict[str, str]]:
    columns = read_columns(path)
    if not {"test_name", "t_s_mean"} <= set(columns):
        raise FormatError("llama-benchy's CSV has columns test_name and t_s_mean", got=list(columns))
    for place in range(len(columns["test_name"])):
        yield {_COLUMNS[name]: cells[place] for name, cells in columns.items() if name in _COLUMNS}


def _markdown(text: str) -> Iterator[dict[str, str]]:
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or all(set(cell) <= set("-: ") for cell in cells):
            continue
        if "test" in cells and "ttfr (ms)" in cells:
            names = cells
        elif len(cells) != len(names):
            raise FormatError("a row of the table must have a cell for each column", got=line)
        else:
            found = dict(zip(names, cells, strict=True))
            yield {_COLUMNS[name]: cell.split("±")[0].strip() for name, cell in found.items() if name in _COLUMNS}


def _pairs(lines: Iterator[dict[str, str]]) -> Iterator[tuple[dict[str, str], re.Match[str], dict[str, str] | None]]:
    """The lines of prompts, each with that of its answer where it follows."""
    held: tuple[dict[str, str], re.Match[str]] | None = None
    for line in lines:
        test = _TEST.match(line.get("test", ""))
        if test is None:
            raise FormatError(
                "unknown test", got=line.get("test"), hint="pp2048, tg32, ctx_pp @ d4096, pp512 @ d4096 (c4)"
            )
        if test["kind"] == "pp":
            if held is not None:
                yield (*held, None)
            held = line, test
        elif held is not None and all(held[1][name] == test[name] for name in ("context", "depth", "streams")):
            yield (*held, line)
            held = None
    if held is not None:
        yield (*held, None)


def _line_row(prompt: dict[str, str], test: re.Match[str], answer: dict[str, str] | None) -> Row:
    row = RunRow("llama-benchy")
    depth, tokens = int(test["depth"] or 0), int(test["tokens"] or 0)
    row.say("model", label(prompt.get("model")))
    row.put("concurrency", test["streams"] or 1)
    row.put("input_tokens", depth + tokens)
    if test["context"]:
        row.note("the run that loads the context")
    elif depth:
        row.cells["workload.cached_tokens"] = depth
        row.note(f"the first {depth} tokens of the input were sent before and may be in the server's prefix cache")
    row.put("ttft_s", prompt.get("first_ms"), 1e-3)
    row.own("prompt_tok_s", prompt.get("total"))
    if answer is not None:
        made = _TEST.match(answer["test"])
        row.put("output_tokens", made["tokens"] if made else None)
        row.put("decode_throughput_tok_s", answer.get("total"))
        speed = positive(answer.get("each")) or (
            positive(answer.get("total")) if test["streams"] in (None, "1") else None
        )
        row.put("tpot_s", 1 / speed if speed else None)
        row.note("TPOT is one over the mean speed of a request after its first token")
    row.note("lengths are those asked for")
    row.cells["run_id"] = run_id("llama-benchy", *(prompt.get(name) for name in ("model", "test", "total", "first_ms")))
    return row.finish()
