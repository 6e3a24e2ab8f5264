"""`fewmark doctor`: what would make a benchmark lie on a machine, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewmark.core import EngineError
from fewmark.core.json_types import Json
from fewmark.engines.doctor import BAD, Finding, examine, noise
from fewmark.runner import Launch
from fewmark.runner.worker.process import WorkerGoneError, WorkerProcess

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, repr=False)
class Examination:
    """What was found. `noise` holds the probe's numbers: `scatter`, `lost_fraction`, `steal_s`, `rounds`."""

    findings: tuple[Finding, ...]
    noise: dict[str, Json]

    def __repr__(self) -> str:
        advised = {found.name: f" → {found.advice}" if found.advice else "" for found in self.findings}
        lines = (f"  {found.verdict:<8}{found.name}: {found.seen}{advised[found.name]}" for found in self.findings)
        return "\n".join((f"Examination: {'ok' if self.ok else 'not ok'}", *lines))

    @property
    def ok(self) -> bool:
        """Whether nothing is bad; what merely deserves a warning is ok."""
        return all(finding.verdict != BAD for finding in self.findings)

    def to_dict(self) -> dict[str, Json]:
        """JSON values."""
        return {"ok": self.ok, "findings": [found.to_dict() for found in self.findings], "noise": self.noise}


def doctor(*, engine_python: str | None = None, worker_prefix: Sequence[str] = ()) -> Examination:
    """Examine this machine, or the one behind a command, as a worker there sees it.

    Takes about two seconds.

    Parameters
    ----------
    engine_python : str, optional
        The interpreter that a worker would run in.
    worker_prefix : sequence of str
        The command that a worker would be started behind (ssh, docker run -i…).

    Returns
    -------
    Examination
        The findings: what was looked at, a verdict, and what to do.

    Raises
    ------
    EngineError
        If no worker can be started there.

    Examples
    --------
    >>> import fewmark
    >>> found = fewmark.doctor()
    >>> {finding.verdict for finding in found.findings} <= {"ok", "warn", "bad", "unknown"}
    True
    """
    if engine_python is None and not worker_prefix:
        finding, numbers = noise()
        return Examination((*examine(), finding), numbers)
    launch = Launch(engine_python, tuple(worker_prefix))
    try:
        worker = WorkerProcess(launch, start_timeout_s=START_TIMEOUT_S)
        try:
            found, numbers = worker.examine(START_TIMEOUT_S)
        finally:
            worker.kill()
    except WorkerGoneError as gone:
        command = " ".join(launch.command()[:-1])
        hint = "run the command by hand; it must start a Python and pass its standard streams on"
        raise EngineError("no worker answers behind the command", got=f"{command}: {gone.reason}", hint=hint) from None
    return Examination(tuple(Finding.from_dict(item) for item in found), numbers)
