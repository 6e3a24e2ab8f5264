"""The names that options take: under a command's help, and completed by the shell; loaded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import wrap
from typing import Final

import click
from click.shell_completion import CompletionItem


def _models() -> list[str]:
    from fewmark.models.registry import model_names

    return model_names()


def _targets() -> list[str]:
    from fewmark.core.metrics import ALL_TARGETS

    return list(ALL_TARGETS)


def _protocols() -> list[str]:
    from fewmark.evaluation.protocols import PROTOCOLS

    return list(PROTOCOLS)


def _strategies() -> list[str]:
    from fewmark.planning.strategies import strategy_names

    return list(strategy_names())


def _suites() -> list[str]:
    from fewmark.suites import suite_names

    return list(suite_names())


def _datasets() -> list[str]:
    from fewmark import datasets

    return list(datasets.names())


NAMES: Final[Mapping[str, Callable[[], list[str]]]] = {
    "models": _models,
    "targets": _targets,
    "protocols": _protocols,
    "strategies": _strategies,
    "suites": _suites,
    "datasets": _datasets,
}


class Named(click.types.StringParamType):
    """A text, mostly one of some names: listed by `NamedChoices`, completed by the shell, checked by the verb."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; where none does, files."""
        found = [CompletionItem(name) for name in NAMES[self.kind]() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class NamedChoices(click.Command):
    """A command whose help ends with the names that its parameters take."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of each kind once."""
        kinds = dict.fromkeys(item.type.kind for item in self.params if isinstance(item.type, Named))
        indent = max((len(kind) for kind in kinds), default=0) + 4
        with formatter.section("Names"):
            for kind in kinds:  # a name is never broken at its hyphens
                lines = wrap(", ".join(NAMES[kind]()), formatter.width - indent, break_on_hyphens=False)
                formatter.write(f"  {kind:{indent - 2}}" + f"\n{' ' * indent}".join(lines) + "\n")
        super().format_epilog(ctx, formatter)
