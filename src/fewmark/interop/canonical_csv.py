"""The canonical table as CSV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fewmark.core import KNOWN_COLUMNS, WORKLOAD_COLUMNS, FormatError
from fewmark.interop.cells import text_to_cell
from fewmark.interop.csv_text import canonical_name, header_of, read_columns, unique_names
from fewmark.interop.frame import build_frame


class CanonicalCsv:
    """One row a cell or a repeat; empty is unknown; columns may be missing, in any order, or extra."""

    name = "csv"
    description = "the canonical table as CSV (input_tokens, output_tokens, batch_size, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the share of canonical names in the header."""
        names = [canonical_name(name) for name in header_of(head)]
        return 0.5 + 0.4 * _share(names) if is_canonical(names) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The table. Raises `FormatError` on a header without canonical columns and on cells that are none."""
        columns = read_columns(path)
        renamed = {name: canonical_name(name) for name in columns}
        require_canonical(list(renamed.values()))
        unique_names(renamed)
        return build_frame(
            {
                renamed[name]: cells if renamed[name] in KNOWN_COLUMNS else [text_to_cell(cell) for cell in cells]
                for name, cells in columns.items()
            }
        )


def is_canonical(names: list[str]) -> bool:
    """Whether the names can head a canonical table: some of the workload, and at least two that are known."""
    known = set(names) & set(KNOWN_COLUMNS)
    return len(known) >= 2 and bool(known & set(WORKLOAD_COLUMNS))


def require_canonical(names: list[str]) -> None:
    """Raise `FormatError` unless `is_canonical`."""
    if not is_canonical(names):
        raise FormatError(
            "a canonical table needs input_tokens, output_tokens, and batch_size, concurrency or request_rate",
            got=names,
            hint=f"known columns: {', '.join(KNOWN_COLUMNS)}",
        )


def _share(names: list[str]) -> float:
    return sum(name in KNOWN_COLUMNS for name in names) / len(names)
