"""Result files in, the canonical table out, and the way back. One file a format; third parties add theirs."""

from fewmark.interop.base import Format
from fewmark.interop.registry import format_names, get_format, read_table
from fewmark.interop.table.has_value import has_value, require_values
from fewmark.interop.table.measurements import from_measurements, is_complete, to_measurements
from fewmark.interop.table.understanding import Understanding
from fewmark.interop.write import write_table

__all__ = [
    "Format",
    "Understanding",
    "format_names",
    "from_measurements",
    "get_format",
    "has_value",
    "is_complete",
    "read_table",
    "require_values",
    "to_measurements",
    "write_table",
]
