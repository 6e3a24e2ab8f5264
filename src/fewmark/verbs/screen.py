"""`fewmark screen`: faulty or suspect rows of a file, a packaged dataset or the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fewmark import datasets
from fewmark.core import InputError
from fewmark.core.columns import WITHDRAWN
from fewmark.interop import from_measurements
from fewmark.screening import RULES, Finding
from fewmark.screening import screen as find_faults
from fewmark.store import Annotation, Store, open_store
from fewmark.tables.spellings import one_spelling
from fewmark.verbs.import_files import mark
from fewmark.verbs.many_files import is_many, opened_files
from fewmark.verbs.results import read_results
from fewmark.verbs.screen_large import screen_large
from fewmark.verbs.source import Tabular, in_memory

SHOWN = 10  # findings in a repr


@dataclass(frozen=True, repr=False)
class Screened:
    """What the screen found in one table.

    For a store and for several files, `measurement_ids` name the rows (row 1 is the first), and `places` say for those
    that were flagged or are what others were compared with, and were imported, in which file and row each stood.
    `notes` say what was not screened. `summary` is, of a file of millions of rows, what it holds.
    """

    source: str
    n_rows: int
    findings: tuple[Finding, ...]
    measurement_ids: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    summary: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = [f"Screened {self.source}: {self.n_rows} rows, {len(self.findings)} findings"]
        lines += [f"  {self.where(f.row)}: {f.rule} ({f.action}): {self.told(f)}" for f in self.findings[:SHOWN]]
        if len(self.findings) > SHOWN:
            lines.append(f"  … and {len(self.findings) - SHOWN} more in .findings")
        return "\n".join(lines)

    def place(self, row: int) -> str | None:
        """The file and the row there of a row of a store; None where it was run here, or a single file was screened."""
        return self.places.get(self.measurement_ids[row - 1]) if self.measurement_ids else None

    def where(self, row: int) -> str:
        """A row with its place."""
        return f"row {row}" + (f" ({place})" if (place := self.place(row)) else "")

    def told(self, finding: Finding) -> str:
        """The reason, with the places of the rows that it speaks of."""
        others = {f"row {row} is {place}" for row in finding.others if (place := self.place(row))}
        return finding.reason + (f" ({', '.join(sorted(others))})" if others else "")

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `fewmark screen`: `flagged` has row (1-based), rule, reason and action of each finding."""
        flagged = []
        for finding in self.findings:
            item = finding.to_dict() | {"reason": self.told(finding)}
            if self.measurement_ids:
                item["measurement_id"] = self.measurement_ids[finding.row - 1]
            if place := self.place(finding.row):
                item["place"] = place
            flagged.append(item)
        counts = Counter((finding.rule, finding.action) for finding in self.findings)
        return {
            "source": self.source,
            "n_rows": self.n_rows,
            "n_excluded": len({finding.row for finding in self.findings if finding.action == "exclude"}),
            "n_corrected": len({finding.row for finding in self.findings if finding.action == "correct"}),
            "n_warned": len({finding.row for finding in self.findings if finding.action == "warn"}),
            "rules": [
                {
                    "name": rule.name,
                    "description": rule.description,
                    **{action: counts[rule.name, action] for action in ("exclude", "correct", "warn")},
                }
                for rule in RULES
            ],
            "flagged": flagged,
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"summary": dict(self.summary)} if self.summary else {}),
        }


def screen(data: Tabular | Sequence[str | Path] | None = None, *, store: str | None = None) -> Screened:
    """Screen a table for faulty or suspect rows.

    A store's marks are brought up to date; nothing is changed or deleted.

    Parameters
    ----------
    data : table, path or str, optional
        Rows or columns in memory, a file that `import_files` reads, or a packaged dataset's name; a folder, an archive
        or a glob of files, or a list of such names. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.

    Returns
    -------
    Screened
        The findings: row (1-based), rule, reason and action of each.

    Raises
    ------
    InputError, FormatError
        If the file is missing or malformed, or the store is empty.
    StoreError
        If the store cannot be opened or written.

    Examples
    --------
    >>> import fewmark
    >>> found = fewmark.screen("llm-pilot")
    >>> found.n_rows == len(found.to_dict()["flagged"])
    False
    """
    if data is not None:
        names = _files(data)
        if names:
            with opened_files(names) as (files, notes):
                return replace(_of_store(files), source=", ".join(map(str, names)), notes=tuple(notes))
        table = in_memory(data)  # type: ignore[arg-type]  # what is no list of names
        if table is not None:
            return Screened("the table", len(table), tuple(find_faults(one_spelling(table))))
        assert isinstance(data, (str, Path))
        if not Path(data).exists() and str(data) in datasets.names():
            frame = datasets.load(str(data))
        elif Path(data).is_file() and (large := screen_large(Path(data))) is not None:
            found = tuple(large.findings)
            return Screened(str(data), large.n_rows, found, notes=tuple(large.notes), summary=large.summary())
        else:
            frame = read_results(data)
        return Screened(str(data), len(frame), tuple(find_faults(one_spelling(frame))))
    with open_store(store, create=False) as opened:
        return _of_store(opened)


def _files(data: Tabular | Sequence[str | Path]) -> list[str | Path]:
    """The names, where several files, a folder, an archive or a glob are named; else none."""
    if isinstance(data, (str, Path)):
        return [data] if str(data) not in datasets.names() and is_many(data) else []
    names = [name for name in data if isinstance(name, (str, Path))] if isinstance(data, (list, tuple)) else []
    return names if names and len(names) == len(data) else []


def _of_store(opened: Store) -> Screened:
    """The findings among a store's measurements; its marks are brought up to date."""
    measurements = list(opened.measurements())
    if not measurements:
        raise InputError(
            "the store has no measurements",
            got=opened.url,
            hint="fewmark run, fewmark import, or screen --data FILE",
        )
    findings = find_faults(one_spelling(from_measurements(measurements, opened.withdrawn())))
    # What no longer holds is marked already, with its own reason.
    new = (mark(measurements[f.row - 1], f) for f in findings if f.rule not in WITHDRAWN)
    marks = {(m.measurement_id, m.rule): m for m in new}
    known = {rule.name for rule in RULES} - {*WITHDRAWN}
    for old in opened.annotations():
        if old.rule in known and (old.measurement_id, old.rule) not in marks:
            marks[old.measurement_id, old.rule] = Annotation(old.measurement_id, old.rule, "clear")
    opened.annotate(marks.values())
    ids = tuple(measurement.measurement_id for measurement in measurements)
    rows = {row for finding in findings for row in (finding.row, *finding.others)}
    origins = opened.origins({ids[row - 1] for row in rows})
    places = {key: f"{found[0].file}, {found[0].place}" for key, found in origins.items()}
    return Screened(opened.url, len(measurements), tuple(findings), ids, places)
