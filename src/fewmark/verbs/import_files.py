"""`fewmark import`: result files of any known format into the store, screened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fewmark.core import FrozenMap, InputError, Measurement, Prediction, Status
from fewmark.interop import Understanding, is_complete, read_table, to_measurements
from fewmark.interop.foreign_predictions import predicted_rows, to_predictions
from fewmark.runner.projection.projector import RULES
from fewmark.runner.projection.truncation import awaits_projection, project_all
from fewmark.screening import Finding, screen
from fewmark.store import Annotation, Store, open_store
from fewmark.verbs.results import table_of, whole_measurements, with_values


@dataclass(frozen=True)
class Imported:
    """What became of one file: its rows, how many were new to the store, and what the screen found.

    `left_out` are the 1-based data rows that are no cell, for want of tokens or of a load. `n_predictions` counts the
    forecasts of a simulator that were new among the store's predictions. `notes` say what was decided from the values,
    and `unknown_columns` which columns were not understood, each with near names.
    """

    path: Path
    format: str
    n_rows: int
    n_added: int
    findings: tuple[Finding, ...] = ()
    left_out: tuple[int, ...] = field(default=())
    n_predictions: int = 0
    notes: tuple[str, ...] = ()
    unknown_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


def import_files(
    paths: Sequence[str | Path],
    *,
    format: str = "auto",  # noqa: A002  the option's own word
    store: str | None = None,
    rule: str = "growth",
    progress: Callable[[str], None] = lambda text: None,
) -> list[Imported]:
    """Read files, screen them, and add their rows to the store with what the screen found as marks.

    Rows that are a simulator's forecasts become predictions, one a metric, which the ledger scores by what is measured.
    All files are read and checked before anything is stored. Importing a file again adds nothing. What a worker cut
    short is projected by `rule`, all that the files and the store hold of its deployment learned first; a run that the
    store holds a projection of already keeps that.

    Raises
    ------
    InputError, FormatError
        If a file is missing or malformed, or has no row that is a cell; nothing is stored then.
    StoreError
        If the store cannot be opened or written.
    """
    if rule not in RULES:
        raise InputError("no such rule of projection", got=rule, hint=f"one of {', '.join(RULES)}")
    files = []
    for path in paths:
        progress(f"reading {path}")
        files.append(_read(Path(path), format))
    out = []
    with open_store(store) as opened:
        for file in _projected(files, opened, rule):
            progress(f"storing {file.path}")
            findings = [f for f in screen(file.frame) if f.row - 1 in file.measurements or not file.predictions]
            n_predictions = opened.add_predictions(file.predictions) if file.predictions else 0
            added = opened.add(file.measurements.values())
            marks = (mark(file.measurements[f.row - 1], f) for f in findings if f.row - 1 in file.measurements)
            opened.annotate(marks)
            name, n_rows = file.frame.attrs["format"], len(file.frame)
            told = file.frame.attrs.get("understanding", Understanding())
            out.append(
                Imported(
                    *(file.path, name, n_rows, added, tuple(findings), file.left_out, n_predictions),
                    notes=tuple(told.notes),
                    unknown_columns=told.unknown,
                )
            )
    return out


def mark(measurement: Measurement, finding: Finding) -> Annotation:
    """The mark that keeps a finding on its measurement in the store."""
    return Annotation(
        measurement.measurement_id, finding.rule, finding.action, finding.reason, FrozenMap(finding.changes)
    )


@dataclass
class _File:
    """What was read of a file: the table, and its measurements by position; `whole` where it held them itself."""

    path: Path
    frame: pd.DataFrame
    measurements: dict[int, Measurement]
    left_out: tuple[int, ...]
    whole: bool
    predictions: tuple[Prediction, ...] = ()


def _read(path: Path, name: str) -> _File:
    frame = read_table(path, name)
    whole = whole_measurements(path, frame)
    frame = frame if whole is not None else with_values(path, frame)
    complete = is_complete(frame)
    if not complete.any():
        raise InputError(
            f"{path.name}: no row says input_tokens, output_tokens and batch_size or concurrency",
            hint="such rows are no cells of a benchmark, and cannot be stored",
        )
    forecasts = predicted_rows(frame)
    kept = frame[complete & ~forecasts]
    # A format that holds whole measurements gives them with every sample; a table's rows become measurements.
    found = to_measurements(kept) if whole is None else whole
    measurements = dict(zip(kept.index.tolist(), found, strict=True))
    left_out = tuple(int(label) + 1 for label in frame.index[~complete])
    predictions = tuple(to_predictions(frame[complete & forecasts])) if forecasts.any() else ()
    return _File(path, frame, measurements, left_out, whole is not None, predictions)


def _projected(files: list[_File], store: Store, rule: str) -> list[_File]:
    """The files with what awaits a projection projected; files are no bounds to what is learned from."""
    read = [(file, position) for file in files if file.whole for position in file.measurements]
    measurements = [file.measurements[position] for file, position in read]
    waiting = [m for m in measurements if awaits_projection(m)]
    if not waiting:
        return files
    known: list[Measurement] = []
    for deployment in dict.fromkeys(m.case.deployment for m in waiting):
        known += store.measurements(deployment, statuses=[Status.OK])
    held = {_run_of(m): m for m in reversed(known) if m.projection is not None}
    settled = [held.get(_run_of(m), m) if awaits_projection(m) else m for m in measurements]
    for (file, position), measurement in zip(read, project_all(settled, rule, known), strict=True):
        file.measurements[position] = measurement
    for file in files:
        if file.whole:
            file.frame = table_of(list(file.measurements.values()), file.frame)
    return files


def _run_of(measurement: Measurement) -> tuple[object, ...]:
    """What tells one run of a case from all others."""
    return measurement.case.case_id, measurement.measured_at, measurement.samples
