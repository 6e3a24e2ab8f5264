"""Finds the largest load of a suite's deployments that meets objectives, by few probes on the running system."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fewmark.core import Case, Deployment, FewmarkError, InputError, Measurement, Status, Workload
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.metrics import PERCENTILE_METRICS
from fewmark.planning.frontier import FrontierSearch, FrontierTier, Probe, TierLimit
from fewmark.runner import Runner
from fewmark.runner.worker.warm import WarmWorker
from fewmark.store import open_store
from fewmark.suites import Suite
from fewmark.verbs.find_prior import Load, at_load, predicted_curves, probe_seconds, split
from fewmark.verbs.run import prepare

METRICS: Final = ("ttft_s", "tpot_s", "itl_s", "e2e_latency_s")
RANGES: Final[Mapping[Load, tuple[float, float, float]]] = {  # low, high and step
    "concurrency": (1.0, 512.0, 1.0),
    "request_rate": (0.25, 256.0, 0.25),
}
BOUND_LEVEL: Final = 0.95  # at which a percentile has an upper bound among the requests
MARGIN: Final = 1.5  # of requests, for those cut off while the load begins and ends
TURNS: Final = 8  # requests of each stream
OPEN_S: Final = 10.0


@dataclass(frozen=True)
class _Estimate:
    value: float | None
    low: float | None
    high: float | None
    confidence_level: float


@dataclass(frozen=True)
class Found:
    """What was found of one deployment at one pair of lengths.

    Parameters
    ----------
    deployment : Deployment
    workload : Workload
        Its load is that of the last probe.
    load : {"concurrency", "request_rate"}
    limits : tuple of TierLimit
        One for each tier of objectives; empty where no probe succeeded.
    probes : tuple of Probe
    measurements : tuple of Measurement
    reason : str or None
        Why the search ended before it was certain.
    """

    deployment: Deployment
    workload: Workload
    load: Load
    limits: tuple[TierLimit, ...]
    probes: tuple[Probe, ...]
    measurements: tuple[Measurement, ...]
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every limit is certain."""
        return bool(self.limits) and all(limit.is_certain for limit in self.limits)

    def to_dict(self) -> dict[str, Json]:
        """JSON values."""
        return {
            "deployment": self.deployment.to_dict(),
            "input_tokens": self.workload.input_tokens,
            "output_tokens": self.workload.output_tokens,
            "load": self.load,
            "limits": [
                {
                    "objectives": dict(limit.tier.limits), "limit": limit.limit, "low": limit.low, "high": limit.high,
                    "p_next_fails": limit.p_next_fails, "where": limit.where, "is_certain": limit.is_certain,
                }
                for limit in self.limits
            ],
            "probes": [{"load": p.load, "cost_s": p.cost_s, "failed": p.failed} for p in self.probes],
            "cases": [m.case.case_id for m in self.measurements],
            "reason": self.reason,
        }  # fmt: skip


