"""Goodput: the requests that met all objectives of a tier, as a share and as a rate.

A request that failed met none. An objective on the time per output token says nothing of a request of one token, which
meets it. Where a metric is not known otherwise (no stream, no usage), the tier cannot be judged and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fewmark.core.errors import InputError
from fewmark.load.estimates import DEFAULT_LEVEL, N_BATCHES, Estimate, ratio_estimate, share_estimate
from fewmark.load.records import FINISHED, RequestRecord
from fewmark.load.request_metrics import REQUEST_METRICS, output_tokens
from fewmark.load.steady_state import SteadyWindow, ended_at, requests_by_part

_OF_GAPS: Final = frozenset({"tpot_s"})


@dataclass(frozen=True, slots=True)
class Tier:
    """Objectives that belong together: a limit in seconds for each of some metrics of a request."""

    name: str
    limits: Mapping[str, float]

    def __post_init__(self) -> None:
        unknown = [metric for metric in self.limits if metric not in REQUEST_METRICS]
        if unknown or not self.limits:
            raise InputError(
                "an objective limits a metric of a request",
                got=unknown or None,
                hint=f"of {', '.join(REQUEST_METRICS)}",
            )
        if not all(math.isfinite(limit) and limit > 0 for limit in self.limits.values()):
            raise InputError("an objective's limit is a time above 0 s", got=dict(self.limits))


@dataclass(frozen=True, slots=True)
class Attainment:
    """How a tier was met.

    Parameters
    ----------
    tier : Tier
    share : Estimate
        Of all requests that ended in the window, with Wilson's interval.
    goodput_req_s : Estimate
        Requests per second that met it.
    """

    tier: Tier
    share: Estimate
    goodput_req_s: Estimate


def attainment(
    records: Sequence[RequestRecord], tier: Tier, window: SteadyWindow, level: float = DEFAULT_LEVEL
) -> Attainment:
    """How a tier was met by the requests of a run that ended in a window."""
    ended = sorted((r for r in records if window.holds(ended_at(r))), key=lambda r: ended_at(r) or 0.0)
    judged = [meets(record, tier) for record in ended]
    unknown = judged.count(None)
    if unknown:
        note = f"{unknown} of {len(ended)} requests lack a metric of the objectives"
        nothing = Estimate(None, confidence_level=level, n=len(ended), note=note)
        return Attainment(tier, nothing, nothing)
    good = [record for record in records if meets(record, tier)]
    widths = [window.duration_s / N_BATCHES] * N_BATCHES
    rate = ratio_estimate(requests_by_part(good, window.edges(N_BATCHES)), widths, level)
    return Attainment(tier, share_estimate([bool(met) for met in judged], level), rate)


def meets(record: RequestRecord, tier: Tier) -> bool | None:
    """Whether a request met a tier; None where it cannot be told."""
    if record.status not in FINISHED:
        return False
    verdict: bool | None = True
    for metric, limit in tier.limits.items():
        value = REQUEST_METRICS[metric](record)
        if value is None:
            if metric not in _OF_GAPS or output_tokens(record) != 1:
                verdict = None
        elif value > limit:
            return False
    return verdict
