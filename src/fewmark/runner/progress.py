"""What a person sees of a run while it lasts, on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fewmark.core import Case, Measurement, Status


class RunProgress:
    """A bar with the cases done, the time left and the case at hand; nothing where nobody looks.

    Parameters
    ----------
    total : int
        Cases to measure. They come in random order, so that the mean time of those done forecasts the rest.
    quiet : bool
        Show nothing, as where standard error is no terminal.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=sys.stderr),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._progress.add_task("starting the engine", total=total, failed="")
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
        load = f"batch {work.batch_size}" if work.batch_size is not None else f"{work.concurrency} users"
        shape = f"{work.input_tokens:g} in, {work.output_tokens:g} out, {load}"
        self._progress.update(self._task, description=f"{case.deployment.label}: {shape}")

    def saved(self, measurement: Measurement) -> None:
        """A measurement is in the store."""
        self._failed += measurement.status is not Status.OK
        failed = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=1, failed=failed)
