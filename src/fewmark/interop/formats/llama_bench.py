"""llama-bench's results in all five outputs: JSON, JSON lines, CSV, markdown and SQL.

A test is one sequence (``n_batch`` is the size of a prompt's chunks, an option, and no batch):

* pp, ``n_prompt`` tokens in one pass, ends where the first token is known: TTFT at one output token;
* tg, ``n_gen`` passes of one token each: decoding after a prompt of one token, TPOT and decode throughput;
* pg, both in turn: e2e latency and throughput.

``n_depth`` tokens are in the cache before a test: they count as input, and as the axis ``workload.cached_tokens``.
``type_k`` is the type of the cache and says nothing of the weights; their precision is in ``model_type``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import first_known, has_keys, label
from fewmark.interop.results.run_rows import RunRow, count, number, positive, rows_to_frame, run_id
from fewmark.interop.text.cells import text_to_cell
from fewmark.interop.text.csv_text import separator_of
from fewmark.interop.text.decimal_mark import with_points
from fewmark.interop.text.json_text import head_text, parse_json, read_objects, read_text

_QUANT: Final = re.compile(
    r"(?i)(?:^|[\s._-])(I?Q\d\w*|[BF]F?16|F32|MXFP4\w*|TQ\d\w*)(?:\s*-\s*(?:small|medium|large))?$"
)
_OPTIONS: Final = (
    "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "split_mode", "main_gpu", "no_kv_offload", "flash_attn",
    "tensor_split", "use_mmap", "load_mode", "lazy_mode", "repack", "n_cpu_moe", "embeddings", "cpu_mask", "poll",
)  # fmt: skip
_NOT_VARIED: Final = frozenset({"mode", "test"})  # named by the test's own numbers
_WORD: Final = re.compile(r"(?!.*\d{4}-\d\d)(?![0-9a-f]{12,}$)[\w.+-]{1,40}$")  # not a time, a path or a hash
_NAMELESS: Final = re.compile(r"(?i)(?:ggml[-_.])?model")  # what converters call every file
_LAYERS: Final = ("n_gpu_layers", "ngl")
_TEST: Final = re.compile(r"^(?:pp\s*(?P<pp>\d+))?\s*\+?\s*(?:tg\s*(?P<tg>\d+))?(?:\s*@\s*d(?P<depth>\d+))?$")
_INSERT: Final = re.compile(r"INSERT\s+INTO\s+\w+\s*\(([^)]*)\)\s*VALUES\s*\((.*)\)\s*;", re.IGNORECASE)
_HEADINGS: Final = {
    "ngl": "n_gpu_layers",
    "threads": "n_threads",
    "fa": "flash_attn",
    "mmap": "use_mmap",
    "ts": "tensor_split",
}


class LlamaBench:
    """One row a test."""

    name = "llama-bench"
    description = "llama-bench as JSON, JSON lines, CSV, markdown or SQL (n_prompt, n_gen, avg_ts, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the names that stand in each of the outputs."""
        if has_keys(head, "n_prompt", "n_gen", "avg_ts"):
            return 0.95
        text = head_text(head)
        if re.search(r"(?m)^\"?build_commit\"?[,;\t].*\bavg_ts\b", text) or (_INSERT.search(text) and "avg_ts" in text):
            return 0.95
        return 0.9 if re.search(r"(?m)^\|\s*model\s*\|.*\|\s*test\s*\|\s*t/s\s*\|", text) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on a test that cannot be understood."""
        text = read_text(path)
        first = text.lstrip()[:1]
        if first in ("{", "["):
            found: Iterator[tuple[JsonObject, JsonObject]] = _json_tests(path)
        elif _INSERT.search(text):
            found = ((test, {}) for test in _sql_tests(text))
        elif re.search(r"(?m)^\|", text):
            found = ((test, {}) for test in _markdown_tests(text))
        else:
            found = ((test, {}) for test in _csv_tests(text))
        return rows_to_frame([_row(number, test, around) for number, (test, around) in enumerate(found, start=1)])


def _row(place: int, test: JsonObject, around: JsonObject) -> Row:
    prompt, generated, depth = (count(test.get(name, 0)) for name in ("n_prompt", "n_gen", "n_depth"))
    rate = positive(test.get("avg_ts"))
    if prompt is None or generated is None or not prompt + generated:
        raise FormatError(f"test {place}: n_prompt and n_gen must be numbers of tokens, not both 0", got=dict(test))
    depth = depth or 0
    row = RunRow("llama-bench")
    _deployment(row, test)
    samples = [time for value in _list(test.get("samples_ns")) if (time := positive(value))]
    seconds = _median(samples) / 1e9 if samples else _seconds(test, rate, prompt + generated)
    row.cells["batch_size"] = 1
    row.cells["statistic"] = "median" if samples else "mean"
    if samples:
        row.cells["n_repeats"] = len(samples)
    if depth:
        row.cells["workload.cached_tokens"] = depth
        row.note(f"{depth} tokens of the input were in the cache before the test")
    row.put("power_w", around.get("avg_power_w"))
    for name, said in around.items():  # how a script varied what the test itself does not say: a build, a variable
        if isinstance(said, str) and name not in _NOT_VARIED and _WORD.match(said):
            row.cells[f"option.{name}"] = said
    row.cells["test"] = _name(prompt, generated, depth)
    row.cells["run_id"] = run_id(
        "llama-bench", row.cells["test"], test.get("test_time"), test.get("model_filename"), rate
    )
    if seconds is None:
        raise FormatError(f"test {place}: no time and no rate", got=dict(test))
    row.put("e2e_latency_s", seconds)
    if generated == 0:
        row.cells |= {"input_tokens": depth + prompt, "output_tokens": 1}
        row.put("ttft_s", seconds)
        row.own("prompt_tok_s", prompt / seconds)
        row.note("a prompt's pass alone: it ends where the first token is known")
    elif prompt == 0:
        row.cells |= {"input_tokens": depth + 1, "output_tokens": generated}
        row.put("tpot_s", seconds / generated)
        row.put("throughput_tok_s", generated / seconds)
        row.put("decode_throughput_tok_s", generated / seconds)
        row.note("decoding from a single token: TPOT is the mean over all passes, the first one among them")
    else:
        row.cells |= {"input_tokens": depth + prompt, "output_tokens": generated}
        row.put("throughput_tok_s", generated / seconds)
        row.put("total_throughput_tok_s", (prompt + generated) / seconds)
        row.note("avg_ts of a prompt with generation counts both kinds of tokens")
    return row.finish()


def _deployment(row: RunRow, test: JsonObject) -> None:
    row.say("engine", "llama.cpp")
    build = label(test.get("build_number"))
    row.say("engine_version", f"b{build}" if build and build != "0" else label(test.get("build_commit")))
    kind, file = label(test.get("model_type", test.get("model"))), label(test.get("model_filename"))
    stem = re.sub(r"(?:-\d{5}-of-\d{5})?\.gguf$", "", PurePosixPath(file.replace("\\", "/")).name) if file else None
    quant = _QUANT.search(kind or "") or _QUANT.search(stem or "")
    row.say("precision", quant[1] if quant else None)
    bare, of_kind = (
        re.sub(r"\s+(?:all|mostly)$", "", _QUANT.sub("", name or "").strip(" ._-")) for name in (stem or kind, kind)
    )
    row.say("model", (of_kind if _NAMELESS.fullmatch(bare) else bare) or stem or kind)
    row.say("model_type", kind)
    layers = number(first_known(test, *_LAYERS))
    backend = str(first_known(test, "backends", "backend") or "")
    gpus = [name.strip() for name in str(label(test.get("gpu_info")) or "").split(",") if name.strip()]
    on_cpu = layers == 0 or backend.upper() in ("CPU", "BLAS") or (not gpus and "cpu_info" in test and not backend)
    if on_cpu:
        row.say("accelerator", label(test.get("cpu_info")))
    elif gpus:
        row.say("accelerator", gpus[0])
        row.cells["accelerator_count"] = len(gpus)
        if len(set(gpus)) > 1:
            row.note(f"the devices differ: {', '.join(gpus)}")
    row.say("option.backend", backend)
    if layers is not None and layers >= 0:
        row.cells["option.n_gpu_layers"] = layers  # −1 leaves it to the engine
    for name in _OPTIONS:
        value = test.get(name)
        if value not in (None, "", -1, "-1", "auto"):
            row.cells[f"option.{name}"] = text_to_cell(value) if isinstance(value, str) else value


def _seconds(test: JsonObject, rate: float | None, tokens: int) -> float | None:
    mean_ns = positive(test.get("avg_ns"))
    return mean_ns / 1e9 if mean_ns else tokens / rate if rate else None


def _json_tests(path: Path) -> Iterator[tuple[JsonObject, JsonObject]]:
    for line, value in read_objects(path):
        inner = [item for item in value.values() if isinstance(item, Mapping) and "n_prompt" in item]
        if "n_prompt" not in value and not inner:
            raise FormatError(f"line {line}: a test has n_prompt, n_gen and avg_ts", got=list(value)[:8])
        yield (value, {}) if "n_prompt" in value else (inner[0], value)


def _csv_tests(text: str) -> Iterator[JsonObject]:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if "avg_ts" in line and separator_of(line) in line), None)
    if start is None:
        raise FormatError("llama-bench's CSV has a column avg_ts", got=lines[0])
    separator = separator_of(lines[start])
    reader = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=separator)
    names, rows = [name.strip() for name in next(reader)], []
    for place, cells in enumerate(reader, start=1):
        if not cells:
            continue
        if len(cells) != len(names):
            raise FormatError(
                f"row {place}: {len(names)} fields are needed, not {len(cells)}",
                got=separator.join(cells),
                hint="the file was cut short; it must be written again",
            )
        rows.append(cells)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    if separator != ",":
        columns = with_points(columns, separator)
    for place in range(len(rows)):
        yield {name: cells[place] for name, cells in columns.items()}


def _sql_tests(text: str) -> Iterator[JsonObject]:
    for found in _INSERT.finditer(text):
        names = [name.strip() for name in found[1].split(",")]
        quote = '"' if found[2].lstrip().startswith('"') else "'"
        values = next(csv.reader([found[2].strip()], quotechar=quote, skipinitialspace=True), [])
        if len(values) != len(names):
            raise FormatError("an INSERT must have a value for each column", got=found[0])
        yield dict(zip(names, values, strict=True))


def _markdown_tests(text: str) -> Iterator[JsonObject]:
    names: list[str] = []
    build = re.search(r"(?m)^build:\s*(\w+)\s*\((\d+)\)", text)
    devices = [found.strip() for found in re.findall(r"(?m)^[ \t]*(?:Device \d+|\w+\d+)\s*[:=]\s*([^,|(]+)", text)]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or all(set(cell) <= set("-: ") for cell in cells):
            continue
        if "test" in cells and "t/s" in cells:
            names = [_HEADINGS.get(cell, cell) for cell in cells]
            continue
        if not names:
            continue
        if len(cells) != len(names):
            raise FormatError("a row of the table must have a cell for each column", got=line)
        told = dict(zip(names, cells, strict=True))
        test = _TEST.match(told["test"])
        if test is None or not (test["pp"] or test["tg"]):
            raise FormatError("unknown test", got=told["test"], hint="pp512, tg128, pp512+tg128, pp512 @ d4096")
        data: dict[str, Json] = {
            **told,
            "n_prompt": test["pp"] or 0,
            "n_gen": test["tg"] or 0,
            "n_depth": test["depth"] or 0,
        }
        data["avg_ts"] = told["t/s"].split("±")[0].strip()
        if build:
            data |= {"build_commit": build[1], "build_number": build[2]}
        if devices:
            data["gpu_info"] = ", ".join(devices)
        yield data


def _list(value: object) -> list[Json]:
    if isinstance(value, str) and value.strip().startswith("["):
        value = parse_json(value)
    return value if isinstance(value, list) else []


def _median(values: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _name(prompt: int, generated: int, depth: int) -> str:
    parts = [f"pp{prompt}"] * (prompt > 0) + [f"tg{generated}"] * (generated > 0)
    return "+".join(parts) + (f" @ d{depth}" if depth else "")
