"""`fewmark reproduce`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.options import print_json, seed_option


@click.command("reproduce")
@click.argument("paper", type=click.Choice(["ala"]))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="ala-reproduction", show_default=True)
@seed_option()
@click.option("--jobs", type=int, default=2, show_default=True, help="Processes; -1 for all cores.")
@click.option(
    "--backend", metavar="NAME", help="Where they run: a joblib backend, ray or dask.  [default: this machine]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(paper: str, out: Path, random_state: int, jobs: int, backend: str | None, as_json: bool) -> None:
    """Reproduce a paper's evaluation on the packaged data: figures and a page of claims and verdicts in OUT."""
    from fewmark.verbs.reproduce import reproduce, summary

    questions = reproduce(
        paper,
        out,
        random_state=random_state,
        jobs=jobs,
        backend=backend,
        progress=lambda text: click.echo(f"{text} …", err=True),
    )
    if as_json:
        print_json(summary(questions))
    else:
        for question in questions:
            click.echo(f"{question.name.upper()}  {question.title}")
            for claim in question.claims:
                click.echo(f"  {claim.verdict:<15} {claim.paper}\n{'':<18}{claim.found}")
    click.echo(f"wrote {out / f'{paper}.md'}", err=True)
