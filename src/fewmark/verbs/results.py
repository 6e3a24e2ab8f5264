"""Result files as tables; what a worker cut short, where nobody could project it, is projected when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fewmark.core import FormatError, Measurement
from fewmark.interop import from_measurements, get_format, read_table, require_values
from fewmark.interop.results.foreign_predictions import refuse_predictions


def read_results(path: str | Path, name: str = "auto") -> pd.DataFrame:
    """A result file as the canonical table; parameters and errors are those of `fewmark.interop.read_table`.

    Rows without any value are marked as invalid; a file of nothing else is refused. Raises `InputError` too if rows are
    somebody's forecasts: nothing is to be learned from them as if measured.
    """
    frame = read_table(path, name)
    refuse_predictions(frame, Path(path).name)
    measurements = whole_measurements(path, frame)
    if measurements is None:
        return with_values(path, frame)
    from fewmark.runner.projection.truncation import awaits_projection, project_all  # loads SQL

    if not any(map(awaits_projection, measurements)):
        return frame
    return table_of(project_all(measurements), frame)


def with_values(path: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """See `fewmark.interop.require_values`; the error names the file."""
    try:
        return require_values(frame)
    except FormatError as error:
        raise FormatError(f"{Path(path).name}: {error.what}", got=error.got, hint=error.hint) from None


def whole_measurements(path: str | Path, frame: pd.DataFrame) -> list[Measurement] | None:
    """The measurements of a file that was read as `frame`, with every sample; None where its format is a table's."""
    reader = getattr(get_format(frame.attrs["format"]), "read_measurements", None)
    return None if reader is None else list(reader(Path(path)))


def table_of(measurements: list[Measurement], frame: pd.DataFrame) -> pd.DataFrame:
    """The table of these measurements in place of one that was read."""
    made = from_measurements(measurements)
    made.attrs.update(frame.attrs)
    return made
