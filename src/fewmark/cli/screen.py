"""`fewmark screen`."""

from __future__ import annotations

from typing import Any

import click

from fewmark.cli.options import STDOUT, json_option, print_json, write_json
from fewmark.core import InputError

EXAMPLES = 3  # rows shown for each rule; the JSON has them all


@click.command("screen")
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Screen a result file, a folder, archive or glob of them, or a packaged dataset. Repeatable.",
)
@click.option("--store", metavar="URL", help="Screen this store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@json_option("every finding")
def command(data: tuple[str, ...], store: str | None, json_out: str | None) -> None:
    """Find faulty or suspect rows, and say why. Nothing is changed or deleted.

    Models do not see rows marked exclude, see rows marked correct as corrected, and see rows marked warn as they are.
    """
    from fewmark.verbs.screen import screen

    if data and store is not None:
        raise InputError("name files or a store, not both", got={"data": data[0], "store": store})
    named = None if not data else data[0] if len(data) == 1 else data
    result = screen(named, store=store).to_dict()
    for note in result.get("notes", ()):
        click.echo(f"note: {note}", err=True)
    if json_out == STDOUT:
        print_json(result)
        return
    if json_out is not None:
        write_json(json_out, result)
        click.echo(f"wrote {json_out}", err=True)
    click.echo(_summary(result))


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['source']}: {result['n_rows']} rows; {result['n_excluded']} to exclude, "
        f"{result['n_corrected']} corrected, {result['n_warned']} with a warning"
    ]
    lines += _held(**result["summary"]) if "summary" in result else []
    for rule in result["rules"]:
        counts = [f"{rule[action]} {action}" for action in ("exclude", "correct", "warn") if rule[action]]
        if not counts:
            continue
        lines += ["", f"{rule['name']} ({', '.join(counts)}): {rule['description']}"]
        found = [item for item in result["flagged"] if item["rule"] == rule["name"]]
        lines += [f"  {_where(item)}: {item['reason']}" for item in found[:EXAMPLES]]
        if len(found) > EXAMPLES:
            lines.append(f"  … and {len(found) - EXAMPLES} more (--json OUT has them all)")
    return "\n".join(lines)


def _held(
    n_deployments: int, n_cells: int, named: dict[str, dict[str, int]], ranges: dict[str, list[float]]
) -> list[str]:
    """What a large file holds."""
    lines = [f"  {n_deployments:,} deployments, {n_cells:,} cells"]
    for name, counts in named.items():
        told = ", ".join(f"{word} {n:,}" for word, n in list(counts.items())[:5])
        lines.append(f"  {name}: {told}" + (", …" if len(counts) > 5 else ""))
    return lines + [f"  {name}: {low:.4g} to {high:.4g}" for name, (low, high) in ranges.items()]


def _where(item: dict[str, Any]) -> str:
    return f"row {item['row']}" + (f" ({item['place']})" if "place" in item else "")
