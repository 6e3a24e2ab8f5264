"""Between the frozen values and the rows of the tables.

The JSON in `body` is the value itself; every other column is a copy for filtering, or follows from it. An environment
is kept once and taken out of the bodies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fewmark.core import (
    Case,
    Cost,
    Deployment,
    FrozenMap,
    InputError,
    Measurement,
    Prediction,
    Sample,
    Status,
    StoreError,
    Workload,
    content_hash,
    derive_metrics,
)
from fewmark.core.columns import (
    DEPLOYMENT_COLUMNS,
    FLAG_SEPARATOR,
    METRIC_COLUMNS,
    NUMERIC_COLUMNS,
    OPTIONAL_COLUMNS,
    WORKLOAD_COLUMNS,
)
from fewmark.core.errors import MALFORMED
from fewmark.core.frozen import as_number, canonical_json, thaw
from fewmark.core.metrics import median_of_repeats
from fewmark.core.serving import serving_columns
from fewmark.core.text import brief, encodable
from fewmark.core.validity import is_absurd
from fewmark.store.annotations import Annotation
from fewmark.store.database import DAMAGED_HINT
from fewmark.store.schema import COST_COLUMNS

_REMEMBERED: Final = 10_000
_PREDICTION_NUMBERS: Final = ("value", "low", "high", "confidence_level", "similarity")

_NOWHERE: Final = FrozenMap()

Row = dict[str, object]
_Kept = TypeVar("_Kept")


@contextmanager
def reading(table: str) -> Iterator[None]:
    """Turn what a damaged row of a table does to its reader into one error that names the table."""
    try:
        yield
    except (*MALFORMED, InputError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StoreError(f"a row of the table {table} is damaged", got=reason, hint=DAMAGED_HINT) from None


def readable_number(value: object) -> float:
    """A number of a column as it was stored; NaN where it is unknown, or no number at all."""
    found = None if value is None else as_number(value)
    return float("nan") if found is None else float(found)


def holds_nonsense(name: str, value: object) -> bool:
    """Whether a metric's column holds what the metric cannot be."""
    if value is None:
        return False
    found = as_number(value)
    return found is None or is_absurd(name, found)


@dataclass
class Batch:
    """Rows for one transaction, by table and each once, keyed by what identifies them."""

    environments: dict[str, Row] = field(default_factory=dict)
    deployments: dict[str, Row] = field(default_factory=dict)
    cases: dict[str, Row] = field(default_factory=dict)
    facts: dict[str, Row] = field(default_factory=dict)
    serving: dict[str, Row] = field(default_factory=dict)
    case_columns: Mapping[str, Iterable[object]] = field(default_factory=dict)
    fact_columns: Mapping[str, Iterable[object]] = field(default_factory=dict)  # after the other rows
    _environment_ids: dict[int, tuple[str, FrozenMap]] = field(default_factory=dict, repr=False)  # by identity

    def add_measurement(self, measurement: Measurement, added_at: str) -> None:
        """Add the measurement with what it refers to. Raises `InputError` where a number is none that JSON knows."""
        body = measurement.known_parts()
        try:
            key = content_hash(body, 32)  # the measurement_id, without serialising once more
            measurement.__dict__.setdefault("measurement_id", key)  # whoever refers to it asks again
            environment_id = None
            if body.pop("environment", None) is not None:
                environment_id = self._add_environment(measurement.environment)
            row = {
                "measurement_id": key,
                "environment_id": environment_id,
                "status": str(measurement.status),
                "provenance": measurement.provenance,
                "source": column_text(measurement.source),
                "flag": column_text(FLAG_SEPARATOR.join(measurement.flags) or None),
                "source_row": _real(measurement.row),
                "n_repeats": _real(_n_repeats(measurement)),
                "measured_at": column_text(measurement.measured_at),
                "added_at": added_at,
                **_medians(measurement),
                **{name: _real(getattr(measurement.cost, name)) for name in COST_COLUMNS},
                "has_extra": int(bool(measurement.extra) or measurement.projection is not None),
                "body": _dump(body),
                **self._add_case(measurement.case),
            }
            serving = _serving(key, measurement)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "a measurement holds a value that cannot be stored",
                got=f"{error}, in a measurement of {measurement.case.deployment.label}",
                hint="numbers must be finite, everything else a JSON value; unknown is None",
            ) from None
        self.facts[key] = row
        if serving is not None:
            self.serving[key] = serving

    def add_prediction(self, prediction: Prediction, added_at: str) -> None:
        """Add the prediction with its case. Raises `InputError` where a number is not finite."""
        try:
            numbers = {
                name: float(value) for name in _PREDICTION_NUMBERS if (value := getattr(prediction, name)) is not None
            }
            words = {name: getattr(prediction, name) for name in ("metric", "provenance", "abstained", "model")}
            body = {"case": prediction.case.to_dict(), **numbers, **words}
            key = content_hash(body, 32)
            text = _dump(body)
            case_id = self._add_case(prediction.case)["case_id"]
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "a prediction holds a value that cannot be stored",
                got=f"{error}, in a prediction for {prediction.case.deployment.label}",
                hint="numbers must be finite; unknown is None",
            ) from None
        self.facts[key] = {
            "prediction_id": key,
            "case_id": case_id,
            "metric": column_text(prediction.metric),
            "model": column_text(prediction.model),
            "added_at": added_at,
            "body": text,
        }

    def _add_environment(self, environment: FrozenMap) -> str:
        if (known := self._environment_ids.get(id(environment))) is not None:
            return known[0]
        text = canonical_json(environment)
        # Of the text itself: two environments that differ at all are two.
        key = content_hash(text, 32)
        self.environments[key] = {"environment_id": key, "body": text}
        self._environment_ids[id(environment)] = key, environment
        return key

    def _add_case(self, case: Case) -> Row:
        deployment = case.deployment
        if deployment.deployment_id not in self.deployments:
            self.deployments[deployment.deployment_id] = deployment_row(deployment)
        if case.case_id not in self.cases:
            self.cases[case.case_id] = case_row(case)
        return {"case_id": case.case_id, "deployment_id": deployment.deployment_id}


