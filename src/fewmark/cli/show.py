"""`fewmark show`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fewmark.cli.figures import text_table
from fewmark.cli.options import print_json
from fewmark.cli.results import COLUMNS, value_text
from fewmark.cli.windows import window_lines
from fewmark.core.text import printable

if TYPE_CHECKING:
    from fewmark.verbs.show import CaseResult, Shown

ROWS = 40  # cases listed, the latest ones
SAMPLES = 20  # of a measurement
RECORD = 2_000  # characters of a record; the JSON has all that is kept


@click.command("show")
@click.argument("case", required=False, nargs=-1)
@click.option("--store", metavar="URL", help="The store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--all", "everything", is_flag=True, help=f"List every case, not only the latest {ROWS}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(case: tuple[str, ...], store: str | None, everything: bool, as_json: bool) -> None:
    """Show the store's results, or everything about one CASE: samples, marks, origin.

    CASE is the id of a case or a measurement, the start of one, or words of its name (`fewmark show m7b H100 1024`).
    """
    from fewmark.verbs.show import show

    found = show(" ".join(case) or None, store=store)
    if as_json:
        print_json(found.to_dict())
    elif found.in_full:
        click.echo(printable("\n\n".join(_in_full(found, result) for result in found.results)))
        if found.n_cases > len(found.results):
            click.echo(f"\n{found.n_cases - len(found.results)} more cases match; say more words", err=True)
    else:
        _list(found, len(found.results) if everything else ROWS)


def _list(found: Shown, most: int) -> None:
    from fewmark.verbs.show import describe

    rows = [("case", *(title for _, title, _ in COLUMNS), "n", "status", "what", "marks")]
    for result in found.results[-most:]:
        cells = [value_text(result, name, scale) for name, _, scale in COLUMNS]
        marks = ", ".join(result.marks[:2]) + (" …" if len(result.marks) > 2 else "")
        rows.append(
            (
                result.case.case_id[:8],
                *cells,
                str(len(result.measurements)),
                result.status,
                describe(result.case),
                marks,
            )
        )
    click.echo(printable(text_table(rows, left=(0, len(COLUMNS) + 2, len(COLUMNS) + 3, len(COLUMNS) + 4))))
    if len(found.results) > most:
        click.echo(f"… and {len(found.results) - most} earlier cases (--all)", err=True)


def _in_full(found: Shown, result: CaseResult) -> str:
    from fewmark.verbs.show import describe

    lines = [f"case {result.case.case_id}: {describe(result.case)}"]
    options = {**result.case.deployment.engine_options, **result.case.workload.options}
    lines += [f"  {name}: {value}" for name, value in options.items()]
    lines += [
        f"  {title}: {value_text(result, name, scale)}" for name, title, scale in COLUMNS if name in result.values
    ]
    for measurement in result.measurements:
        lines += ["", *_measurement(found.told(measurement))]
    return "\n".join(lines)


def _measurement(item: Mapping[str, Any]) -> list[str]:
    lines = [f"  measurement {item['measurement_id'][:12]}: {item['status']}, {item['provenance']}"]
    lines[0] += f", {item['measured_at']}" if item.get("measured_at") else ""
    if item.get("error"):
        lines.append(f"    error: {item['error']}")
    samples = item.get("samples", [])
    for number, sample in enumerate(samples[:SAMPLES], start=1):
        numbers = {**sample, **sample.get("statistics", {})}
        said = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items() if isinstance(value, (int, float)))
        lines.append(f"    sample {number}: {said}")
    if len(samples) > SAMPLES:
        lines.append(f"    … and {len(samples) - SAMPLES} more samples (--json has them all)")
    extra = dict(item.get("extra") or {})
    windows = {kind: extra.pop(kind, None) or () for kind in ("windows", "invalid_windows")}
    lines += [
        f"    {name}: " + ", ".join(f"{key} {value}" for key, value in said.items())
        for name, said in (("cost", item.get("cost")), ("extra", extra))
        if said
    ]
    for number, window in enumerate((window for kind in windows.values() for window in kind), start=1):
        lines += [f"    {line}" for line in window_lines(window, f"window {number}")]
    lines += [f"    {mark['action']} ({mark['rule']}): {mark['reason']}" for mark in item["marks"]]
    for origin in item["origins"]:
        changed = f", of {origin['modified_at']}" if origin["modified_at"] else ""
        kind = f"{origin['format']}{changed}"
        when = origin["imported_at"][:19]
        lines.append(f"    from {origin['file']}, {origin['place']} ({kind}), imported {when}")
        if origin["record"] is not None:
            text = json.dumps(origin["record"], ensure_ascii=False)
            lines.append(f"      {text if len(text) <= RECORD else text[:RECORD] + '…'}")
    return lines
