"""The drift check: the first case of a deployment measured again at the end, on the engine that measured all between.

Between the two medians of the end-to-end latency lies a drift of d = again / first − 1. It is told where it is larger
than 5% and than both medians are known to: |d| > h_first + h_again, the half-widths of their 95% intervals over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from fewmark.core import Advice, FrozenMap, Measurement, Status
from fewmark.core.frozen import thaw
from fewmark.engines.measuring.policy import median_half_width

FLAG: Final = "drift-check"
DRIFTED_FLAG: Final = "drifted"
SMALLEST: Final = 0.05
MIN_CASES: Final = 8
MIN_TIME_S: Final = 300.0
METRIC: Final = "e2e_latency_s"


def worth_checking(n_measured: int, elapsed_s: float) -> bool:
    """Whether the cases were so many, or took so long, that one more is a small price."""
    return n_measured >= MIN_CASES or (n_measured > 1 and elapsed_s >= MIN_TIME_S)


def marked(first: Measurement, again: Measurement) -> Measurement:
    """The second measurement, marked as one, with the drift since the first (``drift``, a fraction; unknown: none)."""
    flags, extra = (*again.flags, FLAG), thaw(again.extra) | {"drift_of": first.measurement_id}
    before, now = first.median(METRIC), again.median(METRIC)
    if again.status is Status.OK and before and now:
        drift = now / before - 1
        extra["drift"] = drift
        uncertain = sum((median_half_width(m.values(METRIC)) or 0.0) / (m.median(METRIC) or 1) for m in (first, again))
        if abs(drift) > max(SMALLEST, uncertain):
            flags = (*flags, DRIFTED_FLAG)
    return replace(again, flags=flags, extra=FrozenMap(extra))


def drift_advice(measurements: Iterable[Measurement]) -> Iterable[Advice]:
    """A warning for each deployment that drifted, or fell over when its first case was measured again."""
    for measurement in measurements:
        label = measurement.case.deployment.label
        if FLAG in measurement.flags and measurement.status is not Status.OK:
            yield Advice(
                "drift-check-failed",
                f"{label}: the first case worked, and measured again at the end it did not: {measurement.error}",
                "the engine wears out (memory?); restart it more often, or see its log",
            )
        elif DRIFTED_FLAG in measurement.flags:
            drift = float(measurement.extra["drift"])
            slower = drift > 0
            yield Advice(
                "drift",
                f"{label}: the first case took {abs(drift):.0%} {'longer' if slower else 'less'} at the end",
                "heat, other work, a cache that filled up? cool or quiet the machine (fewmark doctor) and measure again"
                if slower
                else "the machine was busier, or not yet warm, at the start; measure again, warm up longer",
            )
