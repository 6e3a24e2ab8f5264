"""The documentation's commands are commands that there are, with options that they have."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from fewmark.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:    |\$ )?(fewmark [a-z].*)$", re.MULTILINE)
INLINE = re.compile(r"`(fewmark [a-z][^`\n]*)`")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))  # a line that goes on is one command
        found += [(page.name, line.split("  #")[0].strip()) for line in COMMAND.findall(text)]
        found += [(page.name, line.strip()) for line in INLINE.findall(text) if " -" in line or line.count(" ") == 1]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_documented_command_can_be_given(page: str, line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if word not in ("…", "...")]
    name, arguments = words[0], words[1:]
    assert name in COMMANDS, f"{page}: there is no command {name}"
    command = importlib.import_module(COMMANDS[name][0]).command
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    for word in arguments:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{page}: {name} has no option {word}"
    if (INLINE.search(f"`{line}`") and len(words) == 1) or {"--help", "-h"} & set(arguments):
        return
    with command.make_context(name, list(arguments), resilient_parsing=not arguments) as context:
        assert isinstance(context, click.Context)


def test_there_are_documented_commands() -> None:
    assert len(commands()) > 20
