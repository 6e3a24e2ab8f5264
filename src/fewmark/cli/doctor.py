"""`fewmark doctor`."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import click

from fewmark.cli.terminal import raw
from fewmark.core.text import printable

if TYPE_CHECKING:
    from fewmark.engines.doctor import Finding

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "bright_black"}


@click.command("doctor")
@click.option("--engine-python", metavar="PATH", help="The Python that workers run in, where it is not this one.")
@click.option("--worker-prefix", metavar="COMMAND", default="", help="Examine behind a command: 'ssh gpu-host'.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(engine_python: str | None, worker_prefix: str, as_json: bool) -> int:
    """Look at what would make a benchmark lie on this machine, and say what to do.

    Other work, clocks, pinning, threads, memory nodes, container limits, accelerators, debug builds, and a probe of
    two seconds that does equal work over and over. Exit code 1 where something is bad.
    """
    from fewmark.verbs.doctor import doctor

    try:
        prefix = shlex.split(worker_prefix)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--worker-prefix") from None
    done = doctor(engine_python=engine_python, worker_prefix=prefix)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
    else:
        for finding in done.findings:
            _show(finding)
    return 0 if done.ok else 1


def _show(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict:<8}", fg=COLOURS.get(finding.verdict))
    click.echo(f"{verdict}{printable(f'{finding.name:<17}{finding.seen}')}", file=raw(sys.stdout))
    if finding.advice:
        click.echo(f"{'':<25}→ {finding.advice}")
