"""Metric definitions, once and for all. The unit is in the name; seconds inside, milliseconds only on display."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name (with the unit), what it means, and which direction is better."""

    name: str
    unit: str
    definition: str
    higher_is_better: bool


PERCENTS: Final = (50, 90, 95, 99)
_OVER_REQUESTS: Final = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2e_latency", "end-to-end latency"))
PERCENTILE_METRICS: Final[Mapping[str, tuple[str, int]]] = {
    f"{stem}_p{percent}_s": (f"{stem}_s", percent) for stem, _ in _OVER_REQUESTS for percent in PERCENTS
}
"""Every percentile metric, and of which metric it is which percentile: ``ttft_p99_s`` → (``ttft_s``, 99)."""

METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("ttft_s", "s", "request sent → first output token", False),
        Metric("tpot_s", "s", "(e2e_latency_s - ttft_s) / (output_tokens - 1); empty at one output token", False),
        Metric("itl_s", "s", "each gap between consecutive output tokens", False),
        Metric("e2e_latency_s", "s", "request or batch sent → last token of the last sequence", False),
        Metric("throughput_tok_s", "tok/s", "output tokens per second, prefill time included", True),
        Metric("total_throughput_tok_s", "tok/s", "(input + output) tokens per second", True),
        Metric("decode_throughput_tok_s", "tok/s", "batch × (output - 1) / (e2e - ttft)", True),
        Metric("request_throughput_req_s", "req/s", "requests finished per second", True),
        Metric("goodput_req_s", "req/s", "requests finished per second that met the stated objectives", True),
        *(
            Metric(
                f"{stem}_p{percent}_s",
                "s",
                f"{percent}th percentile of {name} over {'gaps' if stem == 'itl' else 'requests'}, an order statistic",
                False,
            )
            for stem, name in _OVER_REQUESTS
            for percent in PERCENTS
        ),
    )
}
DERIVED: Final = (
    "ttft_s",
    "tpot_s",
    "e2e_latency_s",
    "throughput_tok_s",
    "total_throughput_tok_s",
    "decode_throughput_tok_s",
)
"""The metrics that `derive_metrics` fills."""
TARGETS: Final[tuple[str, ...]] = (
    "throughput_tok_s",
    "total_throughput_tok_s",
    "e2e_latency_s",
    "ttft_s",
    "tpot_s",
)
"""The metrics that are predicted of batches and loops alike; each follows from others by definition."""
SERVING_TARGETS: Final[tuple[str, ...]] = tuple(name for name in METRICS if name not in TARGETS)
ALL_TARGETS: Final[tuple[str, ...]] = (*TARGETS, *SERVING_TARGETS)


RATES: Final = frozenset(name for name, metric in METRICS.items() if metric.unit in ("tok/s", "req/s"))


def related_target(target: str) -> str:
    """The one of `TARGETS` that behaves most like a target: of a percentile the mean, of a gap the time per token."""
    base = PERCENTILE_METRICS[target][0] if target in PERCENTILE_METRICS else target
    if base in ("itl_s", "decode_throughput_tok_s"):
        return "tpot_s"
    return base if base in TARGETS else "throughput_tok_s"


def median_of_repeats(metric: str, values: Sequence[float]) -> float:
    """The median of a metric's values, of which there is at least one.

    Of an even number of a rate's it is the harmonic mean of the middle two, where others have the arithmetic one: so a
    batch's rates follow from the median of its latencies, however far these lie apart.
    """
    if metric in RATES and len(values) % 2 == 0:
        low, high = statistics.median_low(values), statistics.median_high(values)
        if 0 < low < high:
            return 2 / (1 / low + 1 / high)
    return statistics.median(values)


def tpot_s(e2e_latency_s: float | None, ttft_s: float | None, output_tokens: float) -> float | None:
    """Time per output token after the first, in seconds; None at one output token or where a part is unknown."""
    if e2e_latency_s is None or ttft_s is None or output_tokens <= 1:
        return None
    return (e2e_latency_s - ttft_s) / (output_tokens - 1)


def derive_metrics(
    known: Mapping[str, float | None],
    *,
    input_tokens: float | None,
    output_tokens: float | None,
    batch_size: float | None = None,
) -> dict[str, float | None]:
    """Fill what follows from what is known, by the definitions of `METRICS`; a known value is never changed.

    Parameters
    ----------
    known : mapping from metric name to value (s, tok/s) or None
    input_tokens, output_tokens : tokens per sequence
    batch_size : sequences in the static batch; None for online work, where rates do not follow from one latency

    Returns
    -------
    dict with every name of `DERIVED`; None is unknown.
    """
    out: dict[str, float | None] = {name: known.get(name) for name in DERIVED}
    ii, oo, bb = input_tokens, output_tokens, batch_size
    if oo is not None and bb is not None and oo > 0 and bb > 0:
        if out["e2e_latency_s"] is None and out["throughput_tok_s"]:
            out["e2e_latency_s"] = bb * oo / out["throughput_tok_s"]
        if out["e2e_latency_s"] is None and out["total_throughput_tok_s"] and ii is not None:
            out["e2e_latency_s"] = bb * (ii + oo) / out["total_throughput_tok_s"]
    out["e2e_latency_s"] = _e2e_latency_s(out, oo)
    if oo is not None and bb is not None and oo > 0 and bb > 0 and out["throughput_tok_s"] is None:
        out["throughput_tok_s"] = bb * oo / out["e2e_latency_s"] if out["e2e_latency_s"] else None
    if oo is not None and oo > 0 and ii is not None:
        if out["throughput_tok_s"] is None and out["total_throughput_tok_s"]:
            out["throughput_tok_s"] = out["total_throughput_tok_s"] * oo / (ii + oo)
        if out["total_throughput_tok_s"] is None and out["throughput_tok_s"]:
            out["total_throughput_tok_s"] = out["throughput_tok_s"] * (ii + oo) / oo
    e2e, ttft = out["e2e_latency_s"], out["ttft_s"]
    if oo is not None and out["tpot_s"] is None:
        out["tpot_s"] = tpot_s(e2e, ttft, oo)
    decode_s = e2e - ttft if e2e is not None and ttft is not None else 0.0
    if out["decode_throughput_tok_s"] is None and bb and oo is not None and oo > 1 and decode_s > 0:
        out["decode_throughput_tok_s"] = bb * (oo - 1) / decode_s
    # Of a time next to nothing follows a rate beyond all numbers, which is none.
    return {name: value if value is None or math.isfinite(value) else None for name, value in out.items()}


def _e2e_latency_s(known: Mapping[str, float | None], output_tokens: float | None) -> float | None:
    """The end-to-end latency, also where only its parts are known; at one output token the first is the last."""
    e2e, ttft, tpot = known["e2e_latency_s"], known["ttft_s"], known["tpot_s"]
    if e2e is not None or ttft is None or output_tokens is None or output_tokens < 1:
        return e2e
    if output_tokens == 1:
        return ttft
    return None if tpot is None else ttft + tpot * (output_tokens - 1)
