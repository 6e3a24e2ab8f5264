"""Names of columns as people write them: which canonical column one stands for, and in which unit.

A name is read as statistic, quantity and unit in any order and spelling: ``Mean TTFT (ms)``, ``ttft_p99_ms``,
``outputThroughput``, ``latency [s]``, ``tok/s/GPU``. A time whose unit nobody says, and a throughput of which nobody
says whether it counts the input as well, are marked as such; `fewmark.interop.dialects.identities` decides them by the
values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fewmark.core import KNOWN_COLUMNS
from fewmark.core.columns import NUMERIC_COLUMNS, OPTIONAL_COLUMNS
from fewmark.core.metric_names import SECONDS

TIME: Final = "time"
TOKEN_RATE: Final = "token rate"
REQUEST_RATE: Final = "request rate"
POWER: Final = "power"
COUNT: Final = "count"
LABEL: Final = "label"
STATUS: Final = "status"
MAX_NAME: Final = 200  # letters; a longer name is none of a quantity

# What a unit's spelling is worth in seconds, tokens per second, requests per second, watts.
UNITS: Final[Mapping[str, tuple[str, float]]] = {
    **{unit: (TIME, factor) for unit, factor in SECONDS.items()},
    **dict.fromkeys(("millis",), (TIME, 1e-3)),
    **dict.fromkeys(("usec",), (TIME, 1e-6)),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), (TIME, 1e-9)),
    **dict.fromkeys(("minute", "minutes"), (TIME, 60.0)),
    **dict.fromkeys(("s_tok", "s_token", "sec_token", "s_per_token", "seconds_per_token"), (TIME, 1.0)),
    **dict.fromkeys(("ms_tok", "ms_token", "ms_per_tok", "ms_per_token"), (TIME, 1e-3)),
    **{
        f"{tokens}{per}": (TOKEN_RATE, factor)
        for tokens in ("tok", "toks", "token", "tokens", "t")
        for per, factor in (
            *((f"_{s}", 1.0) for s in ("s", "sec", "second", "per_s", "per_sec", "per_second")),
            *((f"_{m}", 1 / 60) for m in ("min", "minute", "per_min", "per_minute")),
        )
    },
    **dict.fromkeys(("tps", "toks", "tokps"), (TOKEN_RATE, 1.0)),
    **{
        f"{requests}{per}": (REQUEST_RATE, factor)
        for requests in ("req", "reqs", "request", "requests", "queries", "query")
        for per, factor in (
            *((f"_{s}", 1.0) for s in ("s", "sec", "second", "per_s", "per_sec", "per_second")),
            *((f"_{m}", 1 / 60) for m in ("min", "minute", "per_min", "per_minute")),
        )
    },
    **dict.fromkeys(("w", "watt", "watts"), (POWER, 1.0)),
    **dict.fromkeys(("kw", "kilowatt", "kilowatts"), (POWER, 1e3)),
    **dict.fromkeys(("mw", "milliwatt", "milliwatts"), (POWER, 1e-3)),
}
_SUFFIXES: Final = sorted(UNITS, key=len, reverse=True)

_STEMS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    # canonical stem → kind, spellings (the surest first)
    "e2e_latency": (
        TIME,
        (
            *("e2e_latency", "e2el", "e2e", "end_to_end_latency", "e2e_time", "end_to_end_time", "end_to_end"),
            *("request_latency", "total_latency", "batch_latency", "latency"),
        ),
    ),
    "ttft": (TIME, ("ttft", "time_to_first_token", "ttft_latency", "first_token_latency", "first_token_time")),
    "tpot": (TIME, ("tpot", "time_per_output_token", "time_per_token", "tpot_latency")),
    "itl": (TIME, ("itl", "inter_token_latency", "intertoken_latency")),
    "throughput": (
        TOKEN_RATE,
        (
            *("output_throughput", "output_token_throughput", "output_tokens_throughput", "generation_throughput"),
            *("gen_throughput", "output_tput", "output_token", "output", "generation", "output_tokens"),
            *("throughput", "token_throughput", "tput", "thpt", "thrpt", ""),
        ),
    ),
    "total_throughput": (
        TOKEN_RATE,
        (
            *("total_throughput", "total_token_throughput", "total_tokens_throughput", "overall_throughput"),
            *("total_tput", "total_token", "total_tokens", "total"),
        ),
    ),
    "decode_throughput": (TOKEN_RATE, ("decode_throughput", "decode_tput", "decode", "decode_speed")),
    "request_throughput": (
        REQUEST_RATE,
        ("request_throughput", "requests_throughput", "req_throughput", "achieved_rate", "achieved_qps", ""),
    ),
    "goodput": (REQUEST_RATE, ("goodput", "request_goodput")),
    "request_rate": (REQUEST_RATE, ("request_rate", "arrival_rate", "target_qps", "offered_rate", "qps", "rps")),
    "power": (POWER, ("power", "power_draw", "gpu_power", "power_usage", "power_consumption")),
}
_UNIT_OF: Final = {TIME: "s", TOKEN_RATE: "tok_s", REQUEST_RATE: "req_s", POWER: "w"}
_VAGUE: Final = frozenset(("throughput", "token_throughput", "tput", "thpt", "thrpt", ""))  # output or total tokens?

_PLAIN: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "engine": (LABEL, ("engine", "framework", "backend", "inference_engine", "serving_engine", "inference_framework")),
    "engine_version": (LABEL, ("engine_version", "framework_version", "backend_version")),
    "model": (LABEL, ("model", "model_name", "model_id", "llm", "llm_model")),
    "precision": (LABEL, ("precision", "dtype", "data_type", "quantization", "quantisation", "quant")),
    "accelerator": (
        LABEL,
        (
            *("accelerator", "gpu", "gpu_name", "gpu_type", "gpu_model", "accelerator_name", "accelerator_type"),
            *("hardware", "hw", "device", "device_name", "chip"),
        ),
    ),
    "accelerator_count": (
        COUNT,
        (
            *("accelerator_count", "num_accelerators", "n_accelerators", "number_of_accelerators", "gpu_count"),
            *("num_gpus", "num_gpu", "n_gpus", "n_gpu", "ngpus", "number_of_gpus", "gpus", "num_devices"),
        ),
    ),
    "tensor_parallel_size": (
        COUNT,
        ("tensor_parallel_size", "tensor_parallelism", "tensor_parallel", "tp_size", "tp_degree", "tp"),
    ),
    "option.pipeline_parallel_size": (
        COUNT,
        ("pipeline_parallel_size", "pipeline_parallelism", "pipeline_parallel", "pp_size", "pp"),
    ),
    "option.data_parallel_size": (
        COUNT,
        ("data_parallel_size", "data_parallelism", "data_parallel", "dp_size", "dp"),
    ),
    "option.expert_parallel_size": (
        COUNT,
        ("expert_parallel_size", "expert_parallelism", "expert_parallel", "ep_size", "ep"),
    ),
    "input_tokens": (
        COUNT,
        (
            *("input_tokens", "input_len", "input_length", "input_token_count", "isl", "prompt_tokens", "prompt_len"),
            *("prompt_length", "input_size", "input_seq_len", "input_sequence_length", "num_input_tokens"),
            *("random_input_len", "in_tokens", "prompt_size", "n_input_tokens", "input"),
        ),
    ),
    "output_tokens": (
        COUNT,
        (
            *("output_tokens", "output_len", "output_length", "output_token_count", "osl", "completion_tokens"),
            *("generated_tokens", "gen_tokens", "gen_len", "output_size", "output_seq_len", "output_sequence_length"),
            *("num_output_tokens", "random_output_len", "out_tokens", "n_output_tokens", "output"),
        ),
    ),
    "batch_size": (COUNT, ("batch_size", "batchsize", "batch", "bs", "bsz")),
    "concurrency": (
        COUNT,
        (
            *("concurrency", "max_concurrency", "num_concurrency", "concurrent_requests", "num_concurrent_requests"),
            *("max_concurrent_requests", "concurrent_users", "num_users", "users", "conc", "clients", "num_clients"),
        ),
    ),
    "n_repeats": (COUNT, ("n_repeats", "repeats", "num_repeats", "n_runs", "num_runs", "n_trials", "num_trials")),
    "n_requests": (COUNT, ("n_requests", "completed_requests", "successful_requests", "num_completed", "completed")),
    "n_failed": (COUNT, ("n_failed", "failed_requests", "num_failed", "failed", "num_errors")),
    "status": (STATUS, ("status", "run_status", "outcome", "success", "succeeded")),
    "source": (LABEL, ("source",)),
}
# What fewmark itself writes beside the canonical columns, and so understands.
OWN_COLUMNS: Final = frozenset(
    (
        *OPTIONAL_COLUMNS,
        *("provenance", "run_id", "detail", "tool", "tool_version", "duration_s", "measurement_id", "case_id"),
        *("deployment_id", "wall_s", "accelerator_s", "energy_j", "startup_s"),
    )
)
_MEAN: Final = frozenset(("mean", "avg", "average"))
_MEDIAN: Final = frozenset(("median", "med"))
_PERCENTILE: Final = re.compile(r"p?(50|90|95|99)(?:th)?")
_OTHER_STATISTIC: Final = frozenset(
    (
        "min",
        "max",
        "std",
        "stdev",
        "stddev",
        "sd",
        "var",
        "variance",
        "sum",
        "count",
        "cv",
        "peak",
        "minimum",
        "maximum",
    )
)
_PER_ACCELERATOR: Final = (r"_?per_(?:gpu|accelerator|chip|device)$", r"(?<=_s)_gpu$", r"(?<=second)_gpu$")


@dataclass(frozen=True)
class Meaning:
    """What a column's name says.

    `factor` brings its numbers to the canonical unit; None where the name says no unit and one is needed. `rank`
    orders spellings of one canonical column, the surest (0) first. `is_vague` tells a throughput that may count output
    tokens or all; `per_accelerator` a value to be multiplied by the number of accelerators. `statistic` is "mean" or
    "median" where the name says so.
    """

    column: str
    kind: str
    factor: float | None = 1.0
    rank: int = 0
    is_vague: bool = False
    per_accelerator: bool = False
    statistic: str | None = None


@lru_cache(maxsize=4096)
def meaning_of(name: str) -> Meaning | None:
    """What the name of a column says; None where it says nothing that is known."""
    if len(name) > MAX_NAME:
        return None
    folded = fold(name)
    if folded in KNOWN_COLUMNS:
        return Meaning(folded, kind_of(folded))
    if name.startswith(("option.", "workload.")):
        return None
    for column, (kind, spellings) in _PLAIN.items():
        if folded in spellings:
            return Meaning(column, kind, rank=1 + spellings.index(folded))
    return _quantity(name)


def fold(name: str) -> str:
    """Lower case, words separated by one underscore each: the spelling in which names are compared."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", "_", name.strip())
    return re.sub(r"[^a-z0-9µμ%.]+", "_", text.lower()).strip("_")


