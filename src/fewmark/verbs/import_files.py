"""`fewmark import`: result files of any known format into the store, screened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fewmark.core import FrozenMap, InputError, Measurement
from fewmark.interop import get_format, is_complete, read_table, to_measurements
from fewmark.screening import Finding, screen
from fewmark.store import Annotation, open_store


@dataclass(frozen=True)
class Imported:
    """What became of one file: its rows, how many were new to the store, and what the screen found.

    `left_out` are the 1-based data rows that are no cell, for want of tokens or of a batch size or concurrency.
    """

    path: Path
    format: str
    n_rows: int
    n_added: int
    findings: tuple[Finding, ...] = ()
    left_out: tuple[int, ...] = field(default=())


def import_files(
    paths: Sequence[str | Path],
    *,
    format: str = "auto",  # noqa: A002  the option's own word
    store: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Imported]:
    """Read files, screen them, and add their rows to the store with what the screen found as marks.

    All files are read and checked before anything is stored. Importing a file again adds nothing.

    Raises
    ------
    InputError, FormatError
        If a file is missing or malformed, or has no row that is a cell; nothing is stored then.
    StoreError
        If the store cannot be opened or written.
    """
    prepared = []
    for path in paths:
        progress(f"reading {path}")
        prepared.append(_prepare(Path(path), format))
    out = []
    with open_store(store) as opened:
        for path, frame, findings, measurements, left_out in prepared:
            progress(f"storing {path}")
            added = opened.add(measurements.values())
            opened.annotate(mark(measurements[f.row - 1], f) for f in findings if f.row - 1 in measurements)
            out.append(Imported(path, frame.attrs["format"], len(frame), added, tuple(findings), left_out))
    return out


def mark(measurement: Measurement, finding: Finding) -> Annotation:
    """The mark that keeps a finding on its measurement in the store."""
    return Annotation(
        measurement.measurement_id, finding.rule, finding.action, finding.reason, FrozenMap(finding.changes)
    )


def _prepare(
    path: Path, name: str
) -> tuple[Path, pd.DataFrame, list[Finding], dict[int, Measurement], tuple[int, ...]]:
    frame = read_table(path, name)
    complete = is_complete(frame)
    if not complete.any():
        raise InputError(
            f"{path.name}: no row says input_tokens, output_tokens and batch_size or concurrency",
            hint="such rows are no cells of a benchmark, and cannot be stored",
        )
    kept = frame[complete]
    # A format that holds whole measurements gives them with every sample; a table's rows become measurements.
    whole = getattr(get_format(frame.attrs["format"]), "read_measurements", None)
    found = to_measurements(kept) if whole is None else whole(path)
    measurements = dict(zip(kept.index.tolist(), found, strict=True))
    left_out = tuple(int(label) + 1 for label in frame.index[~complete])
    return path, frame, screen(frame), measurements, left_out
