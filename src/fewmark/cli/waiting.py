"""What a person sees while a verb calculates: its stage and the time, on standard error, from one second on."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

import click

AFTER_S: Final = 1.0  # what is done sooner is not worth a line


@contextlib.contextmanager
def waiting(*, lines: bool = False) -> Iterator[Callable[[str], None]]:
    """Gives the function that is told each stage. On a terminal it shows the latest in one line, which goes in the end.

    Parameters
    ----------
    lines : bool
        Where nobody looks at a terminal, write each stage as a line.
    """
    if not sys.stderr.isatty():
        yield (lambda text: click.echo(f"{text} …", err=True)) if lines else (lambda text: None)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    from fewmark.core.text import printable

    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        TimeElapsedColumn(),
        console=Console(file=getattr(sys.stderr, "raw_stream", sys.stderr)),
        transient=True,
    )
    task = shown.add_task("starting", total=None)
    timer = threading.Timer(AFTER_S, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda text: shown.update(task, description=printable(text))
    finally:
        timer.cancel()
        timer.join()
        shown.stop()
