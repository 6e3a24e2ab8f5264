"""Metrics as people write them: ``ttft_ms``, ``p99 TTFT``, ``e2el``; which one is meant, and in which unit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

from fewmark.core.metrics import ALL_TARGETS, PERCENTILE_METRICS, PERCENTS

SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "microsecond", "microseconds"), 1e-6),
}
_STEMS: Final[Mapping[str, str]] = {
    **{name.removesuffix("_s").removesuffix("_tok").removesuffix("_req"): name for name in ALL_TARGETS},
    "time_to_first_token": "ttft_s",
    "time_per_output_token": "tpot_s",
    "inter_token_latency": "itl_s",
    **dict.fromkeys(("e2e", "e2el", "latency", "end_to_end_latency", "request_latency"), "e2e_latency_s"),
    **dict.fromkeys(("output_throughput", "output_token_throughput"), "throughput_tok_s"),
    **dict.fromkeys(("total_token_throughput", "tokens_per_second"), "total_throughput_tok_s"),
}
MAX_NAME: Final = 80  # letters; a longer name is none of a metric
SHOWN: Final = 3


def read_metric(name: str) -> tuple[str, float | None] | None:
    """The metric that a name stands for, and what its unit is worth in the metric's own; None where none is meant.

    The factor is None where the name of a time says no unit; rates have one unit each.

    Examples
    --------
    >>> read_metric("ttft_ms")
    ('ttft_s', 0.001)
    >>> read_metric("P99 TTFT")
    ('ttft_p99_s', None)
    """
    if name in ALL_TARGETS:
        return name, 1.0
    words = [word for word in re.split(r"[^a-z0-9µμ]+", name.strip().lower()[:MAX_NAME]) if word]
    percents = [word for word in words if re.fullmatch(r"p\d+", word)]
    words = [word for word in words if word not in percents and word not in ("mean", "avg", "average")]
    factor = SECONDS[words.pop()] if len(words) > 1 and words[-1] in SECONDS else None
    metric = _STEMS.get("_".join(words)) or _STEMS.get("_".join(words[:-1]) if words[-1:] in (["tok"], ["req"]) else "")
    if metric is None or len(percents) > 1:
        return None
    if percents:
        metric = f"{metric.removesuffix('_s')}_{percents[0]}_s"
    if metric not in ALL_TARGETS:
        return None
    if metric.endswith(("_tok_s", "_req_s")):
        return (metric, 1.0) if factor in (None, 1.0) else None
    return metric, factor


def near_metrics(name: str) -> list[str]:
    """The metrics that a name may stand for, the likeliest first; none where nothing looks like it."""
    meant = read_metric(name)
    if meant is not None:
        return [meant[0]]
    asked = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()[:MAX_NAME])
    close = difflib.get_close_matches(asked, [*_STEMS, *ALL_TARGETS], n=2 * SHOWN, cutoff=0.6)
    return list(dict.fromkeys(_STEMS.get(found, found) for found in close))[:SHOWN]


def metric_hint(name: str) -> str:
    """What to write in place of a name that is no metric's."""
    near = near_metrics(name)
    if near:
        return f"did you mean {' or '.join(near)}?"
    plain = ", ".join(target for target in ALL_TARGETS if target not in PERCENTILE_METRICS)
    percentiles = ", ".join(f"p{percent}" for percent in PERCENTS)
    return f"one of {plain}, or {percentiles} of a time, as in ttft_p99_s"
