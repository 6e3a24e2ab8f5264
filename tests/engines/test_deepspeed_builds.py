"""What DeepSpeed compiles is compiled in the engine's environment, by one worker at a time, whatever was left over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewmark.engines.deepspeed import EXTENSIONS, compiling_alone


def test_marks_of_killed_builds_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setenv(EXTENSIONS, "")
    monkeypatch.delenv(EXTENSIONS)
    left = tmp_path / "torch_extensions" / "part" / "lock"
    left.parent.mkdir(parents=True)
    left.touch()
    for _ in range(2):  # the second deployment of the same worker
        left.touch()
        with compiling_alone():
            assert not left.exists() and os.environ[EXTENSIONS] == str(tmp_path / "torch_extensions")


def test_a_folder_that_somebody_chose_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setenv(EXTENSIONS, str(tmp_path / "theirs"))
    with compiling_alone():
        assert os.environ[EXTENSIONS] == str(tmp_path / "theirs")
    assert not (tmp_path / "torch_extensions").exists()
