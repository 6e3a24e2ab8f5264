"""Options that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from fewmark.cli.choices import Named
from fewmark.core.errors import InputError
from fewmark.core.files import write_file

F = TypeVar("F", bound=Callable[..., Any])

STDOUT = "-"


def seed_option(of: str = "everything random") -> Callable[[F], F]:
    """`--seed`, which is `random_state` in Python."""
    return click.option(
        "--seed", "random_state", type=click.IntRange(0), default=0, show_default=True, help=f"Seed of {of}."
    )


def measurements_options() -> Callable[[F], F]:
    """`--data` and `--store`: the measurements that a command learns from."""
    data = click.option(
        "--data", type=Named("datasets"), metavar="TABLE",
        help="Measurements: any format, or a packaged dataset.  [default: the store]",
    )  # fmt: skip
    store = click.option(
        "--store", metavar="URL", help="Store of measurements, without --data.  [default: $FEWMARK_STORE or fewmark.db]"
    )
    return lambda command: data(store(command))


def json_option(what: str) -> Callable[[F], F]:
    """`--json`, which prints JSON instead of text, or `--json OUT`, which writes a file beside the text."""
    return click.option(
        "--json", "json_out", is_flag=False, flag_value=STDOUT, metavar="[OUT]",
        help=f"Print {what} as JSON; with OUT, write it there and print text.",
    )  # fmt: skip


def values_by_column(texts: Iterable[str], option: str) -> dict[str, str]:
    """``("engine=vllm",)`` as a mapping. Raises `InputError` where one is no such pair."""
    out = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError("rows are chosen by COLUMN=VALUE", got=text, hint=f"{option} engine=vllm")
        out[name] = value
    return out


def print_json(document: object) -> None:
    """Print a document as JSON on standard output; numbers that are not finite (no bound, unknown) are null."""
    click.echo(_text(document))


def write_json(out: str, document: object) -> None:
    """Write a document as `print_json` prints it. Raises `InputError` if the file cannot be written."""
    write_file(out, f"{_text(document)}\n")


def _text(document: object) -> str:
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
