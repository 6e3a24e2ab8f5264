"""The suite file as frozen, validated models; unknown keys are refused. The JSON Schema is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from fewmark.core.columns import CASE_COLUMNS
from fewmark.core.errors import InputError
from fewmark.core.frozen import FrozenMap, freeze
from fewmark.core.json_types import Json
from fewmark.core.near_names import near_names
from fewmark.suites.conditions import COMPARISONS, DERIVED_FIELDS, Condition, is_case_field, parse_condition

SUITE_FILE_VERSION: Final = 1
MAX_AXIS: Final = 10_000
_T = TypeVar("_T")


class AxisReference(str):
    """The name of an axis of the file, to be looked up."""


def _powers_of_two(ends: object) -> tuple[int, ...]:
    whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole:
        raise ValueError("powers_of_two needs two whole numbers, as in {powers_of_two: [1, 64]}")
    assert isinstance(ends, list)
    low, high = ends
    if not 1 <= low <= high <= 2**40 or low & (low - 1) or high & (high - 1):
        raise ValueError(f"powers_of_two needs two powers of two, the smaller first, not {ends}")
    return tuple(2**exponent for exponent in range(low.bit_length() - 1, high.bit_length()))


def _axis(value: object) -> tuple[Json, ...]:
    if isinstance(value, Mapping):
        if set(value) != {"powers_of_two"}:
            raise ValueError("must be a value, a list of values, or {powers_of_two: [LOW, HIGH]}")
        return _powers_of_two(value["powers_of_two"])
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("must have at least one value")
    if len(values) > MAX_AXIS:
        raise ValueError(f"must have at most {MAX_AXIS} values, not {len(values)}")
    return tuple(_json_value(item) for item in values)


def _axis_or_reference(value: object) -> tuple[Json, ...] | AxisReference:
    if isinstance(value, Mapping) and set(value) == {"axis"}:
        if not isinstance(value["axis"], str):
            raise ValueError(f"axis needs the name of an axis, not {value['axis']!r}")
        return AxisReference(value["axis"])
    if isinstance(value, Mapping) and set(value) != {"powers_of_two"}:
        raise ValueError("must be a value, a list of values, {powers_of_two: [LOW, HIGH]}, or {axis: NAME}")
    return _axis(value)


def _json_value(value: object) -> Json:
    try:
        return freeze(value)
    except InputError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(f"{error.what}, not {value!r}{hint}") from None


def _json_mapping(value: object) -> FrozenMap:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping, not {value!r}")
    frozen = _json_value(value)
    assert isinstance(frozen, FrozenMap)
    return frozen


def _placement(value: object) -> str | FrozenMap | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    if isinstance(value, Mapping) and value:
        return _json_mapping(value)
    raise ValueError(f"must be accelerator, cpu or disk, or a mapping for weights and cache, not {value!r}")


class UnknownFieldError(ValueError):
    """A field that no case has; `name` is the key, for its line."""

    def __init__(self, name: str) -> None:
        self.name = name
        close = near_names(name, CASE_COLUMNS)
        known = f"known: {', '.join(CASE_COLUMNS)}, option.NAME, workload.NAME"
        super().__init__(f"no field {name!r}; {f'did you mean {close[0]}?' if close else known}")


def _known_fields(value: dict[str, _T]) -> dict[str, _T]:
    for name in value:
        if not is_case_field(name):
            raise UnknownFieldError(name)
    return value


_VALUE_SCHEMA: Final = {"type": ["string", "number", "boolean", "object", "null"]}
_POWERS_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["powers_of_two"],
    "properties": {
        "powers_of_two": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}
    },
    "description": "Every power of two from the first to the second, both included.",
}
_REFERENCE_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["axis"],
    "properties": {"axis": {"type": "string"}},
    "description": "The values of the named axis.",
}
_LIST_SCHEMA: Final = {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1, "maxItems": MAX_AXIS}
_SCALAR_SCHEMA: Final = {"type": ["string", "number", "boolean", "null"]}
_FIELD_NAMES: Final = {"pattern": f"^({'|'.join(CASE_COLUMNS)}|(option|workload)\\..+)$"}
_CONDITION_SCHEMA: Final = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"pattern": f"^({'|'.join((*CASE_COLUMNS, *DERIVED_FIELDS))}|(option|workload)\\..+)$"},
    "additionalProperties": {
        "anyOf": [
            _SCALAR_SCHEMA,
            {"type": "array"},
            {"type": "object", "additionalProperties": False, "properties": {name: {} for name in COMPARISONS}},
        ]
    },
    "description": "Fields and what must hold for all of them: a value, a list of values, or comparisons.",
}
_FIELDS_SCHEMA: Final = {"type": "object", "minProperties": 1, "propertyNames": _FIELD_NAMES}

Axis = Annotated[Any, PlainValidator(_axis), WithJsonSchema({"anyOf": [_SCALAR_SCHEMA, _LIST_SCHEMA, _POWERS_SCHEMA]})]
AxisOrReference = Annotated[
    Any,
    PlainValidator(_axis_or_reference),
    WithJsonSchema({"anyOf": [_SCALAR_SCHEMA, _LIST_SCHEMA, _POWERS_SCHEMA, _REFERENCE_SCHEMA]}),
]
AxesByField = Annotated[
    dict[str, AxisOrReference],
    AfterValidator(_known_fields),
    Field(json_schema_extra={"propertyNames": _FIELD_NAMES}),
]
Values = Annotated[dict[str, Annotated[Any, PlainValidator(_json_value)]], AfterValidator(_known_fields)]
CellFields = Annotated[Values, WithJsonSchema(_FIELDS_SCHEMA)]
JsonMapping = Annotated[
    Any, PlainValidator(_json_mapping), WithJsonSchema({"type": "object", "additionalProperties": True})
]
Placement = Annotated[
    Any, PlainValidator(_placement), WithJsonSchema({"type": ["string", "object", "null"], "examples": ["disk"]})
]
ConditionField = Annotated[Any, PlainValidator(parse_condition), WithJsonSchema(_CONDITION_SCHEMA)]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class DeploymentPart(_Part):
    """What serves; every field may also come from `defaults` or from the cells."""

    engine: Text | None = None
    """An engine's name, as `fewmark engines` lists them."""
    engine_version: Text | None = None
    model: Text | None = None
    """A named shape (random weights), a config.json, or a checkpoint directory."""
    precision: Text | None = None
    accelerator: Text | None = None
    """The accelerator's name; left out, whatever the machine has."""
    accelerator_count: Count | None = None
    tensor_parallel_size: Count | None = None
    placement: Placement = None
    """Where the tensors live: accelerator, cpu or disk, or a mapping for weights and cache."""
    engine_options: JsonMapping = Field(default_factory=FrozenMap)
    """Options of the engine, as option.NAME elsewhere."""


