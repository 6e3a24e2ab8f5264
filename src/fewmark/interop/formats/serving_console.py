"""The block that the serving clients of vLLM and SGLang print at their end, in a log or copied out of one.

Numbers have two decimals, so small ones are coarse. What the client was asked for often stands only above the block, as
``Traffic request rate: 4.0`` or in a ``Namespace(…)``; where it stands nowhere, the load is unknown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json
from fewmark.interop.formats import sglang_bench
from fewmark.interop.formats.vllm_bench import serving as vllm_serving
from fewmark.interop.results.run_rows import number, rows_to_frame
from fewmark.interop.text.json_text import head_text, opens_json, read_text

_HEADING: Final = re.compile(r"=+ *(Multi-Turn|Serving|Offline Throughput) Benchmark Result *=+")
_END: Final = re.compile(r"={20,}\s*$")
_PAIR: Final = re.compile(r"([A-Z][\w .()/,-]*?(?: \([^)]*\))?):\s+(\S+)\s*$")
_STATISTIC: Final = re.compile(r"(Mean|Median|Std|P[\d.]+) (TTFT|TPOT|ITL|E2EL|E2E Latency) \(ms\)")
_LOGGED: Final = re.compile(
    r"^(?:(?:[A-Z]{1,8}|std(?:out|err)|\S*\d\S*) +)+(?=[A-Z][a-z]|P\d)"
)  # what a log puts before
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ARGUMENT: Final = r"(?:\b{name}=|--{option}[ =])['\"]?([^'\",\s)]+)"
_KEYS: Final = {
    "successful requests": "completed",
    "failed requests": "failed",
    "maximum request concurrency": "max_concurrency",
    "max request concurrency": "max_concurrency",
    "max reqeuest concurrency": "max_concurrency",  # so SGLang spelled it for a while
    "traffic ramp-up strategy": "ramp_up_strategy",
    "request rate configured": "request_rate",
    "traffic request rate": "request_rate",
    "benchmark duration": "duration",
    "total input tokens": "total_input_tokens",
    "total generated tokens": "total_output_tokens",
    "total generated tokens (retokenized)": "total_output_tokens_retokenized",
    "request throughput": "request_throughput",
    "request goodput": "request_goodput",
    "output token throughput": "output_throughput",
    "input token throughput": "input_throughput",
    "total token throughput": "total_throughput",
    "total throughput": "total_throughput",
    "concurrency": "concurrency",
    "accept length": "accept_length",
    "last generation throughput": "last_gen_throughput",
    "backend": "backend",
    "probe requests completed": "probe_completed",
}
_RAMP: Final = ("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps")
_UNITS: Final = re.compile(r" \((s|req/s|tok/s|rps|%)\)$", re.IGNORECASE)
_SCANNED: Final = 64 * 2**20  # a log longer than that is none of a benchmark


class ServingConsole:
    """Text with one or several console blocks of ``vllm bench serve`` or SGLang's ``bench_serving``."""

    name = "serving-console"
    description = "the block '==== Serving Benchmark Result ====' that vLLM's and SGLang's clients print"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the block's heading, wherever it stands in a text that is no JSON."""
        words = head_text(head)
        if _HEADING.search(words):
            return 0.8
        if b"\x00" in head or opens_json(words) or path.suffix not in ("", ".log", ".txt", ".out", ".err"):
            return 0.0
        try:
            with path.open("rb") as stream:
                return 0.8 if _HEADING.search(head_text(stream.read(_SCANNED))) else 0.0
        except OSError:
            return 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a block. Raises `FormatError`."""
        rows = []
        for line, block, whole in _blocks(read_text(path)):
            missing = [key for key in ("completed", "duration") if number(block.get(key)) is None]
            if missing:
                raise FormatError(f"line {line}: the block has no {missing[0]}", hint="was it copied whole?")
            rows.append(_row(block, whole))
        return rows_to_frame(rows)


def _row(block: dict[str, Json], whole: bool) -> Row:
    of_sglang = "total_output_tokens_retokenized" in block or "mean_e2e_latency_ms" in block or "concurrency" in block
    if block["mode"] == "Offline Throughput":
        block |= {"successful_requests": block["completed"], "total_latency": block["duration"]}
        made = sglang_bench.offline_row(block, "console")
    elif of_sglang:
        made = sglang_bench.serving_row(block, "console")
    else:
        block["total_token_throughput"] = block.pop("total_throughput", None)
        made = vllm_serving.serving_row(block, "console")
    notes = [str(made["note"])] if "note" in made else []
    notes.append("read from rounded text" + ("" if whole else ", which breaks off"))
    return made | {"note": "; ".join(notes)}


def _blocks(text: str) -> list[tuple[int, dict[str, Json], bool]]:
    """Line, keys and values, and whether it is whole, of each block; what stands above one belongs to it."""
    found: list[tuple[int, dict[str, Json], bool]] = []
    above: dict[str, Json] = {}
    block: dict[str, Json] | None = None
    start = 0
    for position, raw in enumerate(re.split(r"\r?\n|\r", text), start=1):
        line = _ESCAPES.sub("", raw).rstrip(" |\u2502\t")
        heading = _HEADING.search(line)
        if heading:
            if block is not None:
                found.append((start, block, False))
            block, start, above = dict(above), position, {}
            block["mode"] = heading.group(1)
            continue
        if block is None:
            _arguments(line, above)
            key, value = _pair(line)
            if key in ("request_rate", "max_concurrency", *_RAMP):
                above[key] = value.rstrip(".") if isinstance(value, str) else value
            continue
        if _END.search(line):
            found.append((start, block, True))
            block = None
            continue
        key, value = _pair(line)
        if key is not None and (block.get(key) is None or key in ("max_concurrency", "request_rate", "backend")):
            block[key] = value
    if block is not None:
        if text[-1:] not in "\r\n" and _pair(text.splitlines()[-1])[0] is not None:
            raise FormatError(f"line {start}: the block breaks off within a line", hint="the number there may be cut")
        found.append((start, block, False))
    for _, values, _ in found:
        if values["mode"] == "Multi-Turn":
            values["mode"] = "multi_turn"
            values["multi_turn_concurrency"] = values.pop("concurrency", None)
        elif "request_rate" not in values and ("max_concurrency" in values or "failed" in values):
            values["request_rate"] = "inf"  # a client that prints these prints a finite rate as well
    return found


def _pair(line: str) -> tuple[str | None, Json]:
    found = _PAIR.search(line)
    if found is None:
        return (None, None)
    label, value = found.groups()
    label = _LOGGED.sub("", label)
    statistic = _STATISTIC.fullmatch(label)
    if statistic:
        kind, metric = statistic.groups()
        return f"{kind.lower()}_{metric.lower().replace(' ', '_')}_ms", _plain(value)
    key = _KEYS.get(_UNITS.sub("", label).strip().lower())
    if key is None and line.rstrip().endswith("not set"):
        key = _KEYS.get(line.split(":")[0].strip().lower())
    return (key, None if value in ("set", "None", "N/A") else _plain(value))


def _plain(value: str) -> str:
    """A number without marks between its thousands, and with a point: the clients print two decimals, or none."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", value):
        return value.replace(",", "")
    if re.fullmatch(r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d{2}", value):
        return value.replace(".", "").replace(",", ".")
    return value


def _arguments(line: str, above: dict[str, Json]) -> None:
    """The model, the backend and the load as a command line or a printed Namespace has them."""
    if "Namespace(" not in line and "--" not in line:
        return
    for name in ("model", "backend", "request_rate", "max_concurrency", *_RAMP):
        key = "model_id" if name == "model" else name
        found = re.search(_ARGUMENT.format(name=name, option=name.replace("_", "-")), line)
        if found and found.group(1) not in ("None", ""):
            above[key] = found.group(1)
