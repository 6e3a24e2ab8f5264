"""Splitwise's perf_model.csv (Azure/SplitwiseSim): times in milliseconds, power as a share of the rated one.

Source: Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024,
arXiv 2311.18677.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Cell
from fewmark.interop.table.frame import build_frame
from fewmark.interop.text.cells import parse_number, text_to_cell
from fewmark.interop.text.csv_text import header_of, read_columns

_NAMES: Final[Mapping[str, str]] = {
    "model": "model",
    "hardware": "accelerator",
    "prompt_size": "input_tokens",
    "token_size": "output_tokens",
    "batch_size": "batch_size",
    "tensor_parallel": "tensor_parallel_size",
}
_TIMES_MS: Final[Mapping[str, str]] = {"prompt_time": "ttft_s", "token_time": "tpot_s", "e2e_time": "e2e_latency_s"}
_NEEDED: Final = frozenset((*_NAMES, *_TIMES_MS))


class Splitwise:
    """One row a repeat. The two power columns are kept as they stand, since the rated power is not in the file."""

    name = "splitwise"
    description = "Splitwise's perf_model.csv (prompt_size, token_size, prompt_time, token_time, e2e_time in ms, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the header."""
        return 0.95 if set(header_of(head)) >= _NEEDED else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on a missing column or a cell that is no number."""
        columns = read_columns(path)
        missing = sorted(_NEEDED - set(columns))
        if missing:
            raise FormatError(f"a Splitwise file needs {', '.join(missing)}", got=list(columns))
        n_rows = len(columns["model"])
        data: dict[str, Sequence[Cell]] = {"source": [self.name] * n_rows}
        for name, cells in columns.items():
            if name in _TIMES_MS:
                data[_TIMES_MS[name]] = [_seconds(cell, name, row) for row, cell in enumerate(cells, start=1)]
            elif name in _NAMES:
                data[_NAMES[name]] = cells
            else:
                data[name] = [text_to_cell(cell) for cell in cells]
        data["accelerator_count"] = columns["tensor_parallel"]
        return build_frame(data)


def _seconds(cell: str, name: str, row: int) -> float | None:
    milliseconds = parse_number(cell, name, row)
    return None if milliseconds != milliseconds else milliseconds / 1e3