class Reader:
    """Values out of rows. Cases and environments that many rows share become one object."""

    def __init__(self) -> None:
        self._cases: dict[str, tuple[object, Case]] = {}
        self._deployments: dict[str, tuple[object, Deployment]] = {}

    def measurement(self, body: str, case_id: str, deployment_id: str, environment: FrozenMap | None) -> Measurement:
        """The measurement, equal to the one that was added; one that holds what cannot be is ``invalid`` and says why.

        Raises
        ------
        StoreError
            If its row is damaged.
        """
        try:
            data = json.loads(body)
            case = self.case(data.pop("case"), case_id, deployment_id)
        except (*MALFORMED, InputError) as error:
            raise StoreError(
                "a row of the table measurements is damaged",
                got=f"a measurement of case {brief(case_id)}: {type(error).__name__}: {error}",
                hint=DAMAGED_HINT,
            ) from None
        try:
            return self._measurement(case, dict(data), environment)
        except (*MALFORMED, InputError) as error:
            source, row = data.get("source"), data.get("row")
            return Measurement(
                case,
                Status.INVALID,
                error=f"stored values that cannot be: {error}",
                environment=environment or _NOWHERE,
                source=source if isinstance(source, str) else None,
                row=row if isinstance(row, int) else None,
            )

    def _measurement(self, case: Case, data: dict[str, Any], environment: FrozenMap | None) -> Measurement:
        samples = tuple(_sample(sample) for sample in data.pop("samples", ()))
        cost = Cost(**data.pop("cost", {}))
        return Measurement(case=case, samples=samples, cost=cost, environment=environment or _NOWHERE, **data)

    def case(self, data: Mapping[str, Any], case_id: str, deployment_id: str) -> Case:
        """The case behind its JSON. Equal ids leave open what is unknown, so the JSON must be equal, too."""
        known = self._cases.get(case_id)
        if known is not None and known[0] == data:
            return known[1]
        deployment = self._deployments.get(deployment_id)
        if deployment is None or deployment[0] != data["deployment"]:
            deployment = (data["deployment"], Deployment.from_dict(data["deployment"]))
            _remember(self._deployments, deployment_id, deployment)
        case = Case(deployment[1], Workload.from_dict(data["workload"]))
        _remember(self._cases, case_id, (data, case))
        return case


