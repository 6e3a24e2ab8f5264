"""The canonical table's columns: what `fewmark import` always accepts and `fewmark export` always writes.

Empty means unknown. Columns may be missing. `CANONICAL_COLUMNS` are always written, `OPTIONAL_COLUMNS`, which serving
measurements have, where a table has them. Extra columns are kept: those named ``option.NAME`` are engine options
and so part of the deployment, those named ``workload.NAME`` are further axes of the workload and so part of the
cell, and any other is carried along with its row without being part of what the row is about.
"""

from __future__ import annotations

from typing import Final

from fewmark.core.metrics import PERCENTILE_METRICS

DEPLOYMENT_COLUMNS: Final[tuple[str, ...]] = (
    "engine",
    "engine_version",
    "model",
    "precision",
    "accelerator",
    "accelerator_count",
    "tensor_parallel_size",
    "placement",
)
LOAD_COLUMNS: Final[tuple[str, ...]] = ("batch_size", "concurrency", "request_rate")  # a row has exactly one
WORKLOAD_COLUMNS: Final[tuple[str, ...]] = ("input_tokens", "output_tokens", *LOAD_COLUMNS)
CASE_COLUMNS: Final[tuple[str, ...]] = DEPLOYMENT_COLUMNS + WORKLOAD_COLUMNS
METRIC_COLUMNS: Final[tuple[str, ...]] = (
    "e2e_latency_s",
    "ttft_s",
    "tpot_s",
    "throughput_tok_s",
    "total_throughput_tok_s",
    "power_w",
)
SERVING_COLUMNS: Final[tuple[str, ...]] = (
    "itl_s",
    "decode_throughput_tok_s",
    *PERCENTILE_METRICS,
    "request_throughput_req_s",
    "goodput_req_s",
)
COUNT_COLUMNS: Final[tuple[str, ...]] = ("n_requests", "n_failed")  # requests that succeeded, and that failed
OPTIONAL_COLUMNS: Final[tuple[str, ...]] = (*SERVING_COLUMNS, *COUNT_COLUMNS, "statistic", "note")
STATISTICS: Final[tuple[str, ...]] = ("mean", "median")  # over requests; over repeats
CANONICAL_COLUMNS: Final[tuple[str, ...]] = (
    "source",
    *CASE_COLUMNS,
    *METRIC_COLUMNS,
    "n_repeats",
    "status",
    "flag",
)
KNOWN_COLUMNS: Final[tuple[str, ...]] = CANONICAL_COLUMNS + OPTIONAL_COLUMNS
NUMERIC_COLUMNS: Final[frozenset[str]] = frozenset(
    (
        *("accelerator_count", "tensor_parallel_size", "n_repeats"),
        *(*WORKLOAD_COLUMNS, *METRIC_COLUMNS, *SERVING_COLUMNS, *COUNT_COLUMNS),
    )
)
OPTION_PREFIX: Final = "option."
FLAG_SEPARATOR: Final = ";"
RETRACTED: Final = "retracted"  # the flag of a measurement that somebody took back, and said why
EXPIRED: Final = "expired"  # the flag of a measurement that no longer holds, since the system has changed
REPLACED: Final = "replaced"  # the flag of a measurement in whose place a later import was to be believed
WITHDRAWN: Final = (EXPIRED, RETRACTED, REPLACED)  # flags of what no model learns from
WORKLOAD_PREFIX: Final = "workload."
