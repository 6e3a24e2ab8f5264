"""Ctrl-C says what is true of the command that it stopped."""

from __future__ import annotations

from typing import Any

import pytest

from fewmark.cli import main


def interrupt(*args: Any, **options: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("command", "verb", "says"),
    [
        (["predict", "--cases", "c.csv", "--data", "d.csv"], "fewmark.verbs.predict.predict", "nothing was written"),
        (["run", "demo"], "fewmark.verbs.run.run", "each cell that was finished is in the store"),
        (["import", "x.csv"], "fewmark.verbs.import_files.import_files", "nothing is stored twice"),
    ],
)
def test_an_interrupted_command_says_what_it_left(
    command: list[str], verb: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, interrupt)
    assert main(command) == 130
    told = capsys.readouterr().err
    assert "interrupted: " in told
    assert says in told
