"""Third parties' formats, by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest

from fewmark.core import InputError
from fewmark.interop import read_table, registry
from fewmark.interop.table.frame import build_frame


class Lines:
    """A format of a third party."""

    name = "lines"
    description = "three numbers a line"

    def sniff(self, path: Path, head: bytes) -> float:
        return 0.9 if path.suffix == ".lines" else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        rows = [line.split() for line in path.read_text().splitlines()]
        return build_frame(
            dict(zip(("input_tokens", "output_tokens", "batch_size"), zip(*rows, strict=True), strict=True))
        )


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("its library is missing")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name, f"{__name__}:{cls.__name__}", registry.GROUP)
        for name, cls in (("lines", Lines), ("broken", Broken))
    ]
    found = {point.name: cls for point, cls in zip(points, (Lines, Broken), strict=True)}
    monkeypatch.setattr(EntryPoint, "load", lambda self: found[self.name])
    monkeypatch.setattr(registry, "entry_points", lambda group: points[:1])


def test_a_registered_format_is_found_and_detected(tmp_path: Path) -> None:
    path = tmp_path / "x.lines"
    path.write_text("128 64 1\n128 64 2\n")
    frame = read_table(path)
    assert frame.attrs["format"] == "lines"
    assert frame["batch_size"].tolist() == [1, 2]


def test_one_that_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("broken", "somewhere:Broken", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    (tmp_path / "x").write_text("1")
    with pytest.raises(InputError, match="broken cannot be loaded"):
        read_table(tmp_path / "x", "broken")