def near_names(name: str, names: Iterable[str] | None = None) -> list[str]:
    """Up to two known names that look like this one."""
    known = {column: column for column in KNOWN_COLUMNS}
    if names is not None:
        known = {fold(item): item for item in names}
    else:
        known |= {spelling: column for column, (_, all_) in _PLAIN.items() for spelling in all_ if len(spelling) > 3}
        for stem, (kind, spellings) in _STEMS.items():
            known |= {spelling: f"{stem}_{_UNIT_OF[kind]}" for spelling in spellings if len(spelling) > 3}
    close = difflib.get_close_matches(fold(name)[:MAX_NAME], list(known), n=4, cutoff=0.75)
    return list(dict.fromkeys(known[item] for item in close))[:2]


def kind_of(column: str) -> str:
    """The kind of quantity that a canonical column holds."""
    if column not in NUMERIC_COLUMNS:
        return STATUS if column == "status" else LABEL
    if column == "request_rate":
        return REQUEST_RATE
    units = (("_tok_s", TOKEN_RATE), ("_req_s", REQUEST_RATE), ("_s", TIME), ("_w", POWER))
    return next((kind for suffix, kind in units if column.endswith(suffix)), COUNT)


def _quantity(name: str) -> Meaning | None:
    """A metric with its unit and statistic in the name."""
    bracketed = re.findall(r"[(\[{]([^)\]}]*)[)\]}]", name)
    rest = re.sub(r"[(\[{][^)\]}]*[)\]}]", " ", name)
    unit: tuple[str, float] | None = None
    for inside in bracketed:
        spelled = _unit_spelling(inside)
        if spelled in UNITS:
            unit = UNITS[spelled]
        else:
            rest += f" {inside}"
    text = fold(rest)
    per_accelerator = False
    for end in _PER_ACCELERATOR:
        text, n = re.subn(end, "", text)
        per_accelerator = per_accelerator or bool(n)
    if any("gpu" in fold(inside) for inside in bracketed):
        per_accelerator = True
        text = re.sub(r"_(?:gpu|per_gpu)$", "", text)
    if unit is None:
        text, unit = _cut_unit(text)
    words, statistic, percentile = _cut_statistic(text.split("_"))
    if words is None:
        return None
    stem = "_".join(words)
    if unit is None and stem != text:  # the statistic comes last: ttft_ms_p99
        stem, unit = _cut_unit(stem)
    for column, (kind, spellings) in _STEMS.items():
        if stem not in spellings or (unit is not None and unit[0] != kind):
            continue
        if stem == "" and (unit is None or percentile):
            continue
        if unit is None and stem in ("output", "output_tokens", "total", "total_tokens", "output_token", "total_token"):
            continue
        if percentile and kind != TIME:
            if percentile != "50":
                return None
            statistic, percentile = "median", None
        rank = 1 + spellings.index(stem)
        if column == "request_rate":
            return Meaning("request_rate", kind, 1.0 if unit is None else unit[1], rank)
        full = f"{column}_p{percentile}_{_UNIT_OF[kind]}" if percentile else f"{column}_{_UNIT_OF[kind]}"
        factor = unit[1] if unit is not None else (None if kind == TIME else 1.0)
        vague = stem in _VAGUE and column == "throughput"
        return Meaning(full, kind, factor, rank, vague, per_accelerator, statistic)
    return None


