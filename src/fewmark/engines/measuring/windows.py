"""Measuring a loop by windows of many requests: valid ones are repeats, invalid ones are kept and made up for.

A window that is not valid is data but no sample: it stands in ``extra.invalid_windows`` with its reasons and its
numbers, and another is measured that is longer or has more client processes, whichever was its fault; after
`MAX_INVALID` of them, or where neither would help, the case is invalid and holds the last one's sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fewmark.core import Sample, Status, Workload
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.validity import reason_unlike
from fewmark.engines.base import CaseFailure, Effort, Remedy, Window, Windowed
from fewmark.engines.host import usable_cpus

if TYPE_CHECKING:
    from fewmark.engines.measuring.policy import Outcome, Policy

MAX_INVALID: Final = 3


def measure_windows(
    engine: Windowed,
    workload: Workload,
    policy: Policy,
    seeds: Callable[[int], int],
    outcome: Outcome,
    on_sample: Callable[[Sample], None],
    half_width: Callable[[list[float]], float],
) -> None:
    """Fill the outcome with windows, until the mean e2e latency is known well enough over them.

    Parameters
    ----------
    seeds : callable
        The seed of the n-th window.
    half_width : callable
        How well a median is known, as a fraction of it.

    Raises
    ------
    CaseFailure
        Where no request can be answered; what was measured before stays in the outcome.
    """
    began = time.perf_counter()
    effort = Effort(
        policy.n_requests,
        policy.window_s,
        tiers=tuple(map(dict, policy.slo)),
        thresholds=dict(policy.validity),
        warm_up=policy.warmup,
    )
    windows: list[JsonObject] = []
    invalid: list[Window] = []
    costs: dict[str, float] = {}
    latencies: list[float] = []
    try:
        while len(windows) < policy.max_repeats:
            before = time.perf_counter()
            left = None if policy.time_limit_s is None else max(policy.time_limit_s - (before - began), 1.0)
            window = engine.window(workload, replace(effort, limit_s=left), seed=seeds(len(windows) + len(invalid)))
            took = time.perf_counter() - before
            for name, seconds in window.costs.items():
                costs[name] = costs.get(name, 0.0) + seconds
            expected = took - sum(window.costs.values())
            if window.is_valid and (sample := window.sample) is not None:
                if (reason := reason_unlike(sample)) is not None:
                    raise CaseFailure(Status.INVALID, reason)
                outcome.samples.append(sample)
                windows.append(window.facts)
                on_sample(sample)
                latencies += [sample.e2e_latency_s] if sample.e2e_latency_s else []
                if len(windows) >= policy.min_repeats and half_width(latencies) <= policy.target_half_width:
                    break
            else:
                invalid.append(window)
                if not window.remedies or len(invalid) >= MAX_INVALID:
                    break
                harder = mend(effort, window.remedies)
                expected *= harder.stretch / effort.stretch
                effort = harder
            effort = replace(effort, warm_up=0)
            if policy.time_limit_s is not None and time.perf_counter() - began + expected > policy.time_limit_s:
                break
    finally:
        held: dict[str, list[Json]] = {
            "windows": list(windows),
            "invalid_windows": [dict(window.facts) for window in invalid],
        }
        outcome.extra |= {name: value for name, value in held.items() if value}
        if costs:
            outcome.extra["costs"] = {name: round(seconds, 4) for name, seconds in costs.items()}
    if not windows:
        last = invalid[-1]
        outcome.status = Status.INVALID
        outcome.error = "; ".join(last.reasons) or "the load was never steady"
        outcome.samples += [last.sample] if last.sample is not None else []
    elif policy.is_judged and half_width(latencies) > policy.target_half_width:
        outcome.flags.append("imprecise")


def mend(effort: Effort, remedies: Sequence[Remedy]) -> Effort:
    """The effort that may make up for what was wrong: more client processes, or twice as long."""
    if Remedy.MORE_WORKERS in remedies:
        effort = replace(effort, n_workers=min(2 * effort.n_workers, max(usable_cpus(), 2)))
    if Remedy.LONGER in remedies:
        effort = replace(effort, stretch=2 * effort.stretch)
    return effort
