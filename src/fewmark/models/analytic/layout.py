"""How a deployment is laid out over its devices, and what its options say of its cache and of its limits.

Replicas share no work: each holds all weights and serves its part of the users, so that TP4 × DP2 on eight devices is
two deployments of four, not one of eight. Only where experts are spread over more devices than a replica has do the
replicas share one set of weights, and count as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fewmark.core.columns import OPTION_PREFIX
from fewmark.facts.facts import weight_bytes

DATA: Final = ("data_parallel_size", "dp_size", "dp")
PIPELINE: Final = ("pipeline_parallel_size", "pp_size", "pp")
EXPERTS: Final = ("expert_parallel_size", "moe_expert_parallel_size", "ep_size", "ep")
CACHE: Final = ("kv_cache_dtype", "kv_cache_type", "kvcache_type", "kv_dtype", "cache_type")
SEQUENCES: Final = ("max_num_seqs", "max_running_requests", "max_batch_size", "max_concurrent_requests")
HALF: Final = 2.0  # bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """`devices` in all, in `replicas` alike; bytes of a cached number; sequences that may run at once, 0 if unknown."""

    devices: float
    replicas: float
    cache_bytes: float
    sequences: float

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Layout:
        """Of a deployment by the texts of its columns, options by their whole names; what is unknown is no number."""

        def option(names: tuple[str, ...]) -> float:
            return next(filter(None, (_number(row.get(f"{OPTION_PREFIX}{name}", "")) for name in names)), 0.0)

        count, tensor = _number(row.get("accelerator_count", "")), _number(row.get("tensor_parallel_size", ""))
        data, pipeline, experts = option(DATA), max(option(PIPELINE), 1.0), option(EXPERTS)
        one = tensor * pipeline
        devices = count or max(tensor, 1.0) * pipeline * max(data, 1.0)
        replicas = 1.0
        if data > 1 and devices % data == 0:
            replicas = data
        elif not data and tensor and devices > one and devices % one == 0:
            replicas = devices / one
        if experts > devices / replicas:
            replicas = 1.0
        told = (row.get(f"{OPTION_PREFIX}{name}", "") for name in CACHE)
        cache = next((weight_bytes(text) for text in told if text and text != "auto"), HALF)
        return cls(devices, replicas, min(cache, 4.0), replicas * option(SEQUENCES))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0
