"""From a suite file to its cases: deployments × cells, overridden, filtered, unique, in the order written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fewmark.core.columns import DEPLOYMENT_COLUMNS, OPTION_PREFIX, WORKLOAD_COLUMNS, WORKLOAD_PREFIX
from fewmark.core.errors import InputError
from fewmark.core.frozen import FrozenMap
from fewmark.core.json_types import Json
from fewmark.core.values import Case, Deployment, Workload
from fewmark.suites.schema import AxisReference, CellsPart, DeploymentPart, SuiteFile
from fewmark.suites.yaml_file import Document, KeyPath

MAX_CASES: Final = 100_000
AUTO: Final = "auto"  # a batch size that is found when it runs
Cell = dict[str, Any]


def expand(
    suite: SuiteFile, document: Document, included: Sequence[Case], included_auto: Sequence[Case] = ()
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The cases of a suite, those of the suites that it includes first; and those whose batch size is ``auto``.

    The latter have a batch size of 1, where the search begins.

    Raises
    ------
    SuiteError
        If a cell lacks what a case needs, a value is impossible, or there are more than `MAX_CASES`.
    """
    total = (
        len(included) + len(included_auto) + sum(_count(suite, part, document, i) for i, part in enumerate(suite.cells))
    )
    if total > MAX_CASES:
        raise document.error(
            ("cells",), f"a suite has at most {MAX_CASES} cases", got=f"{total} cases", hint="shorten an axis"
        )
    if suite.deployments and not suite.cells:
        raise document.error(
            ("cells",), "field required", hint="say what each deployment is asked, as in cells: [{grid: {…}}]"
        )
    seen: dict[str, Case] = {}
    auto: dict[str, Case] = {}
    cells = itertools.chain(
        (((("include",)), flatten(case)) for case in included),
        (((("include",)), flatten(case) | {"batch_size": AUTO}) for case in included_auto),
        _cells(suite, document),
    )
    for path, cell in cells:
        for override in suite.overrides:
            if override.when.holds(cell):
                cell.update(override.set)
        if suite.only and not any(condition.holds(cell) for condition in suite.only):
            continue
        if any(condition.holds(cell) for condition in suite.exclude):
            continue
        is_auto = cell.get("batch_size") == AUTO
        case = _case(cell | {"batch_size": 1} if is_auto else cell, path, document)
        (auto if is_auto else seen).setdefault(case.case_id, case)
    if not (seen or auto):
        raise document.error(
            (), "the suite has no cases", hint="add deployments and cells, or loosen its 'only' and 'exclude'"
        )
    return tuple(seen.values()), tuple(auto.values())


def flatten(case: Case) -> Cell:
    """A case as a flat mapping of its fields; options as ``option.NAME`` and ``workload.NAME``."""
    out: Cell = {}
    for values, options, prefix in (
        (case.deployment, case.deployment.engine_options, OPTION_PREFIX),
        (case.workload, case.workload.options, WORKLOAD_PREFIX),
    ):
        columns = DEPLOYMENT_COLUMNS if prefix == OPTION_PREFIX else WORKLOAD_COLUMNS
        out |= {name: getattr(values, name) for name in columns if getattr(values, name) is not None}
        out |= {prefix + name: value for name, value in options.items()}
    return out


def _cells(suite: SuiteFile, document: Document) -> Iterator[tuple[KeyPath, Cell]]:
    defaults = _fields(suite.defaults)
    for number, deployment in enumerate(suite.deployments or [DeploymentPart()]):
        base = defaults | _fields(deployment)
        for index, part in enumerate(suite.cells):
            at: KeyPath = ("deployments", number) if suite.deployments else ("cells", index)
            for cell in _part_cells(suite, part, document, index):
                merged = base | cell
                for name in ("engine", "model"):
                    if merged.get(name) is None and not _is_set_later(suite, name):
                        raise document.error((*at, name), "field required", hint=f"say which {name} is measured")
                yield ("cells", index), merged


def _part_cells(suite: SuiteFile, part: CellsPart, document: Document, index: int) -> Iterator[Cell]:
    grid = {field: _axis(suite, part.grid, "grid", field, document, index) for field in part.grid}
    zipped = _zip(suite, part, document, index)
    for case in part.cases or [{}]:
        for combination in itertools.product(*grid.values()):
            for step in zipped:
                yield dict(zip(grid, combination, strict=True)) | step | case


def _zip(suite: SuiteFile, part: CellsPart, document: Document, index: int) -> list[Cell]:
    axes = {field: _axis(suite, part.zip, "zip", field, document, index) for field in part.zip}
    longest = max((len(values) for values in axes.values()), default=1)
    for field, values in axes.items():
        if len(values) not in (1, longest):
            raise document.error(
                ("cells", index, "zip", field),
                f"zipped fields need as many values as each other: {longest}, or one",
                got=f"{len(values)} values",
            )
    return [
        {field: values[step] if len(values) > 1 else values[0] for field, values in axes.items()}
        for step in range(longest)
    ]


def _axis(
    suite: SuiteFile, axes: Mapping[str, object], kind: str, field: str, document: Document, index: int
) -> tuple[Json, ...]:
    values = axes[field]
    if isinstance(values, AxisReference):
        if values not in suite.axes:
            raise document.error(
                ("cells", index, kind, field),
                f"there is no axis {str(values)!r}",
                hint=f"axes of this file: {', '.join(suite.axes) or 'none'}",
            )
        values = suite.axes[values]
    assert isinstance(values, tuple)
    return values


def _count(suite: SuiteFile, part: CellsPart, document: Document, index: int) -> int:
    if not (part.grid or part.zip or part.cases):
        raise document.error(("cells", index), "needs a grid, a zip or cases")
    both = set(part.grid) & set(part.zip)
    if both:
        raise document.error(("cells", index, "zip"), "a field stands in the grid and in the zip", got=sorted(both))
    sizes = [len(_axis(suite, part.grid, "grid", field, document, index)) for field in part.grid]
    steps = len(_zip(suite, part, document, index))
    return math.prod(sizes) * steps * max(1, len(part.cases)) * max(1, len(suite.deployments))


def _fields(part: DeploymentPart) -> Cell:
    out: Cell = {}
    for name in DEPLOYMENT_COLUMNS:
        value = getattr(part, name)
        if value is not None:
            out[name] = value
    return out | {OPTION_PREFIX + name: value for name, value in part.engine_options.items()}


def _is_set_later(suite: SuiteFile, name: str) -> bool:
    return any(name in override.set for override in suite.overrides)


def _case(cell: Cell, path: KeyPath, document: Document) -> Case:
    def options(prefix: str) -> FrozenMap:
        return FrozenMap(
            {
                name.removeprefix(prefix): value
                for name, value in cell.items()
                if name.startswith(prefix) and value is not None
            }
        )

    for name in ("engine", "model", "input_tokens", "output_tokens"):
        if cell.get(name) is None:
            raise document.error((*path, name), "field required", got=_shown(cell))
    try:
        return Case(
            Deployment(
                **{name: cell[name] for name in DEPLOYMENT_COLUMNS if name in cell},
                engine_options=options(OPTION_PREFIX),
            ),
            Workload(
                **{name: cell[name] for name in WORKLOAD_COLUMNS if name in cell}, options=options(WORKLOAD_PREFIX)
            ),
        )
    except InputError as error:
        raise document.error(path, error.what, got=error.got, hint=error.hint) from None


def _shown(cell: Cell) -> str:
    return ", ".join(f"{name}: {value}" for name, value in cell.items()) or "an empty cell"
