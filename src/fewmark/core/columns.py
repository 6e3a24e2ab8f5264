"""The canonical table's columns: what `fewmark import` always accepts and `fewmark export` always writes.

Empty means unknown. Columns may be missing. Extra columns are kept: those named ``option.NAME`` are engine options
and so part of the deployment, those named ``workload.NAME`` are further axes of the workload and so part of the
cell, and any other is carried along with its row without being part of what the row is about.
"""

from __future__ import annotations

from typing import Final

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
WORKLOAD_COLUMNS: Final[tuple[str, ...]] = ("input_tokens", "output_tokens", "batch_size", "concurrency")
CASE_COLUMNS: Final[tuple[str, ...]] = DEPLOYMENT_COLUMNS + WORKLOAD_COLUMNS
METRIC_COLUMNS: Final[tuple[str, ...]] = (
    "e2e_latency_s",
    "ttft_s",
    "tpot_s",
    "throughput_tok_s",
    "total_throughput_tok_s",
    "power_w",
)
CANONICAL_COLUMNS: Final[tuple[str, ...]] = (
    "source",
    *CASE_COLUMNS,
    *METRIC_COLUMNS,
    "n_repeats",
    "status",
    "flag",
)
NUMERIC_COLUMNS: Final[frozenset[str]] = frozenset(
    ("accelerator_count", "tensor_parallel_size", "n_repeats", *WORKLOAD_COLUMNS, *METRIC_COLUMNS)
)
OPTION_PREFIX: Final = "option."
FLAG_SEPARATOR: Final = ";"
EXPIRED: Final = "expired"  # the flag of a measurement that no longer holds, since the system has changed
WORKLOAD_PREFIX: Final = "workload."
