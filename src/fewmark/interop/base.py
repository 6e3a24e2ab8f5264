"""What a format is: one file that knows one kind of result file, and reads it into the canonical table."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd

from fewmark.core import FormatError

HEAD_BYTES = 65_536


@runtime_checkable
class Format(Protocol):
    """One kind of result file. Third parties add theirs by the entry-point group ``fewmark.formats``."""

    name: str
    description: str

    def sniff(self, path: Path, head: bytes) -> float:
        """How surely the file is of this format: 0 (no) to 1, from its name and its first bytes. Raises nothing."""

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table of the file, made by `fewmark.interop.table.frame.build_frame`.

        Raises
        ------
        FormatError
            If the file is not of this format; the message names the data row and the column.
        """


class NotAResultError(FormatError):
    """A file that a tool leaves beside its results and that holds none: a warm-up, settings, a trace."""


class UnknownFormatError(FormatError):
    """A file of no format that is known, or an empty one."""