class CellsPart(_Part):
    """Cells: the product of a grid and a zip, or cases written out."""

    grid: AxesByField = {}
    """Fields and their values; every combination is a cell."""
    zip: AxesByField = {}
    """Fields and their values, as many for each; taken in step. One value is repeated."""
    cases: list[CellFields] = []
    """Cells written out; the grid and the zip, where given, are crossed with each."""


class OverridePart(_Part):
    """Fields that are set differently where a condition holds."""

    when: ConditionField = Field(default_factory=lambda: Condition(()))
    """Which cells; left out, all."""
    set: Annotated[CellFields, Field(min_length=1)]
    """The fields and their new values; null takes a value away."""


class TruncatePart(_Part):
    """Generation cut short, the rest to be projected."""

    output_tokens: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """The tokens really generated; auto: as few as the error allows."""
    rule: Literal["growth", "mean", "flexllmgen"] = "growth"
    """How the rest is projected."""
    target_error: Annotated[float, Field(gt=0, lt=1, strict=False)] = 0.03
    """The median error that auto keeps below."""
    validate_cells: Annotated[int, Field(ge=0)] = 3
    """So many cells of each deployment, at most a third, are also measured in full: to learn from and to check."""
    only: list[ConditionField] = []
    """Which cells: those that match any of these; left out, all."""


