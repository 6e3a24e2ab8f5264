"""`fewmark assess`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fewmark.planning.assess import Assessment


@click.command("assess")
@click.option(
    "--data", metavar="TABLE", help="Recorded cells: any format, or a packaged dataset.  [default: the store]"
)
@click.option("--store", metavar="URL", help="Recorded cells, without --data.  [default: $FEWMARK_STORE or fewmark.db]")
@click.option(
    "--strategies", multiple=True, metavar="NAMES", help="Names, by commas; several joined by +.  [default: all]"
)
@click.option("--reference", default="full", show_default=True, help="The strategy to measure the others against.")
@click.option("--target", default="throughput_tok_s", show_default=True, help="The metric whose accuracy counts.")
@click.option("--model", default="auto", show_default=True, help="Who predicts what is not measured; or none.")
@click.option("--relatives/--no-relatives", default=True, help="Whether other deployments' cells are known.")
@click.option(
    "--accuracy", "accuracies", type=float, multiple=True, metavar="FRACTION", help="To stop at.  [0.966, 0.98]"
)
@click.option("--load-s", type=float, default=10.0, show_default=True, help="Seconds to load a deployment.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Warm-up runs a cell.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Measured runs a cell.")
@click.option("--no-screen", is_flag=True, help="Believe every row, faulty ones too.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option(
    "--json", "json_out", type=click.Path(dir_okay=False, writable=True), metavar="OUT", help="Write it as JSON."
)
@click.option("--report", type=click.Path(dir_okay=False), metavar="OUT", help="Draw the frontier: .html, .md, .csv.")
def command(
    data: str | None,
    store: str | None,
    strategies: tuple[str, ...],
    reference: str,
    target: str,
    model: str,
    relatives: bool,
    accuracies: tuple[float, ...],
    load_s: float,
    warmup: int,
    repeats: int,
    no_screen: bool,
    seed: int,
    json_out: str | None,
    report: str | None,
) -> int:
    """Meta-metrics: what each strategy of measuring costs, and how accurate it is, against a reference.

    Each recorded deployment in turn is the new one. Every strategy is replayed on it; what it does not measure is
    predicted by the same model.
    """
    from fewmark.evaluate.meta import Charges
    from fewmark.verbs.assess import ACCURACIES, assess_strategies, describe, write_report

    charges = Charges(load_s=load_s, warmup=warmup, repeats=repeats)
    found = assess_strategies(
        data, store=store, strategies=strategies or ("all",), reference=reference, target=target, model=model,
        relatives=relatives, accuracies=accuracies or ACCURACIES, charges=charges, screened=not no_screen, seed=seed,
        progress=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    if json_out is not None:
        text = json.dumps(describe(found, charges, reference), indent=2, allow_nan=False)
        Path(json_out).write_text(text + "\n", encoding="utf-8")
    if report is not None:
        write_report(found, report)
    click.echo(_table(found))
    return 0


def _table(found: Assessment) -> str:
    frontier = {point["strategy"] for point in found.pareto()}
    n, width = len(found.subjects), max(len(name) for name in ("strategy", *found.replays))
    lines = [
        f"{n} deployment{'s' if n > 1 else ''}, {'with' if found.relatives else 'without'} relatives; medians",
        f"{'strategy':{width}} {'time':>7} {'cells':>6} {'accuracy':>9} {'(mean)':>7} {'p90 APE':>8} {'stop right':>11}"
        f" {'96.6% at':>9} {'98% at':>7}",
    ]
    for name in found.replays:
        row = found.summary(name)
        speed_up = "-" if row["speed_up"] is None else f"{row['speed_up']:.1f}×"
        right = f"{row['right']:.0%}" if "right" in row else ""
        mark = " *" if name in frontier else ""
        lines.append(
            f"{name:{width}} {speed_up:>7} {row['n_cells']:6.0f} {_percent(row['relative_accuracy']):>9} "
            f"{_percent(row['relative_accuracy_mean']):>7} {_percent(row['p90_ape']):>8} {right:>11}"
            f" {row['oracle_speed_up_96.6']:8.1f}× {row['oracle_speed_up_98']:6.1f}×{mark}"
        )
    lines.append("time: how many times less than the reference; * on the frontier of time and accuracy")
    lines.append("… at: the gain had an oracle stopped it there; no strategy can know that")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
