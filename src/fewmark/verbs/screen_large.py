"""Parquet files of millions of rows, screened part by part: memory is that of a few parts, whatever the file holds.

Rows are dealt to parts by their deployment, so that a deployment is whole in one part, and each part is screened as a
table of its own, on all processors. What rules compare between deployments (steps that relatives share, values that
were copied) they compare within a part.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from fewmark.core import FormatError, InputError
from fewmark.core.columns import METRIC_COLUMNS
from fewmark.facts.facts import load_facts, user_files
from fewmark.facts.identity import NAMED, same_names, shown
from fewmark.interop.dialects.arrow_table import frame_of_arrow, is_plain_schema
from fewmark.screening import Finding
from fewmark.screening import screen as find_faults
from fewmark.tables.arrays import IntArray
from fewmark.tables.identity import cell_codes, is_of_deployment
from fewmark.verbs.columnar_import import uncollected

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MIN_ROWS: Final = 1_000_000  # below, all rows are screened together
PART: Final = 250_000  # rows
_BATCH: Final = 250_000  # rows read at once
_MAX_JOBS: Final = 8
_ROW: Final = "fewmark.row"


@dataclass
class LargeScreen:
    """What was found in a large file, and what it holds."""

    n_rows: int
    findings: list[Finding] = field(default_factory=list)
    n_deployments: int = 0
    n_cells: int = 0
    named: dict[str, Counter[str]] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Counts, the most common names, and the smallest and largest of each metric."""
        return {
            "n_deployments": self.n_deployments,
            "n_cells": self.n_cells,
            "named": {name: dict(counts.most_common(10)) for name, counts in self.named.items() if counts},
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
        }


def screen_large(path: Path) -> LargeScreen | None:
    """The screen of a Parquet file of canonical columns with at least `MIN_ROWS` rows; None for any other file.

    Raises
    ------
    FormatError
        If a cell cannot be what its column says; the message names the file and the row.
    InputError
        If there is no room for the parts in the temporary folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PAR1":
                return None
        with pq.ParquetFile(path) as file:
            n_rows = file.metadata.num_rows
            if n_rows < MIN_ROWS or not is_plain_schema(file.schema_arrow):
                return None
            out = LargeScreen(n_rows)
            spelled = _spellings(file, out)
            with tempfile.TemporaryDirectory(prefix="fewmark-screen-") as folder:
                parts = _deal(file, Path(folder), -(-n_rows // PART), spelled, out)
                for found, n_cells, ranges in _screened(parts):
                    out.findings += found
                    out.n_cells += n_cells
                    for name, (low, high) in ranges.items():
                        least, most = out.ranges.get(name, (low, high))
                        out.ranges[name] = (min(low, least), max(high, most))
    except FormatError as error:
        raise FormatError(f"{path.name}: {error.what}", got=error.got, hint=error.hint) from None
    except (pa.ArrowException, UnicodeError) as error:  # UnicodeError: a column's name is no text
        raise FormatError("the file is not readable Parquet", got=f"{path}: {error}") from None
    except OSError as error:
        hint = f"parts of the table are kept in {tempfile.gettempdir()}; TMPDIR names another folder"
        raise InputError("the file cannot be read, or its parts written", got=f"{path}: {error}", hint=hint) from None
    out.findings.sort(key=lambda finding: finding.row)
    return out


def _spellings(file: pq.ParquetFile, out: LargeScreen) -> dict[str, dict[str, str]]:
    """What each name is taken for, as `fewmark.tables.spellings.one_spelling` says it of the whole table."""
    import pyarrow.compute as pc

    names = [name for name in NAMED if name in file.schema_arrow.names]
    out.named = {name: Counter() for name in names}
    for batch in file.iter_batches(_BATCH, columns=names):
        for name in names:
            for item in pc.value_counts(batch[name].cast("string")).to_pylist():
                if item["values"] is not None:
                    out.named[name][item["values"]] += item["counts"]
    facts = load_facts(user_files())
    taken: dict[str, dict[str, str]] = {}
    for name in names:
        same = same_names(name, [found for found, _ in out.named[name].most_common()], facts)
        if any(one != other for one, other in same.items()):
            taken[name] = same
            out.notes += shown(same, name)
    return taken


def _deal(
    file: pq.ParquetFile, folder: Path, n_parts: int, spelled: Mapping[str, Mapping[str, str]], out: LargeScreen
) -> list[Path]:
    """Write each row to the part of its deployment; returns the parts' files."""
    import pyarrow as pa

    paths = [folder / f"{number}.arrow" for number in range(n_parts)]
    schema = pa.schema([*(f for f in file.schema_arrow if not pa.types.is_null(f.type)), pa.field(_ROW, pa.int64())])
    schema = pa.schema(
        [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema]
    )
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    known: dict[tuple[object, ...], int] = {}
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(path, schema, options=options)) for path in paths]
        first = 0
        for batch in file.iter_batches(_BATCH, columns=schema.names[:-1]):
            columns = {name: _respelled(batch[name], spelled.get(name)) for name in schema.names[:-1]}
            rows = pa.array(np.arange(first, first + len(batch)))
            first += len(batch)
            table = pa.table([*(columns[name].cast(schema.field(name).type) for name in columns), rows], schema)
            part = _codes(table, known) % n_parts
            order = np.argsort(part, kind="stable")
            dealt = table.take(pa.array(order)).combine_chunks()
            ends = np.bincount(part, minlength=n_parts).cumsum()
            for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    writers[number].write_table(dealt.slice(start, end - start))
    out.n_deployments = len(known)
    return paths


