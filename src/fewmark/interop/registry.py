"""The formats that there are, and which of them a file has."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, InputError
from fewmark.core.errors import malformed_as
from fewmark.core.files import MAX_TABLE_BYTES, require_regular
from fewmark.interop.base import HEAD_BYTES, Format, UnknownFormatError
from fewmark.interop.dialects.headers import meaning_of, near_names
from fewmark.interop.text.csv_text import header_of

GROUP: Final = "fewmark.formats"
_BUILT_IN: Final = {
    "csv": "fewmark.interop.formats.canonical_csv:CanonicalCsv",
    "json": "fewmark.interop.formats.canonical_json:CanonicalJson",
    "parquet": "fewmark.interop.formats.canonical_parquet:CanonicalParquet",
    "aiperf": "fewmark.interop.formats.aiperf.summary:AiperfSummary",
    "aiperf-aggregate": "fewmark.interop.formats.aiperf.aggregate:AiperfAggregate",
    "aiperf-csv": "fewmark.interop.formats.aiperf.table:AiperfTable",
    "aiperf-requests": "fewmark.interop.formats.aiperf.requests:AiperfRequests",
    "guidellm": "fewmark.interop.formats.guidellm.report:GuidellmReport",
    "guidellm-0.1": "fewmark.interop.formats.guidellm.early:GuidellmEarly",
    "guidellm-csv": "fewmark.interop.formats.guidellm.table:GuidellmCsv",
    "inference-perf": "fewmark.interop.formats.inference_perf.lifecycle:InferencePerf",
    "inference-perf-requests": "fewmark.interop.formats.inference_perf.requests:InferencePerfRequests",
    "llmd-benchmark-report": "fewmark.interop.formats.benchmark_report:BenchmarkReport",
    "mlcommons-endpoints": "fewmark.interop.formats.mlcommons_endpoints:MlcommonsEndpoints",
    "llm-inference-bench": "fewmark.interop.formats.llm_inference_bench:LlmInferenceBench",
    "serving-console": "fewmark.interop.formats.serving_console:ServingConsole",
    "offline-console": "fewmark.interop.formats.offline_console:OfflineConsole",
    "sglang-bench": "fewmark.interop.formats.sglang_bench:SglangBench",
    "splitwise": "fewmark.interop.formats.splitwise:Splitwise",
    "vllm-serve": "fewmark.interop.formats.vllm_bench.serving:VllmServe",
    "vllm-latency": "fewmark.interop.formats.vllm_bench.offline:VllmLatency",
    "vllm-startup": "fewmark.interop.formats.vllm_bench.offline:VllmStartup",
    "vllm-throughput": "fewmark.interop.formats.vllm_bench.offline:VllmThroughput",
    "worker-results": "fewmark.interop.formats.worker_results:WorkerResults",
    "evalscope": "fewmark.interop.formats.evalscope:Evalscope",
    "genai-bench": "fewmark.interop.formats.genai_bench:GenaiBench",
    "llmeter": "fewmark.interop.formats.llmeter:Llmeter",
    "llmperf": "fewmark.interop.formats.llmperf:Llmperf",
    "llama-bench": "fewmark.interop.formats.llama_bench:LlamaBench",
    "llama-batched-bench": "fewmark.interop.formats.llama_batched_bench:LlamaBatchedBench",
    "llama-benchy": "fewmark.interop.formats.llama_benchy:LlamaBenchy",
    "aiconfigurator": "fewmark.interop.formats.aiconfigurator:Aiconfigurator",
    "aisimulate": "fewmark.interop.formats.aisimulate:Aisimulate",
    "llm-d-planner": "fewmark.interop.formats.llmd_planner:LlmdPlanner",
    "ado": "fewmark.interop.formats.ado:Ado",
    "blis": "fewmark.interop.formats.blis:Blis",
    "chimeraforge": "fewmark.interop.formats.chimeraforge:Chimeraforge",
    "fmperf": "fewmark.interop.formats.fmperf:Fmperf",
    "fmwork": "fewmark.interop.formats.fmwork:Fmwork",
    "inferencex": "fewmark.interop.formats.inferencex:Inferencex",
    "llm-pilot": "fewmark.interop.formats.llm_pilot:LlmPilot",
    "llmservingsim": "fewmark.interop.formats.llmservingsim:Llmservingsim",
    "mlperf": "fewmark.interop.formats.mlperf:Mlperf",
    "optimum-benchmark": "fewmark.interop.formats.optimum_benchmark:OptimumBenchmark",
    "prism": "fewmark.interop.formats.prism:Prism",
    "side-file": "fewmark.interop.formats.side_files:SideFile",
}


BINARY_SHARE: Final = 0.1  # of letters that are no text, from which a file is none
_MAGIC: Final = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "gzip data",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}


def format_names() -> list[str]:
    """The names of all formats: the built-in ones, then those of third parties (entry points)."""
    return list(dict.fromkeys([*_BUILT_IN, *(point.name for point in _third_party(entry_points, tuple(sys.path)))]))


@lru_cache(1)
def _third_party(look_up: Callable[..., EntryPoints], path: tuple[str, ...]) -> EntryPoints:
    """The entry points of formats, looked up again where the places to look have changed: it takes its time."""
    return look_up(group=GROUP)


def get_format(name: str) -> Format:
    """The format of that name. Raises `InputError` if there is none, or if a third party's cannot be imported."""
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: Format = getattr(importlib.import_module(module), attribute)()
        return built_in
    points = [point for point in _third_party(entry_points, tuple(sys.path)) if point.name == name]
    if not points:
        raise InputError("unknown format", got=name, hint=f"one of auto, {', '.join(format_names())}")
    try:
        made = points[0].load()()
    except Exception as error:  # whatever a third party's code raises
        raise InputError(f"the format {name} cannot be loaded", got=error, hint=points[0].value) from error
    if not isinstance(made, Format):
        raise InputError(f"the format {name} lacks what a format needs", got=type(made).__name__)
    return made


