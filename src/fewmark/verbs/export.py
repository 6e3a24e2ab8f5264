"""`fewmark export`: the store as a canonical table."""

from __future__ import annotations

from pathlib import Path

from fewmark.core import InputError
from fewmark.interop import from_measurements, write_table
from fewmark.store import open_store


def export(out: str | Path, *, store: str | None = None, safe_csv: bool = False) -> int:
    """Write every measurement of the store as one row, as CSV or Parquet by the suffix; returns how many.

    `safe_csv` neutralises what a spreadsheet would execute.

    Raises
    ------
    InputError
        If the suffix is none of these, the store is empty, or the file cannot be written.
    StoreError
        If the store cannot be opened or read.
    """
    if Path(out).suffix not in (".csv", ".parquet"):
        raise InputError("a table is written as .csv or .parquet", got=str(out))
    with open_store(store, create=False) as opened:
        frame = from_measurements(opened.measurements(), opened.withdrawn())
        if frame.empty:
            raise InputError("the store has no measurements", got=opened.url, hint="fewmark run or fewmark import")
    write_table(frame, out, safe=safe_csv)
    return len(frame)
