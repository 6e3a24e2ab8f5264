"""What an import reads of files, before anything of it is compared or stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fewmark.core import FormatError, InputError, Measurement, Prediction
from fewmark.interop import is_complete, read_table, to_measurements
from fewmark.interop.base import NotAResultError, UnknownFormatError
from fewmark.interop.foreign_predictions import predicted_rows, to_predictions
from fewmark.interop.gather import SourceFile
from fewmark.interop.mapping import TableMap, read_mapped
from fewmark.interop.records import records_of
from fewmark.screening import Finding
from fewmark.verbs.columnar_import import ColumnarRows
from fewmark.verbs.known_already import OtherValue
from fewmark.verbs.results import whole_measurements, with_values

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
    sources: list[SourceFile],
    passed_over: dict[str, str],
    how: tuple[str, TableMap | None],
    keep_going: bool,
    progress: Callable[[str], None],
) -> list[FileRead]:
    """Every file, or one error for all that cannot be read."""
    files: list[FileRead] = []
    broken: list[InputError] = []
    for source in sources:
        progress(f"reading {source.shown}")
        try:
            files.append(_read(source, *how))
        except (NotAResultError, UnknownFormatError, _NoCellError) as error:
            if not source.found:
                broken.append(error)
            passed_over[source.shown] = _reason(error, source)
        except InputError as error:
            broken.append(error)
            passed_over[source.shown] = _reason(error, source)
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