class AutoBatchPart(_Part):
    """How a batch size of `auto` is found."""

    rule: Literal["throughput", "largest"] = "throughput"
    """The batch with the highest throughput, or FlexLLMGen's rule: the largest that fits."""
    max_batch: Count = 1024
    """The largest batch that is tried."""


class SettingsPart(_Part):
    """How the cases are measured; what is left out is the runner's to choose."""

    min_repeats: Count | None = None
    max_repeats: Count | None = None
    """As many as the fewest: exactly so many repeats, however noisy."""
    target_half_width: Annotated[float, Field(gt=0, lt=1, strict=False)] | None = None
    """Repeat until the relative confidence half-width of the median is this small."""
    warmup: Annotated[int, Field(ge=0)] | None = None
    """Runs that are thrown away before the first repeat of a case, or of each visit."""
    rounds: Count | None = None
    """In how many rounds over the cells of a deployment the repeats are made; one: each cell's one after the other."""
    n_requests: Count | None = None
    """Requests of a window of a loop on a server; left out, as many as the load needs to be steady."""
    window_s: Annotated[float, Field(gt=0, strict=False)] | None = None
    """In their place, seconds of a window."""
    slo: list[Annotated[dict[str, Annotated[float, Field(gt=0, strict=False)]], Field(min_length=1)]] | None = None
    """Tiers of objectives, as in [{ttft_s: 0.5, tpot_s: 0.05}]: how many meet each; goodput is of the first."""
    validity: dict[str, Annotated[float, Field(ge=0, strict=False)]] | None = None
    """What makes a window invalid, where it is not the default, as in {lateness_s: 0.05}."""
    timeout_s: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Seconds after which a case is given up."""
    load_timeout_s: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Seconds after which the loading of a deployment is given up."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the order and of the prompts."""
    truncate: TruncatePart | None = None
    auto_batch: AutoBatchPart | None = None

    @model_validator(mode="after")
    def _check_repeats(self) -> Self:
        if self.min_repeats and self.max_repeats and self.min_repeats > self.max_repeats:
            raise ValueError("min_repeats must not exceed max_repeats")
        return self


class SuiteFile(_Part):
    """A benchmark suite: which cases to measure, and how."""

    version: Literal[1] = 1
    """The version of this file format."""
    title: str = ""
    description: str = ""
    include: list[Text] = []
    """Suites whose cases and settings are taken over: names of the catalogue, or paths relative to this file."""
    axes: dict[str, Axis] = {}
    """Named lists of values, referred to as {axis: NAME}."""
    defaults: DeploymentPart = Field(default_factory=DeploymentPart)
    """Fields of every deployment that does not set them itself."""
    deployments: list[DeploymentPart] = []
    """Each is crossed with all cells."""
    cells: list[CellsPart] = []
    """What each deployment is asked; a cell may also set fields of the deployment."""
    overrides: list[OverridePart] = []
    """Changes to cells, in order, before `only` and `exclude`."""
    only: list[ConditionField] = []
    """Keep the cells that match any of these; left out, all."""
    exclude: list[ConditionField] = []
    """Leave out the cells that match any of these."""
    settings: SettingsPart = Field(default_factory=SettingsPart)


PARTS: Final[Mapping[str, type[_Part]]] = {
    "": SuiteFile,
    "defaults": DeploymentPart,
    "deployments": DeploymentPart,
    "cells": CellsPart,
    "overrides": OverridePart,
    "settings": SettingsPart,
    "settings.truncate": TruncatePart,
    "settings.auto_batch": AutoBatchPart,
}


def suite_schema() -> dict[str, Json]:
    """The JSON Schema of a suite file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SuiteFile.model_json_schema()