def find(
    suite: str | Path | Suite,
    load: Load,
    slo: Sequence[Mapping[str, float]],
    *,
    low: float | None = None,
    high: float | None = None,
    tolerance: float = 0.05,
    confidence_level: float = 0.9,
    max_probes: int = 20,
    prior: bool = True,
    store: str | None = None,
    timeout_s: float | None = None,
    random_state: int = 0,
    quiet: bool = False,
    on_probe: Callable[[Found], None] = lambda found: None,
) -> tuple[Found, ...]:
    """The largest load at which each deployment of a suite meets objectives, found by few probes.

    Each probe is a case that is measured and stored like any other; what the store holds of the same deployment and
    lengths counts as probed already, and a model that is fitted to all else that it holds says where to begin. Where
    the next probe lies is decided by what it is expected to tell for the seconds that it takes.

    Parameters
    ----------
    suite : str, Path or Suite
        Its deployments and lengths; the loads that it names do not matter.
    load : {"concurrency", "request_rate"}
        Streams of a closed loop, or requests per second of an open one.
    slo : sequence of mapping of str to float
        Tiers of objectives, as in ``[{"ttft_p99_s": 0.5, "tpot_s": 0.05}]``: the most that each metric may be, in
        seconds. Tiers share the probes.
    low, high : float, optional
        The range of loads; by default 1 to 512 streams, or 0.25 to 256 requests per second.
    tolerance : float, default 0.05
        Relative error of the limit that is wanted.
    confidence_level : float, default 0.9
        The probability with which it is wanted; intervals of the limit hold as much.
    max_probes : int, default 20
        Of one deployment at one pair of lengths, besides what is known already.
    prior : bool, default True
        Whether a model of all other measurements says where to begin.
    store, timeout_s, quiet
        As of `run`.
    random_state : int
        Seed of the search.
    on_probe : callable
        Told of what is known after each probe.

    Returns
    -------
    tuple of Found
        One for each deployment and pair of lengths.

    Raises
    ------
    InputError, SuiteError, StoreError
        If the request is wrong.

    Examples
    --------
    >>> import fewmark
    >>> fewmark.find("served-tiny", "concurrency", [{"ttft_p90_s": 0.5}])  # doctest: +SKIP
    """
    tiers = [FrontierTier(f"tier {n}", _checked(limits)) for n, limits in enumerate(slo, 1)]
    if not tiers:
        raise InputError("a search needs objectives", got="none", hint="--slo ttft_p99_s=0.5")
    if load not in RANGES:
        raise InputError("a load to be found is a concurrency or a request_rate", got=load)
    chosen, settings = prepare(suite, timeout_s=timeout_s)
    least, most, step = RANGES[load]
    with open_store(store) as opened, contextlib.closing(WarmWorker()) as worker:
        settings = replace(settings, warm_worker=worker, drift_check=False)

        def measure(case: Case) -> Measurement:
            held = opened.measurements(case_ids=[case.case_id], statuses=[Status.OK], withdrawn=False)
            for earlier in held:
                if _windows(earlier):
                    return earlier
            asked = replace(settings.policy, n_requests=_n_requests(tiers, case.workload, settings.policy.n_requests))
            runner = Runner(opened, replace(settings, policy=asked), quiet)
            report = runner.run([case], retry_failed=True, again=True)
            if not report.measurements:
                waiting = "; ".join(reason for _, reason, _ in report.unavailable)
                raise InputError("the probe could not be measured", got=waiting or "nothing came of it")
            return report.measurements[-1]

        def one(deployment: Deployment, workload: Workload) -> Found:
            own, others = split(
                list(opened.measurements(statuses=[Status.OK], withdrawn=False)), deployment, workload, load
            )
            ends = (least if low is None else low, most if high is None else high)
            metrics = list(dict.fromkeys(metric for tier in tiers for metric in tier.limits))
            curves = (
                predicted_curves(others, deployment, workload, load, metrics, *ends, random_state) if prior else None
            )
            search = FrontierSearch(
                tiers, *ends, "closed" if load == "concurrency" else "open", step, tolerance, confidence_level,
                max_probes, prior=curves, random_state=random_state,
            )  # fmt: skip

            def n_requests(at: float) -> int:
                return _n_requests(tiers, at_load(workload, load, at), settings.policy.n_requests)

            search.cost_s = probe_seconds(load, n_requests, lambda: _latencies(search.probes))
            return _search(search, deployment, workload, load, own, measure, on_probe)

        return tuple(one(deployment, workload) for deployment, workload in _places(chosen))


def _search(
    search: FrontierSearch,
    deployment: Deployment,
    workload: Workload,
    load: Load,
    own: Sequence[Measurement],
    measure: Callable[[Case], Measurement],
    on_probe: Callable[[Found], None],
) -> Found:
    found = Found(deployment, workload, load, (), (), ())
    for earlier in own:  # what does not tell of every metric is measured again where it is asked for
        with contextlib.suppress(FewmarkError):
            search.tell(replace(_probe(float(getattr(earlier.case.workload, load)), earlier), cost_s=0.0))
            workload = earlier.case.workload
            found = replace(
                found, workload=workload, limits=tuple(search.limits()), probes=tuple(search.probes),
                measurements=(*found.measurements, earlier),
            )  # fmt: skip
    search.max_probes += len(found.probes)
    while (asked := search.ask()) is not None:
        workload = at_load(workload, load, asked)
        measurement = measure(Case(deployment, workload))
        came = (*found.measurements, measurement)
        try:
            search.tell(_probe(asked, measurement))
        except FewmarkError as error:
            return replace(found, measurements=came, reason=f"at {asked:g}: {error}")
        found = replace(
            found, workload=workload, limits=tuple(search.limits()), probes=tuple(search.probes), measurements=came
        )
        on_probe(found)
    return found if found.ok else replace(found, reason=_uncertain(search))


