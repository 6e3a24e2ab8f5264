"""Between the canonical table and measurements, the values that the store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd

from fewmark.core import (
    CANONICAL_COLUMNS,
    DEPLOYMENT_COLUMNS,
    KNOWN_COLUMNS,
    WORKLOAD_COLUMNS,
    Case,
    Deployment,
    InputError,
    Measurement,
    Projection,
    Sample,
    Status,
    Workload,
)
from fewmark.core.cells import Row
from fewmark.core.columns import (
    FLAG_SEPARATOR,
    LOAD_COLUMNS,
    METRIC_COLUMNS,
    OPTION_PREFIX,
    OPTIONAL_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.core.frozen import FrozenMap, thaw
from fewmark.core.json_types import Json
from fewmark.core.metrics import median_of_repeats
from fewmark.core.samples import number
from fewmark.core.serving import STATISTIC_COLUMNS, serving_columns
from fewmark.core.text import masked
from fewmark.core.values import MEASUREMENT_PROVENANCES
from fewmark.interop.table.frame import build_frame
from fewmark.interop.text.cells import cell_to_option, is_unknown, option_to_cell

PREDICTED: Final = "predicted"  # the provenance of a row that a simulator made
UNKNOWN: Final = "unknown"  # a deployment must name an engine and a model; a table need not

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def is_complete(frame: pd.DataFrame) -> pd.Series:
    """Which rows say enough to be a cell: tokens in, tokens out, and a batch size, concurrency or request rate."""
    load = frame[list(LOAD_COLUMNS)].notna().any(axis=1)
    return frame["input_tokens"].notna() & frame["output_tokens"].notna() & load


def to_measurements(frame: pd.DataFrame) -> Iterator[Measurement]:
    """One measurement a row, with the row's values as its one sample.

    `row` is the index + 1. Options, further workload axes and foreign columns are kept. A column ``provenance`` that
    holds one of fewmark's own words is honoured; else the provenance is "imported".

    Raises
    ------
    InputError
        If a row is not complete (see `is_complete`), is somebody's forecast, or a value is none that a case allows.
    """
    names = list(frame.columns)
    missing = [name for name in CANONICAL_COLUMNS if name not in names]
    if missing:
        raise InputError("a canonical table has all canonical columns", got=f"without {', '.join(missing)}")
    complete = is_complete(frame)
    columns = [frame[name].tolist() for name in names]
    for position, cells in enumerate(zip(*columns, strict=True)):
        row = int(frame.index[position]) + 1
        if not complete.iloc[position]:
            raise InputError(
                f"row {row}: a measurement needs input_tokens, output_tokens and one of {', '.join(LOAD_COLUMNS)}",
                hint="leave such rows out (is_complete tells them)",
            )
        data = dict(zip(names, cells, strict=True))
        if data.get("provenance") == PREDICTED:
            raise InputError(
                f"row {row}: a forecast is not a measurement",
                got=data.get("predicted_by"),
                hint="fewmark import keeps it among the store's predictions",
            )
        yield _measurement(data, row)


def from_measurements(measurements: Iterable[Measurement], withdrawn: Mapping[str, str] = _NONE) -> pd.DataFrame:
    """The canonical table, one row a measurement, its metrics the medians over the samples.

    What was imported comes back as the file had it; of what was measured or projected here, metrics that follow by
    definition are filled in. `withdrawn` maps ids of measurements that no longer hold to the flag that says so.
    """
    rows = [
        _row(m, (withdrawn[key],) if withdrawn and (key := m.measurement_id) in withdrawn else ()) for m in measurements
    ]
    held = {name for row in rows for name in row}
    names = [*CANONICAL_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in held), *sorted(held - {*KNOWN_COLUMNS})]
    if not rows:
        return build_frame({name: [None] for name in names}).iloc[:0]
    columns = {name: [row.get(name) for row in rows] for name in names}
    if set(columns.get("provenance", ())) == {"imported"}:
        del columns["provenance"]
    return build_frame(columns, verbatim=True)


def _measurement(cells: dict[str, Json], row: int) -> Measurement:
    def known(name: str) -> Json:
        value = cells.get(name)
        return None if is_unknown(value) else value

    def measured(name: str) -> float | None:
        value = known(name)
        return None if value is None else number(name, value)

    def words(name: str) -> str | None:
        value = known(name)
        return None if value is None else str(value)

    def prefixed(prefix: str) -> dict[str, Json]:
        found = {name.removeprefix(prefix): cell_to_option(cell) for name, cell in cells.items() if _is(name, prefix)}
        return dict(masked({name: value for name, value in found.items() if value is not None}))

    placement = cell_to_option(known("placement"))
    deployment = Deployment.from_dict(
        {name: known(name) for name in DEPLOYMENT_COLUMNS}
        | {
            "engine": known("engine") or UNKNOWN,
            "model": known("model") or UNKNOWN,
            "placement": placement if isinstance(placement, dict) else placement and str(placement),
            "engine_options": prefixed(OPTION_PREFIX),
        }
    )
    workload = Workload.from_dict(
        {name: known(name) for name in WORKLOAD_COLUMNS} | {"options": prefixed(WORKLOAD_PREFIX)}
    )
    metrics = {name: measured(name) for name in METRIC_COLUMNS}
    stated = {name: found for name in STATISTIC_COLUMNS if (found := measured(name)) is not None}
    foreign: dict[str, Json] = {
        name: value
        for name, cell in cells.items()
        if name not in KNOWN_COLUMNS and not _is(name, OPTION_PREFIX) and not _is(name, WORKLOAD_PREFIX)
        if (value := cell_to_option(cell)) is not None
    }
    if (note := known("note")) is not None:
        foreign["note"] = note
    foreign = dict(masked(foreign)) if foreign else {}  # tools write keys of servers beside their results
    provenance = foreign.pop("provenance", "imported")
    if provenance not in MEASUREMENT_PROVENANCES:
        foreign["provenance"], provenance = provenance, "imported"
    projection = Projection.of_columns(foreign, metrics["e2e_latency_s"]) if provenance == "projected" else None
    flags = str(known("flag") or "").split(FLAG_SEPARATOR)
    n_repeats = measured("n_repeats")
    status = words("status")
    if status not in list(Status):
        raise InputError("unknown status", got=status, hint=f"one of {', '.join(Status)}")
    return Measurement(
        case=Case(deployment, workload),
        status=Status(status),
        samples=(_sample(metrics, stated),) if stated or any(value is not None for value in metrics.values()) else (),
        provenance=str(provenance),
        flags=tuple(flag.strip() for flag in flags if flag.strip()),
        source=words("source"),
        row=row,
        n_repeats=None if n_repeats is None else int(n_repeats),
        extra=FrozenMap(foreign),
        projection=projection,
        statistic=words("statistic"),
    )


def _row(measurement: Measurement, marks: tuple[str, ...] = ()) -> Row:
    deployment, workload = measurement.case.deployment, measurement.case.workload
    row: dict[str, Json] = {"source": measurement.source, "status": str(measurement.status)}
    for name in ("engine", "model"):
        value = getattr(deployment, name)
        row[name] = None if value == UNKNOWN else value
    for name in ("engine_version", "precision", "accelerator", "accelerator_count", "tensor_parallel_size"):
        row[name] = getattr(deployment, name)
    row["placement"] = option_to_cell(thaw(deployment.placement))
    for name in WORKLOAD_COLUMNS:
        row[name] = getattr(workload, name)
    for prefix, options in ((OPTION_PREFIX, deployment.engine_options), (WORKLOAD_PREFIX, workload.options)):
        row |= {f"{prefix}{name}": option_to_cell(thaw(value)) for name, value in options.items()}
    foreign = {f"extra.{n}" if n in CANONICAL_COLUMNS else n: v for n, v in measurement.extra.items()}
    row |= {name: option_to_cell(thaw(v)) for name, v in foreign.items() if name not in (*row, *OPTIONAL_COLUMNS)}
    row["provenance"] = measurement.provenance
    imported = measurement.provenance == "imported"
    for name in METRIC_COLUMNS:
        row[name] = _raw_median(measurement, name) if imported else measurement.median(name)
    row |= serving_columns(measurement)
    n_repeats = measurement.n_repeats
    if measurement.projection is not None:
        row |= measurement.projection.columns()
    row["n_repeats"] = len(measurement.samples) if n_repeats is None and not imported else n_repeats
    row["flag"] = FLAG_SEPARATOR.join((*measurement.flags, *marks)) or None
    return row


def _sample(metrics: dict[str, float | None], stated: dict[str, float]) -> Sample:
    return Sample(**metrics, statistics=FrozenMap(stated)) if stated else Sample(**metrics)  # type: ignore[arg-type]


def _raw_median(measurement: Measurement, name: str) -> float | None:
    values = [value for sample in measurement.samples if (value := getattr(sample, name)) is not None]
    return median_of_repeats(name, values) if values else None


def _is(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and len(name) > len(prefix)
