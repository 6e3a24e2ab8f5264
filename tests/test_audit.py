"""`make audit` tells apart what is without known vulnerabilities and what nobody could look up."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "audit.py"
SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
STRANGE = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "audit", "code", "said"),
    [
        ([SOUND], "1", 0, "1 of 1 packages looked up, 0 with known"),
        ([SOUND, BAD], "", 1, "b 2: PYSEC-1"),
        ([STRANGE, STRANGE], "", 0, "not audited: 2 packages, as c: not found"),
        ([STRANGE, SOUND], "1", 1, "1 of 2 packages looked up"),
        (None, "", 0, "not audited: no network"),
        (None, "1", 1, "not audited: no network"),
    ],
)
def test_what_could_not_be_looked_up_is_said(
    found: list[dict[str, Any]] | None, audit: str, code: int, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spec = importlib.util.spec_from_file_location("audit", TOOL)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    out = "" if found is None else json.dumps({"dependencies": found})
    done = subprocess.CompletedProcess([], 0, out, "no network")
    monkeypatch.setattr(tool.subprocess, "run", lambda *given, **options: done)
    monkeypatch.setenv("AUDIT", audit)
    assert tool.main() == code
    assert said in capsys.readouterr().out