def _uncertain(search: FrontierSearch) -> str:
    after = f"not certain after {len(search.probes)} probes"
    if not search.is_hopeless:
        return after
    return f"{after}, and not to become so: what is measured is too noisy; longer windows (n_requests) tell more"


def _probe(load: float, measurement: Measurement) -> Probe:
    """A measurement as a probe. Raises `InputError` where it says nothing of the server."""
    cost_s = measurement.cost.wall_s or 0.0
    windows = _windows(measurement)
    if measurement.status is Status.OK and windows:
        last = windows[-1]
        level, estimates = last.get("confidence_level"), last.get("estimates")
        assert isinstance(estimates, Mapping)
        readings = {str(name): _estimate(told, level) for name, told in estimates.items()}
        return Probe(load, readings, cost_s)
    if measurement.status is Status.INVALID:
        invalid = measurement.extra.get("invalid_windows") or ()
        if any(window.get("oversaturated") for window in invalid):
            return Probe(load, {}, cost_s, failed=True)
        raise InputError("no valid window of requests", got=measurement.error)
    if measurement.status is Status.OK:
        raise InputError("no window of requests was measured", got="an engine that measures single runs")
    if measurement.status is Status.UNSUPPORTED:
        raise InputError("the probe is not supported", got=measurement.error)
    return Probe(load, {}, cost_s, failed=True)


def _latencies(probes: Sequence[Probe]) -> dict[float, float]:
    """End-to-end latency (s) by load, where a probe tells it."""
    told = ((probe.load, probe.readings.get("e2e_latency_s")) for probe in probes)
    return {load: reading.value for load, reading in told if reading is not None and reading.value}


def _windows(measurement: Measurement) -> list[JsonObject]:
    found = measurement.extra.get("windows") or ()
    return [window for window in found if isinstance(window.get("estimates"), Mapping)]


def _estimate(told: Json, level: Json) -> _Estimate:
    known = told if isinstance(told, Mapping) else {}
    value, low, high = (_number(known.get(name)) for name in ("value", "low", "high"))
    return _Estimate(value, low, high, _number(level) or 0.9)


def _number(told: Json) -> float | None:
    return float(told) if isinstance(told, (int, float)) else None


def _n_requests(tiers: Sequence[FrontierTier], workload: Workload, asked: int | None) -> int:
    """Requests of a window: enough for bounds of the percentiles that have limits, and for a steady load."""
    wanted = float(asked or 0)
    for percentile in {p for tier in tiers for metric in tier.limits if (p := _percentile(metric)) is not None}:
        wanted = max(wanted, MARGIN * math.log(1 - BOUND_LEVEL) / math.log(percentile / 100))
    steady = 50 + TURNS * workload.concurrency if workload.concurrency else 60 + OPEN_S * (workload.request_rate or 0)
    return math.ceil(max(wanted, steady))


def _percentile(metric: str) -> int | None:
    found = re.search(r"_p(\d\d)_s$", metric)
    return int(found[1]) if found else None


def _places(suite: Suite) -> Iterator[tuple[Deployment, Workload]]:
    """Each deployment with each pair of lengths and options, once."""
    seen: set[tuple[Deployment, Workload]] = set()
    for case in suite.cases:
        place = (case.deployment, replace(case.workload, batch_size=1, concurrency=None, request_rate=None))
        if place not in seen:
            seen.add(place)
            yield place


def _checked(limits: Mapping[str, float]) -> dict[str, float]:
    known = {*METRICS, *PERCENTILE_METRICS}
    for name, value in limits.items():
        if name not in known:
            raise InputError("an objective of a load is a latency", got=name, hint=", ".join(sorted(known)))
        if not (math.isfinite(value) and value > 0):
            raise InputError("an objective is a number of seconds above 0", got=f"{name}={value}")
    return dict(limits)
