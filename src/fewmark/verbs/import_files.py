"""`fewmark import`: result files of any known format into the store, screened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FrozenMap, InputError, Measurement, Status
from fewmark.core.columns import REPLACED
from fewmark.facts.identity import NAMED
from fewmark.interop import Understanding
from fewmark.interop.gather import gather
from fewmark.interop.mapping import TableMap
from fewmark.screening import Finding, copies
from fewmark.store import Annotation, Origin, Store, open_store
from fewmark.store.queries import now
from fewmark.tables.same_cases import SameCases
from fewmark.tables.spellings import NOTES, one_spelling, spelled_as
from fewmark.verbs.columnar_import import uncollected
from fewmark.verbs.files_read import FileRead, read_all
from fewmark.verbs.known_already import Known, OtherValue, content_of, poorer_records
from fewmark.verbs.results import table_of

DEFAULT_RULE: Final = "growth"


@dataclass(frozen=True)
class Imported:
    """What became of one file: its rows, how many were new to the store, and what the screen found.

    `left_out` are the 1-based data rows that are no cell, for want of tokens or of a load. `n_predictions` counts the
    forecasts of a simulator that were new among the store's predictions. `notes` say what was decided from the values,
    and `unknown_columns` which columns were not understood, each with near names.

    `n_poorer` rows tell a run that another record tells in more detail, and `n_copies` say what another file of the
    same import says; neither were stored. `other_values` are cases that were imported before with another value;
    `n_superseded` counts earlier rows that are believed no more.
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
    n_poorer: int = 0
    n_copies: int = 0
    other_values: tuple[OtherValue, ...] = ()
    n_superseded: int = 0


class ImportedFiles(list[Imported]):
    """What became of each file that was read; `passed_over` maps the others, found in folders and archives, to why.

    `damaged` are those among them that are no other kind of file, but results that cannot be read.
    """

    def __init__(
        self,
        files: Iterable[Imported] = (),
        passed_over: Mapping[str, str] | None = None,
        damaged: Iterable[str] = (),
    ) -> None:
        super().__init__(files)
        self.passed_over = dict(passed_over or {})
        self.damaged = tuple(damaged)


