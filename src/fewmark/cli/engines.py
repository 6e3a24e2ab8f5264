"""`fewmark engines`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.options import print_json


@click.group("engines", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--write-worker",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="ZIP",
    help="Write the worker program for hosts without fewmark: python ZIP --cases CASES.jsonl --out RESULTS.jsonl.",
)
@click.pass_context
def command(context: click.Context, as_json: bool, write_worker: Path | None) -> None:
    """List the engines: whether each can run here, its version, and how to get those that cannot."""
    if context.invoked_subcommand is not None:
        return
    from fewmark.verbs import engines as verb

    if write_worker is not None:
        click.echo(f"wrote {verb.write_worker(write_worker)}", err=True)
        return
    found = verb.list_engines()
    if as_json:
        print_json(found)
        return
    width = max(len(engine["name"]) for engine in found)
    for engine in found:
        state = "available" if engine["available"] else "not available"
        line = f"{engine['name']:<{width}}  {state}  {engine['version'] or ''}"
        click.echo(line.rstrip())
        install = engine["install"] and engine["install"] + (f"  ({engine['takes']})" if engine["takes"] else "")
        for text in (engine["reason"], install, engine["python"]):
            if text:
                click.echo(f"{'':<{width}}    {text}")


@command.command("install")
@click.argument("name")
def install(name: str) -> None:
    """Make a separate environment for the engine NAME, in $FEWMARK_HOME/engines; a finished one is left as it is."""
    from fewmark.verbs import engines as verb

    python, made = verb.install(name, lambda text: click.echo(text, err=True))
    click.echo(f"{'installed' if made else 'is installed already'}: {python}", err=True)
