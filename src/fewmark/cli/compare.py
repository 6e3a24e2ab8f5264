"""`fewmark compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fewmark.cli.options import print_json, values_by_column
from fewmark.core.files import write_file

if TYPE_CHECKING:
    from fewmark.verbs.compare import Compared

MAX_SHOWN = 20  # cells; the JSON has them all


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", metavar="NAME", help="Metric.  [default: throughput; in open loops the latency]")
@click.option("--threshold", type=float, default=0.1, show_default=True, help="Slowdown that fails, a fraction.")
@click.option(
    "--confidence-level",
    type=float,
    default=0.9,
    show_default=True,
    help="Confidence level of each cell's interval, a fraction.",
)
@click.option("--every-cell", is_flag=True, help="PASS overall only if every cell passes.")
@click.option("--a", "where_a", multiple=True, metavar="COLUMN=VALUE", help="Only these rows of A. Repeatable.")
@click.option("--b", "where_b", multiple=True, metavar="COLUMN=VALUE", help="Only these rows of B. Repeatable.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column to ignore when matching cells. Repeatable.")
@click.option(
    "--length-tolerance",
    type=float,
    default=0.02,
    show_default=True,
    help="Relative difference up to which token counts match.",
)
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@click.option("--out", metavar="FILE", help="Write a page with the figure: HTML, or Markdown if it ends in .md.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    a: str,
    b: str,
    metric: str | None,
    threshold: float,
    confidence_level: float,
    every_cell: bool,
    where_a: tuple[str, ...],
    where_b: tuple[str, ...],
    ignore: tuple[str, ...],
    length_tolerance: float,
    no_screen: bool,
    out: str | None,
    as_json: bool,
) -> int:
    """Test whether B is slower than A by more than the threshold, over the cells that both have.

    A and B are result files of any known format, folders, archives or globs of them, packaged datasets, or stores. Runs
    of one cell are repeats. Exits with 1 on FAIL.
    """
    from fewmark.verbs.compare import compare

    result = compare(
        a, b, metric=metric, threshold=threshold, confidence_level=confidence_level, every_cell=every_cell,
        where_a=values_by_column(where_a, "--a"), where_b=values_by_column(where_b, "--b"),
        ignored=ignore, length_tolerance=length_tolerance,
        screened=not no_screen,
    )  # fmt: skip
    if out is not None:
        _write(result, out)
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    return 1 if result.verdict == "FAIL" else 0


def _write(result: Compared, out: str) -> None:
    from fewmark.reporting.html import render_html
    from fewmark.reporting.text import render_markdown
    from fewmark.verbs.cards.comparison import comparison_card

    render = render_markdown if out.endswith(".md") else render_html
    write_file(out, render([comparison_card(result)], "Comparison"))
    click.echo(f"wrote {out}", err=True)


def _show(result: Compared) -> None:
    click.echo(f"A: {result.names[0]}\nB: {result.names[1]}")
    for title, columns in (("compared", result.common.compared), ("known on one side", result.common.known_once)):
        for name, (a, b) in columns.items():
            click.echo(f"{title}: {name}: {_values(a)} → {_values(b)}")
    cells = result.cells
    if not cells.empty:
        worse = cells["ratio"] if result.higher_is_better else -cells["ratio"]
        shown = cells.loc[worse.sort_values(kind="stable").index].drop(
            columns=["p_slower", "p_slower_holm", "equivalent", "faster"]
        )
        kept = shown.columns[list(shown.columns).index("n_a") :] if len(cells) > 1 else shown.columns
        varying = [name for name in shown if name in kept or shown[name].map(str).nunique() > 1]
        click.echo("")
        text = shown[varying].head(MAX_SHOWN).to_string(index=False, na_rep="–", float_format=lambda x: f"{x:.4g}")
        click.echo(text)
        if len(cells) > MAX_SHOWN:
            click.echo(f"… and {len(cells) - MAX_SHOWN} more (--json has them all)")
        click.echo("")
    click.echo(result.words)


def _values(values: tuple[object, ...]) -> str:
    return ", ".join("unknown" if value is None else str(value) for value in values)
