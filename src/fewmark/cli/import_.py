"""`fewmark import`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewmark.cli.options import print_json
from fewmark.core import InputError
from fewmark.core.text import counted

EXAMPLES = 3  # cells shown that are known with another value

if TYPE_CHECKING:
    from fewmark.interop.mapping import TableMap
    from fewmark.verbs.import_files import Imported, ImportedFiles
    from fewmark.verbs.known_already import OtherValue


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--format", "name", default="auto", show_default=True, help="Format of the files; auto detects it.")
@click.option("--store", metavar="URL", help="Store to write.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option(
    "--projection-rule", "rule", metavar="RULE", default="growth", show_default=True,
    help="Rule that projects truncated generations: growth, mean or flexllmgen.",
)  # fmt: skip
@click.option("--supersede", is_flag=True, help="Let these values replace earlier imports of the same cases.")
@click.option("--keep-going", is_flag=True, help="Skip files that cannot be read instead of importing nothing.")
@click.option(
    "--map", "map_file", metavar="FILE",
    help="What the columns of your tables are (YAML); auto guesses and asks.",
)  # fmt: skip
@click.option("--write-map", metavar="OUT", help="Write the guess of --map auto to a file, and import nothing.")
@click.option("--yes", is_flag=True, help="Accept the guess of --map auto without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[str, ...],
    name: str,
    store: str | None,
    rule: str,
    supersede: bool,
    keep_going: bool,
    map_file: str | None,
    write_map: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Read measurements from result files into the store; importing a file again adds nothing.

    FILE is a file, a folder, a tar or zip archive, or a quoted glob. All files are read before anything is stored, so a
    malformed one leaves the store as it was. What the screen finds is saved beside the rows; `fewmark screen` shows it.
    """
    from fewmark.verbs.import_files import import_files

    if write_map is not None:
        _write_map(files, write_map)
        return
    table_map = None if map_file is None else _table_map(files, map_file, yes)
    say = lambda text: click.echo(f"{text} …", err=True)  # noqa: E731
    results = import_files(
        files,
        format=name,
        store=store,
        rule=rule,
        supersede=supersede,
        keep_going=keep_going,
        table_map=table_map,
        progress=say,
    )
    if as_json:
        print_json([_plain(result) for result in results])
        _tell_passed_over(results)
        return
    for result in results:
        _tell(result)
    _tell_passed_over(results)


def _table_map(files: Sequence[str], map_file: str, yes: bool) -> TableMap:
    """The map in a file, or the guess that the user has confirmed."""
    from fewmark.interop.mapping import read_map

    if map_file != "auto":
        return read_map(map_file)
    guess = _guess(files)
    click.echo(guess.text(), err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                "nobody is there to confirm the guess",
                hint="--write-map FILE, correct it, and --map FILE; or --yes to take it as it is",
            )
        click.confirm("Is that right?", abort=True, err=True)
    return guess


def _guess(files: Sequence[str]) -> TableMap:
    from fewmark.interop.mapping import guess_map, raw_columns

    columns, separator, _ = raw_columns(Path(files[0]))
    return guess_map(columns, separator=separator)


def _write_map(files: Sequence[str], out: str) -> None:
    from fewmark.core.files import write_file

    text = _guess(files).text()
    write_file(out, text)
    click.echo(text)
    click.echo(f"wrote {out}: correct it, then fewmark import {files[0]} --map {out}", err=True)


def _tell(result: Imported) -> None:
    click.echo(f"{result.path}: {counted(result.n_rows, 'row')} of format {result.format}, {result.n_added} added")
    if result.n_predictions:
        click.echo(f"  {result.n_predictions} forecasts kept as predictions, not as measurements; see fewmark ledger")
    if result.n_poorer:
        click.echo(
            f"  {counted(result.n_poorer, 'row')} not stored: another record tells the same run in no less detail"
        )
    if result.n_copies:
        click.echo(f"  {counted(result.n_copies, 'row')} not stored: another file says the same")
    if result.left_out:
        rows = ", ".join(map(str, result.left_out[:3])) + (" …" if len(result.left_out) > 3 else "")
        click.echo(
            f"  {counted(len(result.left_out), 'row')} left out (row {rows}): tokens in, tokens out, and one of "
            "batch_size, concurrency and request_rate must be known"
        )
    for note in result.notes:
        click.echo(f"  {note}")
    if result.unknown_columns:
        click.echo(f"  columns not understood, kept as they are: {_named(result.unknown_columns)}")
    _tell_other_values(result)
    counts = Counter(finding.action for finding in result.findings)
    if counts:
        told = ", ".join(f"{counts[action]} {action}" for action in ("exclude", "correct", "warn") if counts[action])
        click.echo(f"  screened: {told}; see fewmark screen --data {result.path}")


def _tell_other_values(result: Imported) -> None:
    """What is known of the same cases already, from which file and when, and what to do about it."""
    if not result.other_values:
        return
    superseded = bool(result.n_superseded)
    click.echo(
        f"  {len(result.other_values)} rows are known already with another value: "
        + ("the earlier ones are superseded" if superseded else "both are kept, as contradicting repeats")
    )
    for item in result.other_values[:EXAMPLES]:
        values = f"{item.metric} {item.known:.4g} → {item.new:.4g}" if item.known == item.known else "another status"
        where = f" ({item.file}, imported {item.imported_at[:19]})" if item.file else ""
        click.echo(f"    row {item.row}: {item.label}: {values}{where}")
    if len(result.other_values) > EXAMPLES:
        click.echo(f"    … and {len(result.other_values) - EXAMPLES} more")
    if not superseded:
        click.echo("    if the earlier ones were wrong: import again with --supersede")


def _tell_passed_over(results: ImportedFiles) -> None:
    """Every damaged file by name, and some of the others."""
    rest = {name: reason for name, reason in results.passed_over.items() if name not in results.damaged}
    if results.damaged:
        click.echo(f"{len(results.damaged)} files cannot be read, and were left out:", err=True)
    for name in results.damaged:
        click.echo(f"  {name}: {results.passed_over[name]}", err=True)
    if rest:
        click.echo(f"{len(rest)} files passed over:", err=True)
    for name, reason in list(rest.items())[:10]:
        click.echo(f"  {name}: {reason}", err=True)
    if len(rest) > 10:
        click.echo(f"  … and {len(rest) - 10} more", err=True)


def _named(unknown: Mapping[str, Sequence[str]]) -> str:
    """Up to ten names of columns, each with what it may have meant."""
    shown = [f"{name} (did you mean {' or '.join(near)}?)" if near else name for name, near in unknown.items()]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def _plain(result: Imported) -> dict[str, object]:
    return {
        "file": str(result.path),
        "format": result.format,
        "n_rows": result.n_rows,
        "n_added": result.n_added,
        "n_predictions": result.n_predictions,
        "left_out": list(result.left_out),
        "notes": list(result.notes),
        "unknown_columns": {name: list(near) for name, near in result.unknown_columns.items()},
        "n_poorer": result.n_poorer,
        "n_copies": result.n_copies,
        "n_superseded": result.n_superseded,
        "other_values": [_other_value(value) for value in result.other_values],
        "n_findings": dict(Counter(finding.action for finding in result.findings)),
    }


def _other_value(value: OtherValue) -> dict[str, object]:
    return {name: None if item != item else item for name, item in asdict(value).items()}
