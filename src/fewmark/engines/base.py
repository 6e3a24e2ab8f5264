"""What every engine can do, and how it says that a case cannot be measured.

An engine is a class with the methods of `Engine`; it need not inherit from anything here. It lives in a worker
process, is loaded once for a deployment, and then runs workload after workload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
