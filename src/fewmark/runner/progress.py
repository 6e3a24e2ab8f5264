"""What a person sees of a run while it lasts, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from fewmark.core import Case, Measurement, Status
from fewmark.core.text import printable

CASE_COLUMN: Final = Column(ratio=1, no_wrap=True, overflow="ellipsis")
BAR_WIDTH: Final = 10
STEP_SHARE: Final = 16  # a decoding step costs as much as this many sequences in it: it reads the weights once
PREFILL_SHARE: Final = 1 / 16  # what a token that is read costs of one that is written


def work_of(case: Case) -> float:
    """How long a case takes against others of its deployment, roughly, in units without a meaning.

    Each output token is a step that costs something once and something for each sequence; input is read in bulk. The
    shares are of the order that accelerators and CPUs show; only ratios count, and the time of what is done sets them.
    """
    load, work = case.workload.load, case.workload
    return work.output_tokens * (STEP_SHARE + load) + PREFILL_SHARE * work.input_tokens * load


def seconds_left(elapsed_s: float, done: float, total: float) -> float | None:
    """How long the rest takes at the pace so far; None before anything is done."""
    return elapsed_s * (total - done) / done if done > 0 else None


class RunProgress:
    """A bar with the work done, the time left and the case at hand; nothing where nobody looks.

    Parameters
    ----------
    cases : iterable of Case
        What will be measured.
    quiet : bool
        Show nothing, as where standard error is no terminal.
    """

    def __init__(self, cases: Iterable[Case], *, quiet: bool = False) -> None:
        self._work = {case.case_id: work_of(case) for case in cases}
        self._total, self._done, self._n_done = sum(self._work.values()), 0.0, 0
        self._progress = Progress(
            # on a narrow terminal the case is cut, never the count and the time left
            TextColumn("{task.description}", markup=False, table_column=CASE_COLUMN),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[left]}"),
            console=Console(file=getattr(sys.stderr, "raw_stream", sys.stderr)),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task(
            "starting the engine", total=self._total, failed="", left="?", count=f"0/{len(self._work)}"
        )
        self._began = time.monotonic()
        self._failed = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, case: Case) -> None:
        """A case is about to be measured."""
        work = case.workload
        shape = f"{work.input_tokens:g} in, {work.output_tokens:g} out, {work.load_label}"
        self._progress.update(self._task, description=printable(f"{case.deployment.label}: {shape}"))

    def waiting(self, n_cases: int) -> None:
        """Nothing is left to do but what other runs are measuring."""
        if n_cases:
            self._progress.update(self._task, description=f"waiting for {n_cases} cases that other runs measure")

    def saved(self, measurement: Measurement) -> None:
        """A measurement is in the store."""
        self._failed += measurement.status is not Status.OK
        self._n_done += 1
        self._done += self._work.get(measurement.case.case_id, 0.0)
        left = seconds_left(time.monotonic() - self._began, self._done, self._total)
        self._progress.update(
            self._task,
            completed=self._done,
            failed=f"{self._failed} failed" if self._failed else "",
            count=f"{self._n_done}/{len(self._work)}",
            left="?" if left is None else str(timedelta(seconds=round(left))),
        )