def read_table(path: str | Path, format: str = "auto") -> pd.DataFrame:  # noqa: A002  the verb's own word
    """A result file as the canonical table, row order kept; ``attrs["format"]`` names the format.

    Parameters
    ----------
    path : path of a file
    format : "auto" (by the file's name and content) or a name of `format_names`

    Returns
    -------
    DataFrame: the canonical columns (numeric ones float64, unknown NaN; text objects, unknown None), then the extra
    ones. Index = 0-based data row.

    Raises
    ------
    InputError
        If there is no such file or format.
    FormatError
        If the file cannot be read as the format, or is of none that is known.
    """
    path = Path(path)
    require_regular(path, max_bytes=MAX_TABLE_BYTES, what="a table")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if not head:
            raise UnknownFormatError("the file is empty", got=str(path))
        chosen = _detect(path, head) if format == "auto" else get_format(format)
        with malformed_as(FormatError, f"the file cannot be read as {chosen.name}"):
            frame = chosen.read(path)
    except OSError as error:
        raise InputError("the file cannot be read", got=f"{path}: {error.strerror or error}") from None
    except FormatError as error:
        raise _named(error, path) from None
    except InputError:
        raise
    except Exception as error:  # a file of a stranger may hold anything; what a reader trips over is the file's fault
        what = f"{path.name}: the file does not hold what the format {chosen.name} has"
        raise FormatError(what, got=f"{type(error).__name__}: {error}") from error
    frame.attrs["format"] = chosen.name
    return frame


def _detect(path: Path, head: bytes) -> Format:
    formats = [get_format(name) for name in format_names()]
    scores = [(chosen.sniff(path, head), chosen) for chosen in formats]
    best, chosen = max(scores, key=lambda item: item[0])
    if best > 0:
        return chosen
    if (kind := _binary(head)) is not None:
        hint = "a result is text (CSV, JSON, YAML), Parquet, or an archive of these"
        raise UnknownFormatError("the file is of no known format", got=kind, hint=hint)
    if (broken := _broken_json(path, head)) is not None:
        hint = "it may have been copied or written in part: fetch it again, or cut it after its last complete row"
        raise UnknownFormatError("the JSON is cut short or damaged", got=broken, hint=hint)
    raise UnknownFormatError(
        "the file is of no known format",
        got=_first_line(head),
        hint=f"{_near(head)}known are {', '.join(name.name for name in formats)}",
    )


def _binary(head: bytes) -> str | None:
    """What a file is that holds no text; None where it does."""
    for start, name in _MAGIC.items():
        if head.startswith(start):
            return name
    text = head.decode("utf-8", errors="replace")
    odd = sum(letter == "\ufffd" or not (letter.isprintable() or letter.isspace()) for letter in text)
    return "binary data" if b"\0" in head or odd > BINARY_SHARE * len(text) else None


def _broken_json(path: Path, head: bytes) -> str | None:
    """Where a file that begins as JSON ends being JSON; None where it is whole, or none."""
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return None
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    whole, lines = _json_error(text), [line for line in text.splitlines() if line.strip()]
    if whole is None or len(lines) < 2 or _json_error(lines[0]) is not None:
        return whole
    for number, line in enumerate(lines, start=1):  # JSON lines
        if (error := _json_error(line)) is not None:
            return f"line {number} of {len(lines)}: {error}"
    return None


def _json_error(text: str) -> str | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        ends = " (the file ends there)" if error.pos >= len(text.rstrip()) else ""
        return f"line {error.lineno}, column {error.colno}: {error.msg}{ends}"
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def _near(head: bytes) -> str:
    """What the columns of an unknown table may have meant, and what a table needs; empty if it is none."""
    names = header_of(head)
    if len(names) < 2:
        return ""
    near = {name: found for name in names[:50] if meaning_of(name) is None and (found := near_names(name))}
    told = "".join(f"{name}: did you mean {' or '.join(found)}? " for name, found in list(near.items())[:5])
    return f"{told}a table needs input_tokens, output_tokens, and batch_size, concurrency or request_rate; "


def _first_line(head: bytes) -> str:
    if not head.strip():
        return "nothing but blanks"
    line = head.lstrip().splitlines()[0][:120].decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def _named(error: FormatError, path: Path) -> FormatError:
    """The same error, saying which file."""
    return type(error)(f"{path.name}: {error.what}", got=error.got, hint=error.hint)
