"""What the offline benchmarks of vLLM and SGLang print, in a log or copied out of one: throughput, latency, one batch.

What was asked for stands in the command line or the ``Namespace(…)`` above, if anywhere. The lengths of these
benchmarks are kept to (the engines ignore the end of a text), so they hold where they are stated; where they are not,
they are made from the printed numbers, if those leave one whole number only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.interop.formats import sglang_bench
from fewmark.interop.results.run_rows import RunRow, count, number, rows_to_frame, run_id
from fewmark.interop.text.json_text import head_text, opens_json, read_text

_F: Final = r"([\d.]+(?:e[-+]?\d+)?)"
_THROUGHPUT: Final = re.compile(rf"Throughput: {_F} requests/s, {_F} (?:total )?tokens/s(?:, {_F} output tokens/s)?")
_TOTAL: Final = re.compile(r"Total num (prompt|output) tokens:\s+(\d+)")
_LATENCY: Final = re.compile(rf"Avg latency: {_F} seconds")
_PERCENTILE: Final = re.compile(rf"(\d+)% percentile latency: {_F} seconds")
_PREFILL: Final = re.compile(rf"Prefill\. +latency: +{_F} s, +throughput: +{_F} token/s")
_DECODE: Final = re.compile(rf"Decode\. +median latency: +{_F} s, +median throughput: +{_F} token/s")
_WHOLE: Final = re.compile(rf"Total\. +latency: +{_F} s, +throughput: +{_F} token/s")
_TELLING: Final = (_THROUGHPUT, _WHOLE)
_VLLM: Final = re.compile(rf"(?i:vllm|benchmark_latency|bench latency)|Namespace\(|{_PERCENTILE.pattern}")
_BROKEN: Final = re.compile(r"(?:^|[\s:])\d[\d.]*\Z")
_ENGINES: Final = {"hf": "transformers", "mii": "deepspeed-mii"}  # of a throughput that is not vLLM's own
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LOGS: Final = ("", ".log", ".txt", ".out", ".err", ".md")
_SCANNED: Final = 64 * 2**20  # a log longer than that is none of a benchmark
_OPTIONS: Final = {
    "model": ("model", "model_path"),
    "num_prompts": ("num_prompts",),
    "input_len": ("input_len", "random_input_len", "input"),
    "output_len": ("output_len", "random_output_len", "output"),
    "batch_size": ("batch_size", "batch"),
    "tensor_parallel_size": ("tensor_parallel_size", "tp_size", "tp"),
    "dtype": ("dtype",),
    "backend": ("backend",),
}
_SHORT: Final = re.compile(r"(?<=\s)-tp(?=[\s=])")


@dataclass
class _Log:
    """What was read so far: the settings above, and the parts of the block that is being read."""

    settings: dict[str, str] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    prefill: tuple[float, float] | None = None
    decode: tuple[float, float] | None = None
    warming: bool = False


class OfflineConsole:
    """Text that ``vllm bench throughput``, ``vllm bench latency`` or SGLang's ``bench_one_batch`` printed."""

    name = "offline-console"
    description = "what vllm bench throughput and latency and SGLang's bench_one_batch print"

    def sniff(self, path: Path, head: bytes) -> float:
        """By a line of one of them, wherever it stands in a text that is no JSON."""
        words = head_text(head)
        if opens_json(words) or b"\x00" in head or path.suffix.lower() not in _LOGS or "Benchmark Result =" in words:
            return 0.0
        if _is_told(words):
            return 0.75
        try:
            with path.open("rb") as stream:
                words = head_text(stream.read(_SCANNED))
        except OSError:
            return 0.0
        return 0.75 if _is_told(words) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a run. Raises `FormatError`."""
        text = _ESCAPES.sub("", read_text(path))
        if _BROKEN.search(text[-40:]):
            raise FormatError("the log breaks off within a number", hint="was it copied whole?")
        rows = list(_rows(re.split(r"\r?\n|\r", text)))
        if not rows:
            raise FormatError("the log holds no result", hint="was it copied whole?")
        return rows_to_frame(rows)


def _is_told(words: str) -> bool:
    """Whether a text has a result; ``Avg latency`` alone stands in logs of many kinds."""
    if any(pattern.search(words) for pattern in _TELLING):
        return True
    return _LATENCY.search(words) is not None and _VLLM.search(words) is not None


def _rows(lines: list[str]) -> Iterator[Row]:
    log, block = _Log(), list(lines)
    for at, line in enumerate(block):
        _read_settings(line, log)
        if "Warmup ..." in line:
            log.warming = True
        elif "Benchmark ..." in line:
            log.warming = False
        if found := _THROUGHPUT.search(line):
            log.totals = {kind: float(n) for kind, n in _TOTAL.findall(_below(block, at, 8))}
            yield _throughput(log, *(None if value is None else _number(value) for value in found.groups()))
        elif found := _LATENCY.search(line):
            known = {int(p): _number(s) for p, s in _PERCENTILE.findall(_below(block, at, 12))}
            yield _latency(log, _number(found[1]), known)
        elif found := _PREFILL.search(line):
            log.prefill, log.decode = (_number(found[1]), _number(found[2])), None
        elif found := _DECODE.search(line):
            log.decode = _number(found[1]), _number(found[2])
        elif (found := _WHOLE.search(line)) and log.prefill is not None:
            if not log.warming:
                yield _one_batch(log, _number(found[1]), _number(found[2]))
            log.prefill = log.decode = None


def _below(lines: list[str], at: int, most: int) -> str:
    """At most so many lines from a result's first one on, and none of the next result's."""
    end = at + 1
    while end < min(at + most, len(lines)) and not (_THROUGHPUT.search(lines[end]) or _LATENCY.search(lines[end])):
        end += 1
    return "\n".join(lines[at:end])


def _number(text: str) -> float:
    value = number(text)
    if value is None or not value > 0:
        raise FormatError("the log holds a number that is none", got=text)
    return value


def _throughput(log: _Log, requests: float | None, total: float | None, output: float | None) -> Row:
    row = _engine_row("vllm", log)
    row.say("engine", _ENGINES.get(log.settings.get("backend", ""), "vllm"))
    tokens = log.totals.get("output")
    n, asked = None, count(log.settings.get("num_prompts"))
    seconds = tokens / output if tokens and output else None
    if requests and seconds:
        n = _borne_out(asked, requests * seconds, _rounding(requests, 2) + _rounding(output or 1.0, 2))
    elif requests and asked:
        n, seconds = asked, asked / requests
    row.put("request_throughput_req_s", requests)
    row.put("total_throughput_tok_s", total)
    row.put("throughput_tok_s", output)
    row.put("duration_s", seconds)
    if n:
        row.cells["batch_size"] = n
        row.put("e2e_latency_s", seconds)
        for way, name in (("prompt", "input"), ("output", "output")):
            row.put(f"{name}_tokens", log.totals[way] / n if way in log.totals else None)
        row.note(f"all {n} requests were given to the engine at once: a batch of that size")
    else:
        row.note("the log does not say how many requests there were")
    row.cells["run_id"] = run_id("throughput-console", n or 0, requests, total)
    row.cells["statistic"] = "median"
    return _finished(row)


def _latency(log: _Log, mean: float, percentiles: dict[int, float]) -> Row:
    row = _engine_row("vllm", log)
    median = percentiles.get(50)
    row.put("e2e_latency_s", median if median is not None else mean)
    row.cells["statistic"] = "mean" if median is None else "median"
    for name, setting in (("batch_size", "batch_size"), ("input_tokens", "input_len"), ("output_tokens", "output_len")):
        row.put(name, log.settings.get(setting))
    if median is not None:
        row.note(f"median of batches (the log's mean: {mean:.4g} s)")
    if "batch_size" not in row.cells or "output_tokens" not in row.cells:
        row.note("the log does not say the batch size and the lengths")
    row.cells["run_id"] = run_id("latency-console", mean, *sorted(percentiles.values()))
    return _finished(row)


def _one_batch(log: _Log, seconds: float, throughput: float) -> Row:
    prefill_s, prefill_rate = log.prefill or (0.0, 0.0)
    prompt = prefill_s * prefill_rate  # batch × input
    size = _asked(log, "batch_size")
    if log.decode is not None:
        slack = _rounding(log.decode[0], 5) + _rounding(log.decode[1], 2)
        size = _borne_out(size, log.decode[0] * log.decode[1], slack)
    out = _engine_row("sglang", log)
    if size is None:
        out.put("e2e_latency_s", seconds)
        out.note("the log does not say the batch size")
        return _finished(out)
    slack = _rounding(prefill_s, 5) + _rounding(prefill_rate, 2)
    ii = _borne_out(_asked(log, "input_len"), prompt / size, slack)
    whole = seconds * throughput / size
    slack = _rounding(seconds, 3) + _rounding(throughput, 2)
    end = _borne_out(None if ii is None else ii + (_asked(log, "output_len") or 0), whole, slack)
    oo = end - ii if ii is not None and end is not None and end > ii else None
    if ii is None or oo is None:
        out.cells |= {"batch_size": size} | ({"input_tokens": ii} if ii else {})
        out.put("e2e_latency_s", seconds)
        out.put("ttft_s", prefill_s)
        out.note("the lengths do not follow from rounded numbers, and no command line states them")
        return _finished(out)
    result = {
        "batch_size": size, "input_len": ii, "output_len": oo, "prefill_latency": prefill_s, "total_latency": seconds,
        **({"median_decode_latency": log.decode[0]} if log.decode else {}),
    }  # fmt: skip
    made = sglang_bench.batch_row(0, result, "console")
    known = {name: value for name, value in out.cells.items() if name not in made}
    note = "; ".join(filter(None, [str(made.get("note") or ""), "read from rounded text"]))
    return {**made, **known, "note": note}


def _asked(log: _Log, name: str) -> int | None:
    """A setting that is one whole number; several in a row say nothing of one block."""
    return count(log.settings.get(name))


def _rounding(value: float, digits: int) -> float:
    """The relative error of a number with so many decimals."""
    return 0.5 * 10.0**-digits / value


def _borne_out(asked: int | None, value: float, relative: float) -> int | None:
    """What was asked for if a rounded value can be it, else the one whole number that it can be; None without one."""
    slack = max(abs(value) * relative, 1e-9) * 1.01
    low, high = math.ceil(value - slack), math.floor(value + slack)
    if asked is not None and low <= asked <= high:
        return asked
    return low if low == high and low > 0 else None


def _engine_row(engine: str, log: _Log) -> RunRow:
    row = RunRow(engine, "console")
    row.say("engine", engine)
    row.say("model", log.settings.get("model"))
    row.put("tensor_parallel_size", log.settings.get("tensor_parallel_size"))
    if log.settings.get("dtype") not in (None, "auto"):
        row.say("precision", log.settings["dtype"])
    return row


def _finished(row: RunRow) -> Row:
    row.note("read from rounded text")
    return row.finish()


def _read_settings(line: str, log: _Log) -> None:
    """The settings of a command line or a printed Namespace; a new command forgets those of the one before."""
    if "Namespace(" in line or re.search(r"bench (throughput|latency)\b|bench_one_batch\b|bench_latency\b", line):
        log.settings = {}
    elif "--" not in line:
        return
    line = _SHORT.sub("--tp", line)
    for name, spelled in _OPTIONS.items():
        for spelling in spelled:
            option = spelling.replace("_", "[-_]")
            several = r"((?:[^\s'\",)]+)(?: +[^\s'\",)\\-][^\s'\",)]*)*)"
            found = re.search(rf"(?:\b{spelling}=['\"]?([^'\",\s)]+)|--{option}[ =]+['\"]?{several})", line)
            if found:
                log.settings[name] = (found[1] or found[2]).strip(" \\")
                break