def deployment_row(deployment: Deployment) -> Row:
    """The row of a deployment."""
    return {
        "deployment_id": deployment.deployment_id,
        **{name: deployment_column(name, getattr(deployment, name)) for name in DEPLOYMENT_COLUMNS},
        "body": _dump(deployment.to_dict()),
    }


def case_row(case: Case) -> Row:
    """The row of a case."""
    keys = {"case_id": case.case_id, "deployment_id": case.deployment.deployment_id}
    return keys | workload_columns(case.workload)


def workload_columns(workload: Workload) -> Row:
    """What a case's row says of its workload."""
    return {
        **{name: _real(getattr(workload, name)) for name in WORKLOAD_COLUMNS},
        "options": _dump(thaw(workload.options)) if workload.options else None,
    }


def read_prediction(body: str) -> Prediction:
    """The prediction behind its body."""
    with reading("predictions"):
        data = json.loads(body)
        numbers = {name: data.get(name) for name in ("value", "low", "high")}
        return Prediction(case=Case.from_dict(data.pop("case")), **(numbers | data))


def annotation_row(annotation: Annotation, added_at: str) -> Row:
    """The row of an annotation."""
    return {
        "measurement_id": annotation.measurement_id,
        "rule": column_text(annotation.rule),
        "action": annotation.action,
        "added_at": added_at,
        "body": _dump({"rule": annotation.rule, "reason": annotation.reason, "changes": thaw(annotation.changes)}),
    }


def read_annotation(measurement_id: str, action: str, body: str) -> Annotation:
    """The annotation behind its row."""
    with reading("annotations"):
        return Annotation(measurement_id, action=action, **json.loads(body))


def deployment_column(name: str, value: object) -> object:
    """What the column of a deployment holds for the value; filters go through it as well."""
    if name in NUMERIC_COLUMNS:
        return _real(value)
    return column_text(canonical_json(value) if isinstance(value, Mapping) else value)


def column_text(value: object) -> str | None:
    """Text that every database takes: NUL and lone surrogates, which only JSON can carry, become U+FFFD."""
    if value is None:
        return None
    return encodable(str(value).replace("\0", "\ufffd"))


def _medians(measurement: Measurement) -> Row:
    """Medians over the samples. Imported values stand as they were found; others are filled in by definition."""
    work = measurement.case.workload
    values: dict[str, list[float]] = {name: [] for name in METRIC_COLUMNS}
    if measurement.provenance == "projected":
        return {name: _real(measurement.median(name)) for name in METRIC_COLUMNS}
    for sample in measurement.samples:
        known = _known(sample)
        if measurement.provenance != "imported":
            produced = sample.output_tokens if sample.output_tokens is not None else work.output_tokens
            known |= derive_metrics(
                known, input_tokens=work.input_tokens, output_tokens=produced, batch_size=work.batch_size
            )
        for name, found in values.items():
            if (value := known[name]) is not None:
                found.append(value)
    return {name: _real(median_of_repeats(name, found)) if found else None for name, found in values.items()}


def _known(sample: Sample) -> dict[str, float | None]:
    known = {name: getattr(sample, name) for name in METRIC_COLUMNS}
    if sample.requests is not None:
        implied = sample.requests.statistics()
        known |= {name: implied.get(name) for name, value in known.items() if value is None}
    return known


def _serving(measurement_id: str, measurement: Measurement) -> Row | None:
    """The row of a measurement that has more than the six metrics; None for all others, such as those of batches."""
    if not (
        measurement.statistic or any(sample.statistics or sample.requests is not None for sample in measurement.samples)
    ):
        return None
    found = serving_columns(measurement)
    return {"measurement_id": measurement_id} | {
        name: _real(found.get(name)) if name in NUMERIC_COLUMNS else column_text(found.get(name))
        for name in OPTIONAL_COLUMNS
    }


def _sample(data: dict[str, Any]) -> Sample:
    if "statistics" in data:
        data["statistics"] = FrozenMap(data["statistics"])
    return Sample(**data)


def _n_repeats(measurement: Measurement) -> int | None:
    if measurement.n_repeats is not None or measurement.provenance == "imported":
        return measurement.n_repeats
    return len(measurement.samples)


def _real(value: Any) -> float | None:
    return None if value is None else float(value)


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _remember(memory: dict[str, _Kept], key: str, value: _Kept) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value