def _unit_spelling(text: str) -> str:
    text = text.replace("/", "_").replace("·", "_").replace("⁻¹", "").strip()
    spelled = fold(text.removeprefix("in ").replace("per", "_per_"))
    return re.sub(r"_(?:per_)?gpu$", "", spelled)


def _cut_unit(text: str) -> tuple[str, tuple[str, float] | None]:
    for suffix in _SUFFIXES:
        if text == suffix:
            return "", UNITS[suffix]
        if text.endswith(f"_{suffix}"):
            return text.removesuffix(f"_{suffix}").removesuffix("_in"), UNITS[suffix]
    return text, None


def _cut_statistic(words: list[str]) -> tuple[list[str] | None, str | None, str | None]:
    """The words without the statistic; None for the words where the statistic has no canonical column."""
    statistic = percentile = None
    left = []
    for position, word in enumerate(words):
        at_end = position in (0, len(words) - 1) or (position == len(words) - 2 and words[-1] == "percentile")
        if at_end and word in _MEAN:
            statistic = "mean"
        elif at_end and word in _MEDIAN:
            percentile = "50"
        elif at_end and (found := _PERCENTILE.fullmatch(word)):
            percentile = found.group(1)
        elif at_end and (word in _OTHER_STATISTIC or re.fullmatch(r"p\d+(?:\.\d+)?|\d+th", word)):
            return None, None, None
        elif word != "percentile":
            left.append(word)
    return left, statistic, percentile