def import_files(
    paths: Sequence[str | Path],
    *,
    format: str = "auto",  # noqa: A002  the option's own word
    store: str | None = None,
    rule: str = DEFAULT_RULE,
    supersede: bool = False,
    keep_going: bool = False,
    table_map: TableMap | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> ImportedFiles:
    """Read files, screen them, and add their rows to the store with what the screen found as marks.

    All files are read and checked before anything is stored. Nothing is stored twice: neither the same row again, from
    whichever file, nor a run that left both a summary and its single requests. What a worker cut short is projected by
    `rule`, all that the files and the store hold of its deployment learned first; a run that the store holds a
    projection of already keeps that.

    Parameters
    ----------
    paths : sequence of str or Path
        Files, folders, tar or zip archives, or globs. Files of no known format are passed over where a folder or an
        archive was named.
    format : str, default "auto"
        A format's name, or "auto" to detect it.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    rule : str, default "growth"
        How generations that were cut short are projected.
    supersede : bool, default False
        Whether what was imported before of the same cases, with other values, is believed no more.
    keep_going : bool, default False
        Whether files that cannot be read are passed over, in place of refusing all.
    table_map : TableMap, optional
        What the columns of text and JSON tables are (`fewmark.interop.mapping`); no format is detected then.
    progress : callable, optional
        Gets the name of each stage.

    Returns
    -------
    ImportedFiles
        What became of each file, a list.

    Raises
    ------
    InputError, FormatError
        If a file is missing or malformed, or has no row that is a cell; nothing is stored then.
    StoreError
        If the store cannot be opened or written.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> datasets.example().to_csv("measured.csv", index=False)
    >>> (file,) = fewmark.import_files(["measured.csv"], store="sqlite:///example.db")
    >>> file.format, file.n_rows, file.n_added
    ('csv', 24, 24)
    >>> fewmark.import_files(["measured.csv"], store="sqlite:///example.db")[0].n_added  # nothing is stored twice
    0
    """
    _check_rule(rule)
    with tempfile.TemporaryDirectory(prefix="fewmark-import-") as folder:
        gathered = gather(paths, Path(folder))
        if not gathered.files and not gathered.passed_over:
            raise InputError(
                "there is no file to import", got=", ".join(map(str, paths)), hint="the folder is empty: name another"
            )
        files = read_all(gathered, (format, table_map), keep_going, progress)
    if sum(not file.whole for file in files) > 1:
        for file in files:  # rows of several tables are compared with one another
            file.one_by_one()
    for file, poorer in zip(files, poorer_records([file.measurements for file in files]), strict=True):
        file.n_poorer = len(poorer)
        for position in poorer:
            del file.measurements[position]
    _drop_copies(files)
    out = ImportedFiles(passed_over=gathered.passed_over, damaged=gathered.damaged)
    with open_store(store) as opened:
        files = _projected(files, opened, rule)
        names = _names_held(opened)
        held = opened.case_ids() if any(file.columnar for file in files) else set()
        for file in files:
            if file.columnar is not None and (not held.isdisjoint(file.columnar.case_ids) or _taken(file, names)):
                file.one_by_one()  # rows of known cases are compared with what is known of them
        known = Known.of(opened, (m for file in files for m in file.measurements.values()))
        for file in files:
            file.names = list(dict.fromkeys([*file.names, *_taken(file, names)]))
            rows = file.rows()
            file.findings = [f for f in file.findings if f.row - 1 in rows or not file.predictions]
            _compare(file, known, supersede=supersede)
        # Everything is checked: from here on, things are stored, small files together.
        for alone, group in groupby(files, key=lambda file: file.columnar is not None or bool(file.predictions)):
            for together in [[file] for file in group] if alone else [list(group)]:
                name = together[0].shown if len(together) == 1 else f"{len(together):,} files"
                progress(f"storing {name}")
                out += _store(together, opened)
    return out


def _check_rule(rule: str) -> None:
    if rule == DEFAULT_RULE:
        return
    from fewmark.runner.projection.projector import RULES  # loads the runner

    if rule not in RULES:
        raise InputError("no such rule of projection", got=rule, hint=f"one of {', '.join(RULES)}")


def mark(measurement: Measurement, finding: Finding) -> Annotation:
    """The mark that keeps a finding on its measurement in the store."""
    return _mark(measurement.measurement_id, finding)


def _mark(measurement_id: str, finding: Finding) -> Annotation:
    return Annotation(measurement_id, finding.rule, finding.action, finding.reason, FrozenMap(finding.changes))


def _drop_copies(files: list[FileRead]) -> None:
    """Leave out rows that another file holds as well, with as much or more known."""
    tables = [file for file in files if not file.whole]
    if len(tables) < 2:
        return
    first: dict[str, FileRead] = {}
    same = SameCases((), dict.fromkeys(m.case.deployment for file in tables for m in file.measurements.values()))
    for file in tables:
        for position, measurement in list(file.measurements.items()):
            if first.setdefault(content_of(measurement, same), file) is not file:
                del file.measurements[position]
                file.n_copies += 1
    # Rows that say the same with less known; where each knows something, both are stored, and the screen merges them.
    places = [(file, position) for file in tables for position in file.measurements]
    frame = pd.concat([file.frame.loc[list(file.measurements)] for file in tables], ignore_index=True)
    for copy in copies(one_spelling(frame)):
        file, position = places[copy.poorer]
        if file is not places[copy.richer][0] and not copy.changes:
            del file.measurements[position]
            file.n_copies += 1


def _compare(file: FileRead, known: Known, *, supersede: bool) -> None:
    """Leave out what the store holds, and tell what it holds with another value."""
    for position, measurement in list(file.measurements.items()):
        if file.whole:
            continue  # with every sample: equal only if it is the same
        if known.is_poorer(measurement):
            file.n_poorer += 1
            del file.measurements[position]
            continue
        for held in known.poorer(measurement):
            file.superseded[held.measurement_id] = f"{file.shown} tells the same run in more detail"
        same = known.contents.get(content_of(measurement, known.same)) if known.contents else None
        if same is not None:  # believed as it was stored
            measurement = known.measurements[same]
            file.measurements[position] = measurement
            if not supersede:
                continue
        for held, metric, value, new in known.other_values(measurement):
            if held.measurement_id in (*file.superseded, same):
                continue
            file.other_values.append(
                OtherValue(
                    *(measurement.case.case_id, _label(measurement), metric, value, new),
                    *(held.measurement_id, "", measurement.row),
                )
            )
            if supersede:
                file.superseded[held.measurement_id] = f"superseded by {file.shown}"


def _names_held(opened: Store) -> pd.DataFrame:
    """The names of what the store holds, a row a deployment."""
    held = opened.deployments()
    return pd.DataFrame({name: [getattr(deployment, name) for deployment in held] for name in NAMED}, dtype=object)


def _taken(file: FileRead, held: pd.DataFrame) -> list[str]:
    """Which names of the file the store spells in another way, as sentences."""
    if held.empty:
        return []
    names = file.frame[[name for name in NAMED if name in file.frame]].drop_duplicates()
    return [note for note in spelled_as(names, held).attrs.get(NOTES, []) if " is taken for " in note]


def _label(measurement: Measurement) -> str:
    work = measurement.case.workload
    return f"{work.input_tokens:g}→{work.output_tokens:g} tokens at {work.load:g}"


def _store(files: list[FileRead], opened: Store) -> list[Imported]:
    """Add one file, or several without forecasts or columnar rows."""
    n_predictions = opened.add_predictions(files[0].predictions) if files[0].predictions else 0
    other = [_with_origins(file.other_values, opened) for file in files]
    if files[0].columnar is None:
        added = opened.add_each(file.measurements.values() for file in files)
    else:
        with uncollected():
            added = [opened.add_batches(files[0].columnar.batches(now))]
    if files[0].columnar is not None and not any(files[0].records.values()):
        shared = Origin("", files[0].shown, files[0].frame.attrs["format"], "", files[0].modified_at)
        table = files[0].columnar
        opened.add_origins_of_rows(shared, table.ids, [f"row {at + 1}" for at in table.positions])
    else:
        opened.add_origins(
            Origin(file.id_of(at), file.shown, file.frame.attrs["format"], place, file.modified_at, record=record)
            for file in files
            for at, place, record in _places(file)
        )
    for file in files:
        rows = file.rows()
        opened.annotate(_mark(file.id_of(f.row - 1), f) for f in file.findings if f.row - 1 in rows)
        opened.annotate(Annotation(key, REPLACED, "exclude", why) for key, why in file.superseded.items())
    return [
        _imported(file, n_added, n_predictions, values)
        for file, n_added, values in zip(files, added, other, strict=True)
    ]


def _places(file: FileRead) -> Iterator[tuple[int, str, str | None]]:
    """Each row's position, its place for people, and its record."""
    if file.columnar is not None:
        yield from ((at, f"row {at + 1}", file.records.get(at)) for at in file.columnar.positions)
        return
    for at, measurement in file.measurements.items():
        yield at, _place(at, measurement), file.records.get(at)


def _imported(file: FileRead, added: int, n_predictions: int, other: tuple[OtherValue, ...]) -> Imported:
    told = file.frame.attrs.get("understanding", Understanding())
    return Imported(
        *(Path(file.shown), file.frame.attrs["format"], len(file.frame), added, tuple(file.findings), file.left_out),
        n_predictions=n_predictions,
        notes=(*told.notes, *file.names),
        unknown_columns=told.unknown,
        n_poorer=file.n_poorer,
        n_copies=file.n_copies,
        other_values=other,
        n_superseded=len(file.superseded),
    )


def _place(position: int, measurement: Measurement) -> str:
    return f"row {measurement.row if measurement.row is not None else position + 1}"


def _with_origins(values: list[OtherValue], opened: Store) -> tuple[OtherValue, ...]:
    """The same, with the file and the time that the known values came from, in place of the measurement's id."""
    origins = opened.origins([value.file for value in values]) if values else {}
    out = []
    for value in values:
        origin = origins.get(value.file, [None])[0]
        file, at = (origin.file, origin.imported_at) if origin is not None else ("", "")
        out.append(OtherValue(value.case_id, value.label, value.metric, value.known, value.new, file, at, value.row))
    return tuple(out)


def _projected(files: list[FileRead], store: Store, rule: str) -> list[FileRead]:
    """The files with what awaits a projection projected; files are no bounds to what is learned from."""
    read = [(file, position) for file in files if file.whole for position in file.measurements]
    if not read:
        return files
    from fewmark.runner.projection.truncation import awaits_projection, project_all  # loads the runner

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
            file.screen()
    return files


def _run_of(measurement: Measurement) -> tuple[object, ...]:
    """What tells one run of a case from all others."""
    return measurement.case.case_id, measurement.measured_at, measurement.samples