def _respelled(cells: pa.Array, taken: Mapping[str, str] | None) -> pa.Array:
    import pyarrow as pa

    if not taken:
        return cells
    words = cells.cast("string").dictionary_encode()
    held = [taken.get(word, word) for word in words.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(words.indices, pa.array(held, pa.string())).cast(pa.string())


def _codes(table: pa.Table, known: dict[tuple[object, ...], int]) -> IntArray:
    """The deployment of each row, numbered as they appear in the file."""
    names = [name for name in table.column_names if is_of_deployment(name)]
    codes = np.zeros(len(table), dtype=np.int64)
    for name in names:
        words = table[name].combine_chunks().dictionary_encode()
        own = words.indices.fill_null(len(words.dictionary)).to_numpy(zero_copy_only=False)
        codes = pd.factorize(codes * (len(words.dictionary) + 1) + own)[0]
    _, first, code = np.unique(codes, return_index=True, return_inverse=True)
    shown_by = table.select(names).take(first).to_pylist()
    numbers = [known.setdefault(tuple(row.values()), len(known)) for row in shown_by]
    return np.array(numbers, dtype=np.intp)[code.ravel()]


def _screened(parts: list[Path]) -> Iterator[tuple[list[Finding], int, dict[str, tuple[float, float]]]]:
    n_jobs = min(os.cpu_count() or 1, _MAX_JOBS, len(parts))
    if n_jobs < 2:
        yield from map(_screen_part, parts)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs, return_as="generator", batch_size=1, pre_dispatch=n_jobs)(
        delayed(_screen_part)(path) for path in parts
    )


def _screen_part(path: Path) -> tuple[list[Finding], int, dict[str, tuple[float, float]]]:
    """What is found in a part, its number of cells, and the ends of its metrics; the part's file is removed."""
    import pyarrow as pa

    with pa.ipc.open_file(path) as reader:
        table = reader.read_all()
    path.unlink()
    if not len(table):
        return [], 0, {}
    rows = table[_ROW].to_numpy()
    try:
        frame = frame_of_arrow(table.drop_columns([_ROW]))
    except FormatError as error:
        raise _placed(error, rows) from None
    frame.index = pd.Index(rows)
    ranges = {}
    for name in METRIC_COLUMNS:
        values = frame[name].to_numpy()
        if not np.isnan(values).all():
            ranges[name] = (float(np.nanmin(values)), float(np.nanmax(values)))
    with uncollected():
        found = find_faults(frame)
    return found, int(cell_codes(frame).max()) + 1, ranges


def _placed(error: FormatError, rows: IntArray) -> FormatError:
    """The same error with the file's row in place of the part's."""
    found = re.match(r"row (\d+): ", error.what)
    if found is None:
        return error
    what = f"row {int(rows[int(found.group(1)) - 1]) + 1}: {error.what[found.end() :]}"
    return FormatError(what, got=error.got, hint=error.hint)
