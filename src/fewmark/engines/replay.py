"""Replay: answers cases from a recorded table as if they were measured now, at no cost in time.

Engine options:

table
    The path of a canonical table: CSV or JSON lines (one flat object a row) with the standard library alone, Parquet
    where pyarrow is installed. What is not there is looked for in the folder that the environment variable
    `FEWMARK_TABLES` names.
engine
    The recorded engine to answer for. Every other option must equal the row's ``option.NAME``.

A deployment's known fields must equal the row's; unknown ones may have any value as long as the rows that remain are
of one deployment.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from fewmark.core import DEPLOYMENT_COLUMNS, Deployment, InputError, Sample, Status, Workload
from fewmark.core.columns import (
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    NUMERIC_COLUMNS,
    OPTION_PREFIX,
    SERVING_COLUMNS,
    WORKLOAD_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.core.errors import MALFORMED
from fewmark.core.files import MAX_TABLE_BYTES, require_regular
from fewmark.core.frozen import FrozenMap, thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure

Row = dict[str, Any]
TABLES_VARIABLE: Final = "FEWMARK_TABLES"
UNKNOWN: Final = frozenset({"", "nan", "none", "null"})


class ReplayEngine:
    """A recorded table behind the engine's Protocol."""

    def __init__(self) -> None:
        self._cells: dict[tuple[Hashable, ...], list[Row]] = {}
        self._facts: dict[str, Json] = {}

    @classmethod
    def probe(cls) -> Availability:
        """Always available."""
        return Availability(True)

    def load(self, deployment: Deployment) -> None:
        """Read the table's rows of the deployment. Raises `CaseFailure` where there are none, or of several ones."""
        options = thaw(deployment.engine_options)
        path = options.pop("table", None)
        if not isinstance(path, str):
            raise _unsupported("replay needs the engine option table: the path of a canonical table")
        wanted = {**deployment.to_dict(), "engine": options.pop("engine", None)}
        wanted.pop("engine_options", None)
        wanted |= {OPTION_PREFIX + name: value for name, value in options.items()}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        found: dict[tuple[tuple[str, Json], ...], list[Row]] = {}
        for row in read_rows(_find(path)):
            if all(_same(row.get(name), value) for name, value in wanted.items()):
                found.setdefault(_identity(row), []).append(row)
        if not found:
            raise _unsupported(f"{path} holds no row of this deployment: {json.dumps(wanted)}")
        if len(found) > 1:
            every = [pair for identity in found for pair in identity]
            differ = sorted({name for name, value in every if every.count((name, value)) < len(found)})
            raise _unsupported(
                f"{path} holds {len(found)} deployments that match; give {', '.join(differ)} as well "
                "(engine: as an engine option)"
            )
        (identity, rows), *_ = found.items()
        for row in rows:
            self._cells.setdefault(_cell(row), []).append(row)
        self._facts = {"table": path, "recorded": dict(identity), "rows": len(rows)}

    def reload(self, deployment: Deployment) -> bool:
        """Forget the table, and read that of another deployment."""
        self.close()
        self.load(deployment)
        return True

    def check(self, workload: Workload) -> None:
        """Raises `CaseFailure` where the cell is not in the table."""
        self.recorded(workload)

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """One of the recorded repeats, chosen by the seed."""
        samples = self.recorded(workload)
        return samples[seed % len(samples)]

    def recorded(self, workload: Workload) -> tuple[Sample, ...]:
        """Every recorded repeat of the workload; a failed one answers with the failure that was recorded."""
        known = {f"{WORKLOAD_PREFIX}{name}": value for name, value in thaw(workload.options).items()}
        rows = self._cells.get(_cell({**workload.to_dict(), **known}))
        if not rows:
            raise _unsupported("the recorded table does not hold this cell")
        good = [row for row in rows if (row.get("status") or "ok") == "ok"]
        if not good:
            status = rows[0]["status"]
            if status not in list(Status):
                raise _unsupported(f"the recorded table has an unknown status for this cell: {status!r}")
            raise CaseFailure(Status(status), "so it is recorded in the table")
        return tuple(_sample(row) for row in good)

    def close(self) -> None:
        """Forget the table."""
        self._cells = {}

    def environment(self) -> JsonObject:
        """The table, and the deployment that it was recorded on."""
        return dict(self._facts)


def _sample(row: Row) -> Sample:
    stated = FrozenMap({name: row[name] for name in (*SERVING_COLUMNS, *COUNT_COLUMNS) if name in row})
    return Sample(**{name: row[name] for name in METRIC_COLUMNS if name in row}, statistics=stated)


def _find(table: str) -> Path:
    folder = os.environ.get(TABLES_VARIABLE)
    path = Path(table)
    return Path(folder) / table if folder and not path.exists() else path


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a canonical table; unknown fields are left out, numeric ones are numbers. Raises `CaseFailure`."""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _unsupported(f"{path}: replay reads tables that end in {', '.join(readers)}")
    try:
        require_regular(path, max_bytes=MAX_TABLE_BYTES, what="a recorded table")
        for number, row in enumerate(reader(path), 1):
            yield _clean(row, f"{path}, row {number}")
    except (OSError, csv.Error, InputError, *MALFORMED) as error:
        raise _unsupported(f"cannot read {path}: {error}") from None


def _csv_rows(path: Path) -> Iterable[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _json_rows(path: Path) -> Iterable[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise _unsupported(f"{path}: every line must hold an object")
                yield row


def _parquet_rows(path: Path) -> Iterable[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise _unsupported(f"{path}: reading Parquet needs pyarrow in the worker; export the table as CSV") from None
    try:
        return list(parquet.read_table(path).to_pylist())
    except ArrowException as error:
        raise _unsupported(f"cannot read {path}: {error}") from None


def _clean(row: Row, where: str) -> Row:
    out: Row = {}
    for name, value in row.items():
        if name is None or value is None or str(value).strip().lower() in UNKNOWN:
            continue
        if name in NUMERIC_COLUMNS:
            try:
                out[name] = float(value)
            except (TypeError, ValueError):
                raise _unsupported(f"{where}: {name} must be a number, not {value!r}") from None
        else:
            out[name] = value.strip() if isinstance(value, str) else value
    return out


def _identity(row: Row) -> tuple[tuple[str, Json], ...]:
    names = [name for name in row if name in DEPLOYMENT_COLUMNS or name.startswith(OPTION_PREFIX)]
    return tuple((name, row[name]) for name in sorted(names))


def _cell(row: JsonObject) -> tuple[Hashable, ...]:
    further = sorted((name, str(value)) for name, value in row.items() if name.startswith(WORKLOAD_PREFIX))
    return (*(row.get(name) for name in WORKLOAD_COLUMNS), *further)


def _same(recorded: Any, wanted: object) -> bool:
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        return str(recorded) == str(wanted)
    try:
        return float(recorded) == wanted
    except (TypeError, ValueError):
        return False


def _unsupported(reason: str) -> CaseFailure:
    return CaseFailure(Status.UNSUPPORTED, reason)
