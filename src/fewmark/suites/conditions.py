"""Conditions on cells: a field and what must hold for it. Plain comparisons as data; nothing is evaluated as code."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from fewmark.core.columns import CASE_COLUMNS, DEPLOYMENT_COLUMNS, OPTION_PREFIX, WORKLOAD_COLUMNS, WORKLOAD_PREFIX
from fewmark.core.frozen import freeze
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.values import Case

Fields = JsonObject

DERIVED_FIELDS: Final[Mapping[str, str]] = {
    "load": "batch_size, concurrency or request_rate, whichever is given",
    "sequence_tokens": "input_tokens + output_tokens",
    "total_tokens": "batch_size or concurrency × sequence_tokens: the most tokens held at once",
}
_ORDERED: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
COMPARISONS: Final = ("eq", "ne", "in", "not_in", *_ORDERED)


@dataclass(frozen=True, slots=True)
class Condition:
    """Tests of a cell that must all hold: (field, comparison, operand)."""

    tests: tuple[tuple[str, str, object], ...]

    def holds(self, cell: Fields) -> bool:
        """Whether every test holds. An unknown value equals only null, and is neither less nor greater."""
        return all(_holds(field_value(cell, field), comparison, operand) for field, comparison, operand in self.tests)


def is_case_field(name: str) -> bool:
    """Whether a cell may have the field: a case column, ``option.NAME`` or ``workload.NAME``."""
    prefixed = any(name.startswith(prefix) and name != prefix for prefix in (OPTION_PREFIX, WORKLOAD_PREFIX))
    return prefixed or name in CASE_COLUMNS


def parse_condition(value: object) -> Condition:
    """A condition from ``{field: value | [values] | {comparison: operand}}``. Raises `ValueError` with the reason."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError("must map fields to what must hold, as in {batch_size: 64, input_tokens: {gt: 1024}}")
    tests: list[tuple[str, str, object]] = []
    for field, test in value.items():
        if not is_case_field(field) and field not in DERIVED_FIELDS:
            known = ", ".join((*CASE_COLUMNS, *DERIVED_FIELDS))
            raise ValueError(f"no field {field!r}; known: {known}, option.NAME, workload.NAME")
        if isinstance(test, Mapping):
            tests.extend(_comparison(field, comparison, operand) for comparison, operand in test.items())
        elif isinstance(test, list):
            tests.append((field, "in", freeze(test)))
        else:
            tests.append((field, "eq", freeze(test)))
    return Condition(tuple(tests))


def matching(cases: Iterable[Case], conditions: Iterable[object]) -> frozenset[str]:
    """The `case_id` of every case that meets any of the conditions, given as `parse_condition` takes them."""
    parsed = [parse_condition(condition) for condition in conditions]
    return frozenset(case.case_id for case in cases if any(one.holds(case_fields(case)) for one in parsed))


def case_fields(case: Case) -> Fields:
    """A case's fields by their names in a suite."""
    deployment, workload = case.deployment, case.workload
    cell: dict[str, Json] = {name: getattr(deployment, name) for name in DEPLOYMENT_COLUMNS}
    cell |= {name: getattr(workload, name) for name in WORKLOAD_COLUMNS}
    cell |= {f"{OPTION_PREFIX}{name}": value for name, value in deployment.engine_options.items()}
    return cell | {f"{WORKLOAD_PREFIX}{name}": value for name, value in workload.options.items()}


def field_value(cell: Fields, field: str) -> object:
    """The cell's value of a field, derived ones included; None where unknown."""
    if field not in DERIVED_FIELDS:
        return cell.get(field)
    held = cell.get("batch_size") if cell.get("batch_size") is not None else cell.get("concurrency")
    if field == "load":
        return cell.get("request_rate") if held is None else held
    ii, oo = cell.get("input_tokens"), cell.get("output_tokens")
    if not (_is_number(ii) and _is_number(oo)):
        return None
    sequence = ii + oo
    if field == "sequence_tokens":
        return sequence
    return sequence * held if _is_number(held) else None  # at a request rate nobody knows how many are in flight


def _comparison(field: str, comparison: str, operand: object) -> tuple[str, str, object]:
    if comparison not in COMPARISONS:
        raise ValueError(f"{field}: no comparison {comparison!r}; known: {', '.join(COMPARISONS)}")
    if comparison in _ORDERED and not _is_number(operand):
        raise ValueError(f"{field}: {comparison} needs a number, not {operand!r}")
    if comparison in ("in", "not_in") and not isinstance(operand, list):
        raise ValueError(f"{field}: {comparison} needs a list, not {operand!r}")
    return field, comparison, freeze(operand)


def _holds(value: object, comparison: str, operand: object) -> bool:
    if comparison in _ORDERED:
        return _is_number(value) and _is_number(operand) and _ORDERED[comparison](value, operand)
    if comparison in ("in", "not_in") and isinstance(operand, tuple):
        return any(_equal(value, item) for item in operand) is (comparison == "in")
    return _equal(value, operand) is (comparison == "eq")


def _equal(value: object, operand: object) -> bool:
    # True == 1 in Python; in a suite they differ.
    return isinstance(value, bool) is isinstance(operand, bool) and bool(value == operand)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
