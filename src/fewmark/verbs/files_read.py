"""What an import reads of files, before anything of it is compared or stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, InputError, Measurement, Prediction
from fewmark.interop import is_complete, read_table, to_measurements
from fewmark.interop.base import NotAResultError, UnknownFormatError
from fewmark.interop.gather import Gathered, SourceFile
from fewmark.interop.mapping import TableMap, read_mapped
from fewmark.interop.results.foreign_predictions import predicted_rows, to_predictions
from fewmark.interop.results.records import ATTRIBUTE as RECORDS
from fewmark.interop.results.records import records_of
from fewmark.screening import Finding, screen
from fewmark.tables.spellings import NOTES, one_spelling
from fewmark.verbs.columnar_import import ColumnarRows
from fewmark.verbs.known_already import OtherValue
from fewmark.verbs.results import whole_measurements, with_values

MANY_FILES: Final = 16  # from which on, and from so many bytes, other processes help
MANY_BYTES: Final = 20 << 20
MAX_JOBS: Final = 8
BATCH: Final = 4  # files a turn: what each of them leaves is small, the files need not be
_SHOWN_FAILURES = 20


@dataclass
class FileRead:
    """What was read of a file: the table, and its measurements by position; `whole` where it held them itself.

    Of a large ordinary table the rows are `columnar` in place of measurements, until `one_by_one` is asked for.
    """

    shown: str
    modified_at: str
    frame: pd.DataFrame
    measurements: dict[int, Measurement]
    left_out: tuple[int, ...]
    whole: bool
    records: dict[int, str | None]
    predictions: tuple[Prediction, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    n_poorer: int = 0
    n_copies: int = 0
    other_values: list[OtherValue] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # what was taken for what
    superseded: dict[str, str] = field(default_factory=dict)  # measurement → why
    columnar: ColumnarRows | None = None

    def screen(self) -> None:
        """Look for faults in the table, and for names to be taken for others."""
        spelled = one_spelling(self.frame)
        self.names, self.findings = list(spelled.attrs.get(NOTES, [])), screen(spelled)

    def one_by_one(self) -> None:
        """Make single measurements of columnar rows."""
        if self.columnar is not None:
            self.measurements, self.columnar = self.columnar.measurements(), None

    def rows(self) -> Collection[int]:
        """The positions of the rows that are to be stored."""
        return self.measurements if self.columnar is None else set(self.columnar.positions)

    def id_of(self, position: int) -> str:
        """The id of a row's measurement."""
        return self.measurements[position].measurement_id if self.columnar is None else self.columnar.id_of(position)


def read_all(
    gathered: Gathered,
    how: tuple[str, TableMap | None],
    keep_going: bool,
    progress: Callable[[str], None],
) -> list[FileRead]:
    """Every file, or one error for all that cannot be read."""
    files: list[FileRead] = []
    broken: list[InputError] = []
    sources, passed_over = gathered.files, gathered.passed_over
    for source, found in zip(sources, _each_read(sources, how, progress), strict=True):
        if isinstance(found, FileRead):
            files.append(found)
            continue
        if not (source.found and isinstance(found, (NotAResultError, UnknownFormatError, _NoCellError))):
            broken.append(found)
            gathered.damaged.append(source.shown)
        passed_over[source.shown] = _reason(found, source)
    if broken and not (keep_going and files):
        if len(broken) == 1:
            raise broken[0]
        told = "\n".join(f"  {error.what}" for error in broken[:_SHOWN_FAILURES])
        more = f"\n  and {len(broken) - _SHOWN_FAILURES} more" if len(broken) > _SHOWN_FAILURES else ""
        raise InputError(
            f"{len(broken)} files cannot be read, and nothing was stored:\n{told}{more}",
            hint="mend or leave out these files, or import the rest with --keep-going",
        )
    if not files:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(passed_over.items())[:5])
        raise InputError("there is nothing to import", got=told or "no file", hint="name files with results")
    return files


def _each_read(
    sources: Sequence[SourceFile], how: tuple[str, TableMap | None], progress: Callable[[str], None]
) -> Iterator[FileRead | InputError]:
    """What was read of each file, or why it was not; on all processors where there is much to read."""
    n_bytes = sum(source.path.stat().st_size for source in sources)
    n_jobs = min(os.cpu_count() or 1, MAX_JOBS)
    several = n_jobs > 1 and len(sources) >= MANY_FILES and n_bytes >= MANY_BYTES
    if several:
        from joblib import Parallel, delayed

        found = Parallel(n_jobs, return_as="generator", batch_size=BATCH)(
            delayed(_read_or_error)(source, how) for source in sources
        )
    else:
        found = (_read_or_error(source, how) for source in sources)
    for number, source in enumerate(sources, start=1):
        progress(f"reading {source.shown}" + (f" ({number:,} of {len(sources):,})" if len(sources) > 1 else ""))
        yield next(found)


def _read_or_error(source: SourceFile, how: tuple[str, TableMap | None]) -> FileRead | InputError:
    try:
        file = _read(source, *how)
        file.screen()
    except InputError as error:
        return error
    file.frame.attrs.pop(RECORDS, None)  # they were made to text
    return file


class _NoCellError(InputError):
    """A file none of whose rows is a cell."""


def _reason(error: InputError, source: SourceFile) -> str:
    """Why a file was passed over; its name stands before it already."""
    what = error.what
    for name in (source.shown, Path(source.shown).name):
        what = what.removeprefix(f"{name}: ")
    return what if error.got is None else f"{what} ({error.got})"


def _read(source: SourceFile, name: str, table_map: TableMap | None) -> FileRead:
    path = source.path
    try:
        frame = read_table(path, name) if table_map is None else read_mapped(path, table_map)
        whole = whole_measurements(path, frame)
        frame = frame if whole is not None else with_values(path, frame)
    except FormatError as error:
        what = f"{source.shown}: {error.what.removeprefix(f'{path.name}: ')}"
        raise type(error)(what, got=error.got, hint=error.hint) from None
    complete = is_complete(frame)
    if not complete.any():
        raise _NoCellError(
            f"{source.shown}: no row says input_tokens, output_tokens, and batch_size, concurrency or request_rate",
            hint="such rows are not cells of a benchmark, and cannot be stored",
        )
    forecasts = predicted_rows(frame)
    kept = frame[complete & ~forecasts]
    # A format that holds whole measurements gives them with every sample; a table's rows become measurements.
    try:
        columnar = ColumnarRows.of(kept) if whole is None else None
        found = to_measurements(kept) if whole is None else whole
        measurements = {} if columnar is not None else dict(zip(kept.index.tolist(), found, strict=True))
        predictions = tuple(to_predictions(frame[complete & forecasts])) if forecasts.any() else ()
    except InputError as error:
        raise InputError(f"{source.shown}: {error.what}", got=error.got, hint=error.hint) from None
    records = dict(zip(frame.index.tolist(), records_of(path, frame) if whole is None else [], strict=False))
    left_out = tuple(int(label) + 1 for label in frame.index[~complete])
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return FileRead(
        *(source.shown, modified, frame, measurements, left_out, whole is not None, records, predictions),
        columnar=columnar,
    )
