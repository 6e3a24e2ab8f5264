"""What the house keeps to, beyond what the linters see."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
MOST_ANY = 148
"""Lines of the sources that may bear `Any`: JSON and rows of tables on their way to a constructor that checks them, and
parameters of models. The number only goes down: a known type belongs in its place."""


def test_any_is_rare():
    bearing = [
        f"{path.relative_to(SOURCES)}:{number}"
        for path in sorted(SOURCES.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"\bAny\b", line)
    ]
    assert len(bearing) <= MOST_ANY, (
        f"{len(bearing)} lines bear Any, {MOST_ANY} may: give the new ones a type (fewmark.core.json_types, "
        "fewmark.core.cells, fewmark.models.state, fewmark.tables.arrays), or object where nothing is known"
    )
