"""Types of the canonical table's cells, before there is a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fewmark.core.json_types import Json

Cell: TypeAlias = Json
"""What a cell holds: text or a number, None where unknown; of an engine's option, any JSON value."""

Row: TypeAlias = dict[str, Cell]
"""The cells of one row by their columns' names; a column may be missing."""

Columns: TypeAlias = Mapping[str, Sequence[Cell]]
"""The cells of a table by their columns' names."""
