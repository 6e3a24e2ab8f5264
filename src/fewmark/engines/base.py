"""What every engine can do, and how it says that a case cannot be measured.

An engine is a class with the methods of `Engine`; it need not inherit from anything here. It lives in a worker
process, is loaded once for a deployment, and then runs workload after workload.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.json_types import JsonObject


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an engine can run in this interpreter; if not, why, and how to get it."""

    available: bool
    version: str | None = None
    reason: str = ""
    install: str = ""


class CaseFailure(Exception):  # noqa: N818 (no error of fewmark's: it becomes a measurement)
    """Raised by an engine: this deployment or workload cannot be measured. It becomes a measurement, not an error.

    Parameters
    ----------
    status : Status
        Any but ``ok``.
    reason : str
        What stood in the way, for people.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Engine(Protocol):
    """One way to run a model. Constructed without arguments."""

    @classmethod
    def probe(cls) -> Availability:
        """Whether this engine can run in this interpreter, found out without importing anything heavy."""

    def load(self, deployment: Deployment) -> None:
        """Make the deployment ready to run. Raises `CaseFailure` where it cannot run on this machine."""

    def check(self, workload: Workload) -> None:
        """Raise `CaseFailure` (``unsupported``, ``out_of_memory``) for what cannot run, before time is spent on it."""

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """Run the workload once on prompts drawn from `seed`, and read the clock.

        Returns
        -------
        Sample
            With ``e2e_latency_s``, ``output_tokens`` (what was really produced by each sequence), and
            ``ttft_s`` and ``token_times_s`` where the engine can tell them. Seconds since the request was sent.

        Raises
        ------
        CaseFailure
            ``out_of_memory`` or ``invalid``. Any other exception counts as a crash.
        """

    def close(self) -> None:
        """Give everything back. Called once, also after a failed `load`."""

    def environment(self) -> JsonObject:
        """Facts about what was loaded: versions, device, threads, data type. JSON values."""


@runtime_checkable
class Recorded(Protocol):
    """An engine that answers from a record: no warm-up, no clock, no repeats beyond what is recorded."""

    def recorded(self, workload: Workload) -> tuple[Sample, ...]:
        """Every recorded repeat of the workload. Raises `CaseFailure` where there is none."""


@runtime_checkable
class Reusable(Protocol):
    """An engine that can turn from one deployment to another without loading again what both share."""

    def reload(self, deployment: Deployment) -> bool:
        """Be this deployment from now on. False, with nothing changed, where the process would have to be a new one.

        Raises `CaseFailure` where the deployment cannot run; the engine is of no use then.
        """


OWN: Final = "own_metrics"  # where they stand beside a measurement: of each metric, a value for each repeat


@runtime_checkable
class SelfMeasuring(Protocol):
    """An engine that has metrics of its own, which are kept beside what is measured from outside."""

    def own_metrics(self) -> Mapping[str, float]:
        """Of the last run, by the names of fewmark's metrics."""


def medians_of_known(told: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of what an engine says of each metric; one that is not positive says that it does not know."""
    known = {name: [value for value in values if value > 0] for name, values in told.items()}
    return {name: statistics.median(values) for name, values in known.items() if values}


class Remedy(StrEnum):
    """What another window should have, where one was not valid."""

    MORE_WORKERS = "more workers"
    LONGER = "longer"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True)
class Effort:
    """How a window of requests is measured.

    Parameters
    ----------
    n_requests : int or None
        Requests of a window; None: as many as the load needs to be steady.
    window_s : float or None
        In their place, seconds of a window.
    n_workers : int
        Client processes.
    stretch : float
        How many times as long as that.
    tiers : tuple of mapping of str to float
        Objectives, a limit in seconds for each metric of a request; goodput is of the first, and told of each.
    thresholds : mapping of str to float
        What makes a window invalid, where it is not as `fewmark.load.validity.Thresholds` has it.
    warm_up : int
        Rounds of short requests before the window.
    limit_s : float or None
        The most seconds that it may take.
    """

    n_requests: int | None = None
    window_s: float | None = None
    n_workers: int = 1
    stretch: float = 1.0
    tiers: tuple[Mapping[str, float], ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    warm_up: int = 0
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A window of requests and what its client says of it.

    Parameters
    ----------
    sample : Sample or None
        None where the load was never steady.
    is_valid : bool
        Whether its numbers may be believed.
    reasons : tuple of str
        Why not, or what to know.
    remedies : tuple of Remedy
        What may help; empty where nothing would, or nothing is wrong.
    facts : mapping
        Estimates with intervals, counts, the client's own use, the server's counters: JSON values.
    costs : mapping of str to float
        Seconds beside the window itself: ``warm_up_s``, ``cache_reset_s``, ``settle_s``.
    """

    sample: Sample | None
    is_valid: bool
    reasons: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    facts: JsonObject = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Windowed(Protocol):
    """An engine that measures closed and open loops by windows of many requests, and judges them."""

    def window(self, workload: Workload, effort: Effort, *, seed: int) -> Window:
        """Measure one window. Raises `CaseFailure` where no request can be answered."""
