"""The list of traps names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_trap_has_its_test() -> None:
    rows = [line for line in (HERE / "traps.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 70
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (HERE / file).read_text()]
        assert not missing, row
