"""`fewmark screen`: faulty or suspect rows of a file, a packaged dataset or the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewmark import datasets
from fewmark.core import InputError
from fewmark.core.columns import WITHDRAWN
from fewmark.interop import from_measurements
from fewmark.screening import RULES, Finding
from fewmark.screening import screen as find_faults
from fewmark.store import Annotation, open_store
from fewmark.tables.spellings import one_spelling
from fewmark.verbs.import_files import mark
from fewmark.verbs.results import read_results
from fewmark.verbs.source import Tabular, in_memory

SHOWN = 10  # findings in a repr


@dataclass(frozen=True, repr=False)
class Screened:
    """What the screen found in one table.

    For a store, `measurement_ids` name the rows (row 1 is the first), and `places` say for those that were flagged and
    imported in which file and row each stood.
    """

    source: str
    n_rows: int
    findings: tuple[Finding, ...]
    measurement_ids: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = [f"Screened {self.source}: {self.n_rows} rows, {len(self.findings)} findings"]
        lines += [f"  row {f.row}: {f.rule} ({f.action}): {f.reason}" for f in self.findings[:SHOWN]]
        if len(self.findings) > SHOWN:
            lines.append(f"  … and {len(self.findings) - SHOWN} more in .findings")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `fewmark screen`: `flagged` has row (1-based), rule, reason and action of each finding."""
        flagged = [finding.to_dict() for finding in self.findings]
        for item in flagged if self.measurement_ids else ():
            key = self.measurement_ids[item["row"] - 1]
            item["measurement_id"] = key
            if key in self.places:
                item["place"] = self.places[key]
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
        }


def screen(data: Tabular | None = None, *, store: str | None = None) -> Screened:
    """Screen a table for faulty or suspect rows.

    A store's marks are brought up to date; nothing is changed or deleted.

    Parameters
    ----------
    data : table, path or str, optional
        Rows or columns in memory, a file that `import_files` reads, or a packaged dataset's name. By default, what the
        store holds.
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
        table = in_memory(data)
        if table is not None:
            return Screened("the table", len(table), tuple(find_faults(one_spelling(table))))
        assert isinstance(data, (str, Path))
        if not Path(data).exists() and str(data) in datasets.names():
            frame = datasets.load(str(data))
        else:
            frame = read_results(data)
        return Screened(str(data), len(frame), tuple(find_faults(one_spelling(frame))))
    with open_store(store, create=False) as opened:
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
        origins = opened.origins({ids[finding.row - 1] for finding in findings})
        places = {key: f"{found[0].file}, {found[0].place}" for key, found in origins.items()}
        return Screened(opened.url, len(measurements), tuple(findings), ids, places)
