"""What the worker program writes where it runs alone: JSON lines, one whole measurement each."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from fewmark.core import FewmarkError, FormatError, Measurement
from fewmark.core.errors import MALFORMED
from fewmark.interop.table.measurements import from_measurements
from fewmark.interop.table.understanding import Understanding


class WorkerResults:
    """Measurements with all their samples, as ``python worker.zip --cases … --out …`` leaves them."""

    name = "worker-results"
    description = "JSON lines with one measurement each, as the worker program writes them"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of the first line."""
        line = head.lstrip().split(b"\n", 1)[0]
        return 0.95 if line.startswith(b"{") and b'"case"' in line and b'"workload"' in line else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, medians of each measurement's samples. Raises `FormatError`."""
        measurements, cut = self._read(path)
        frame = from_measurements(measurements)
        if cut is not None:
            note = f"line {cut} breaks off, as where a batch was killed: what stands before it is read"
            frame.attrs["understanding"] = Understanding(notes=[note])
        return frame

    def read_measurements(self, path: Path) -> list[Measurement]:
        """The measurements themselves. Raises `FormatError` with the line that is none."""
        return self._read(path)[0]

    def _read(self, path: Path) -> tuple[list[Measurement], int | None]:
        """The measurements, and the number of the last line where it is half a line."""
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise FormatError("not a text file", got=str(error)) from None
        out: list[Measurement] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except MALFORMED as error:
                # A batch that was killed while it wrote ends in half a line; what stands before it is whole.
                if number == len(lines) and out:
                    return out, number
                raise FormatError(f"line {number}: not a measurement", got=line, hint=str(error)) from None
            try:
                out.append(Measurement.from_dict(content))
            except (*MALFORMED, FewmarkError) as error:
                raise FormatError(f"line {number}: not a measurement", got=line, hint=str(error)) from None
        return out, None
