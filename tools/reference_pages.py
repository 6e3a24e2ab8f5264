"""Pages of the reference that are made from the code when the documentation is built (a hook of MkDocs)."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from fewmark.cli.app import app

SCHEMA: Final = Path(__file__).parents[1] / "schemas" / "suite.schema.json"
PARTS: Final = {
    "DeploymentPart": "deployments, defaults",
    "CellsPart": "cells",
    "OverridePart": "overrides",
    "SettingsPart": "settings",
    "TruncatePart": "settings.truncate",
    "AutoBatchPart": "settings.auto_batch",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, text in (("commands", "\n".join(commands())), ("suite-files", "\n".join(suite_files()))):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> Iterator[str]:
    """Every command with its arguments and options."""
    yield "# Commands\n"
    yield "What `fewmark COMMAND --help` says, made from the code. Exit codes: 0 done; 1 done, and the answer"
    yield "is a failure (a failed case, a FAIL, nothing to recommend); 2 a wrong request; 130 and 143 stopped.\n"
    context = click.Context(app, info_name="fewmark")
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        yield from one_command(command, click.Context(command, info_name=name, parent=context), f"fewmark {name}")


def one_command(command: click.Command, context: click.Context, name: str, level: int = 2) -> Iterator[str]:
    """One command, and those under it."""
    yield f"{'#' * level} `{name}`\n\n{inspect.cleandoc((command.help or '').split(chr(12))[0])}\n"
    yield f"    {name} {' '.join(command.collect_usage_pieces(context))}\n"
    records = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None and "--help" not in record[0] and record[1]
    ]
    if records:
        yield "| option | meaning |\n|---|---|"
        for option, meaning in records:
            yield f"| `{cell(option)}` | {cell(html(meaning))} |"
        yield ""
    if isinstance(command, click.Group):
        for under in command.list_commands(context):
            sub = command.get_command(context, under)
            assert sub is not None
            inner = click.Context(sub, info_name=under, parent=context)
            yield from one_command(sub, inner, f"{name} {under}", level + 1)


def suite_files() -> Iterator[str]:
    """The fields of suite files, part by part."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    yield "# Suite files\n"
    yield "The fields of [a suite](../guide/measure.md#a-suite-is-data), made from the JSON Schema that"
    yield "`fewmark suites --schema` prints; editors check and complete a file that begins with"
    yield "`# yaml-language-server: $schema=suite.schema.json`. A list of values may also"
    yield "be `{powers_of_two: [1, 32]}`."
    yield "`fewmark suites FILE` checks a file and shows what it expands to.\n"
    for title, part in (("The file", schema), *((PARTS[name], schema["$defs"][name]) for name in PARTS)):
        heading = title if part is schema else ", ".join(f"`{name}`" for name in title.split(", "))
        yield f"## {heading}\n\n{part.get('description', '')}\n"
        yield "| field | holds | default | meaning |\n|---|---|---|---|"
        for name, about in part["properties"].items():
            default = json.dumps(about["default"]) if about.get("default") not in (None, "", []) else ""
            cells = (f"`{name}`", kind(about), default and f"`{default}`", html(about.get("description", "")))
            yield f"| {' | '.join(cell(text) for text in cells)} |"
        yield ""


def kind(about: Mapping[str, Any]) -> str:
    """What a field may hold, in a word or two."""
    if "enum" in about or "const" in about:
        return ", ".join(f"`{value}`" for value in about.get("enum", [about.get("const")]))
    if "$ref" in about:
        return f"see {PARTS[about['$ref'].rsplit('/', 1)[-1]].split(', ')[0]}"
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(text for one in about["anyOf"] if (text := kind(one))))
    words = {"integer": "whole number", "string": "text", "array": "list", "object": "mapping", "boolean": "yes or no"}
    types = about.get("type", [])
    found = [types] if isinstance(types, str) else types
    return " or ".join(words.get(one, one) for one in found if one != "null")


def cell(text: str) -> str:
    """A text inside a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def html(text: str) -> str:
    """A text that holds no tag."""
    return text.replace("<", "&lt;")
