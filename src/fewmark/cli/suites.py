"""`fewmark suites`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json
from fewmark.core import InputError
from fewmark.core.frozen import canonical_json
from fewmark.suites import Suite, load_suite
from fewmark.suites.expand import flatten


@click.command("suites", cls=NamedChoices)
@click.argument("suite", metavar="[SUITE]", type=Named("suites"), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, including every case.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of suite files.")
@click.option(
    "--write-cases", "cases", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the suite's cases as JSON lines, for the worker program (fewmark engines --write-worker).",
)  # fmt: skip
def command(suite: str | None, as_json: bool, schema: bool, cases: Path | None) -> int:
    """List the suites, or show and check one by its name or file.

    Exits with 1 if a shown suite names an engine or a model that is not known here.
    """
    from fewmark.verbs import suites as verb

    if schema:
        print_json(verb.suite_schema())
        return 0
    if cases is not None:
        if suite is None:
            raise InputError("cases are written of one suite", hint="fewmark suites SUITE --write-cases cases.jsonl")
        click.echo(f"{cases}: {verb.write_cases(load_suite(suite), cases)} cases", err=True)
        return 0
    chosen = [load_suite(suite)] if suite else verb.list_suites()
    advice = verb.suite_advice(chosen[0], suite) if suite else []
    if as_json:
        described = [verb.describe_suite(item) for item in chosen]
        print_json(described[0] if suite else described)
    elif suite:
        _show(chosen[0])
    else:
        rows = [(item.name, str(len(item.cases)), item.title) for item in chosen]
        click.echo(_columns(("suite", "cases", "what"), rows))
    for one in advice:
        click.echo(f"warning: {one.message}\n  hint: {one.hint}", err=True)
    return 1 if advice else 0


def _show(suite: Suite) -> None:
    deployments = {case.deployment.deployment_id for case in suite.cases}
    click.echo(f"{suite.name}: {suite.title}" if suite.title else suite.name)
    if suite.description:
        click.echo(f"\n{suite.description}")
    click.echo(f"\n{len(suite.cases)} cases, {len(deployments)} deployment{'s' if len(deployments) > 1 else ''}")
    if suite.settings:
        click.echo(f"settings: {canonical_json(suite.settings)}")
    cells = [{name: _text(value) for name, value in flatten(case).items()} for case in suite.cases]
    fields = list(dict.fromkeys(name for cell in cells for name in cell))
    same = [name for name in fields if len({cell.get(name) for cell in cells}) == 1]
    if len(cells) > 1:
        for name in same:
            click.echo(f"{name}: {cells[0][name]}")
        fields = [name for name in fields if name not in same]
    click.echo("\n" + _columns(fields, [tuple(cell.get(name, "-") for name in fields) for cell in cells]))


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (names, *rows)) for i in range(len(names))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (names, *rows))
    return "\n".join(line.rstrip() for line in lines)
