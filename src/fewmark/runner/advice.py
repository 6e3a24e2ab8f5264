"""What the parent knows of a run (version, commit), and advice on what would make its numbers better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fewmark.core import Advice, Measurement, Status
from fewmark.core.frozen import thaw
from fewmark.core.json_types import JsonObject
from fewmark.core.values import RUN_PROVENANCES
from fewmark.engines.doctor import BAD, WARN, Finding, deployment_findings
from fewmark.engines.measuring import faults
from fewmark.engines.measuring.outliers import OUTLIER_FLAG, WARM_UP_FLAG

BUSY_FRACTION: Final = 0.25  # of the CPUs, kept busy by others, from which a machine counts as busy
MIN_FAULTY_SHARE: Final = 0.25  # of the cases, from which a fault of single cases is worth a word about the machine


def host_advice(deployment: JsonObject, host: JsonObject, engine: JsonObject) -> Iterable[Advice]:
    """What speaks against this machine, and against this deployment on it, as its worker found them."""
    told = host.get("doctor")
    told = told if isinstance(told, list) else []
    findings = [Finding.from_dict(found) for found in told if isinstance(found, Mapping)]
    for finding in (*findings, *deployment_findings(deployment, engine, host)):
        if finding.verdict in (WARN, BAD):
            yield Advice(finding.name, finding.seen, finding.advice)


def run_advice(measurements: Sequence[Measurement], *, once_each: bool = False) -> tuple[Advice, ...]:
    """What speaks against the machine and against the results of one run, each fault once.

    Parameters
    ----------
    once_each : bool
        Each case was meant to be run once: how precise a case is cannot be told from its own repeats.
    """
    seen: dict[str, Advice] = {}
    for measurement in measurements:
        if measurement.provenance in RUN_PROVENANCES and measurement.status is Status.OK:
            environment = thaw(measurement.environment)
            deployment = measurement.case.deployment.to_dict()
            for advice in host_advice(deployment, environment.get("host", {}), environment.get("engine", {})):
                seen.setdefault(advice.code, advice)  # a worker that was restarted says it again in other numbers
    results = (one for one in result_advice(measurements) if not (once_each and one.code == "imprecise"))
    return (*seen.values(), *results)


def result_advice(measurements: Iterable[Measurement]) -> Iterable[Advice]:
    """What speaks against the results of one run, generations cut short included."""
    live = [m for m in measurements if m.status is Status.OK and m.provenance in RUN_PROVENANCES]
    if not live:
        return
    imprecise = sum("imprecise" in m.flags for m in live)
    if imprecise > MIN_FAULTY_SHARE * len(live):
        yield Advice(
            "imprecise",
            f"{imprecise} of {len(live)} cases were not known to the target precision after the last repeat",
            "quiet the machine, pin fewer threads, or allow more repeats (--repeats-max)",
        )
    warming = sum(WARM_UP_FLAG in m.flags for m in live)
    if warming > MIN_FAULTY_SHARE * len(live):
        yield Advice(
            "warming-up",
            f"the first repeat alone was slow in {warming} of {len(live)} cases: the warm-up was too short",
            "warm up more often: settings: {warmup: 3} in the suite",
        )
    if stepped := sum(faults.FLAG in m.flags for m in live):
        yield Advice(
            "page-faults",
            f"in {stepped} of {len(live)} cases the kernel mapped memory in some repeats and not in others",
            "leave out engine_options: {allocator: system}, or repeat more often; fewmark show CASE lists page_faults",
        )
    scattered = sum(OUTLIER_FLAG in m.flags for m in live)
    if scattered > MIN_FAULTY_SHARE * len(live):
        yield Advice(
            "noisy-machine",
            f"single repeats lie apart in {scattered} of {len(live)} cases; they are marked, none is left out",
            "fewmark doctor shows what disturbs this machine; medians hold, latencies' tails do not",
        )
    busy = 0
    for measurement in live:
        host = measurement.environment.get("host")  # of imported results it may be a mere name
        cpus = (host.get("cpu_usable") if isinstance(host, Mapping) else None) or 1
        busy += (measurement.extra.get("other_cpus_busy") or 0) > BUSY_FRACTION * cpus
    if busy > MIN_FAULTY_SHARE * len(live):
        yield Advice(
            "busy-machine",
            f"other processes kept more than {BUSY_FRACTION:.0%} of the CPUs busy during {busy} of {len(live)} cases",
            "measure again when the machine is quiet",
        )
