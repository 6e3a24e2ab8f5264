"""Result files in, the canonical table out, and the way back. One file a format; third parties add theirs."""

from fewmark.interop.base import Format
from fewmark.interop.measurements import from_measurements, is_complete, to_measurements
from fewmark.interop.registry import format_names, get_format, read_table
from fewmark.interop.write import write_table

__all__ = [
    "Format",
    "format_names",
    "from_measurements",
    "get_format",
    "is_complete",
    "read_table",
    "to_measurements",
    "write_table",
]
