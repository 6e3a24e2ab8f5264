"""`fewmark doctor`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from fewmark.cli.options import print_json
from fewmark.cli.terminal import raw
from fewmark.core.text import printable

if TYPE_CHECKING:
    from fewmark.engines.doctor import Finding

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "bright_black"}


@click.command("doctor")
@click.option("--engine-python", metavar="PATH", help="Python that workers run in, if not this one.")
@click.option("--worker-prefix", metavar="COMMAND", default="", help="Examine behind a command: 'ssh gpu-host'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(engine_python: str | None, worker_prefix: str, as_json: bool) -> int:
    """Check this machine for what would distort a benchmark, and say what to do.

    Checks other work, clocks, pinning, threads, memory nodes, container limits, accelerators and debug builds, and runs
    a probe of two seconds that repeats equal work. Exits with 1 if a check is bad.
    """
    from fewmark.verbs.doctor import doctor

    try:
        prefix = shlex.split(worker_prefix)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--worker-prefix") from None
    done = doctor(engine_python=engine_python, worker_prefix=prefix)
    if as_json:
        print_json(done.to_dict())
    else:
        for finding in done.findings:
            _show(finding)
    return 0 if done.ok else 1


def _show(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict:<8}", fg=COLOURS.get(finding.verdict))
    click.echo(f"{verdict}{printable(f'{finding.name:<17}{finding.seen}')}", file=raw(sys.stdout))
    if finding.advice:
        click.echo(f"{'':<25}→ {finding.advice}")
