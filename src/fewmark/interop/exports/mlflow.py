"""MLflow: a run a measurement in a tracking server or a file store; what it is of as parameters, values as metrics.

A status other than ``ok`` ends the run as failed; forecasts are tagged as such and live in an experiment of their own.
MLflow shows the largest of several values of one metric and step, so a run holds one value of each. From 3.17 on it
refuses folders unless ``MLFLOW_ALLOW_FILE_STORE`` is set.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.columns import (
    CASE_COLUMNS,
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    OPTION_PREFIX,
    SERVING_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.interop.exports.base import MEASUREMENTS, Row, folder, known_rows
from fewmark.interop.table.measurements import PREDICTED

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_TAGS: Final = ("source", "status", "provenance", "predicted_by", "flag", "statistic", "note", "run_id", "tool")
_HINT: Final = (
    "give the URI of a tracking server; sqlite:///… needs the whole package mlflow, "
    "and a folder is refused from 3.17 on unless MLFLOW_ALLOW_FILE_STORE=true"
)
_MAX_TEXT: Final = 500  # characters of a parameter that every version takes


@dataclass(frozen=True)
class MlflowRuns:
    """Runs of an MLflow experiment. OUT is a tracking URI or a folder."""

    experiment: str = "fewmark"

    name = "mlflow"
    description = "MLflow: a run a measurement (OUT is a tracking URI, such as sqlite:///mlflow.db, or a folder)"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Every row, failed ones as failed runs."""
        try:
            from mlflow.entities import Metric, Param, RunTag
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise InputError("MLflow needs its package", got=str(error), hint="pip install 'fewmark[mlflow]'") from None
        uri = out if "://" in out else folder(out).resolve().as_uri()
        moment = int(time.time() * 1000)
        rows = known_rows(frame)
        try:
            client = MlflowClient(tracking_uri=uri)
            for row in rows:
                forecast = row.get("provenance") == PREDICTED
                experiment = _experiment(client, f"{self.experiment}-predictions" if forecast else self.experiment)
                run = client.create_run(experiment, run_name=_name(row))
                client.log_batch(
                    run.info.run_id,
                    metrics=[Metric(name, float(row[name]), moment, 0) for name in _metrics(row)],
                    params=[Param(name, str(row[name])[:_MAX_TEXT]) for name in _parameters(row)],
                    tags=[RunTag(f"fewmark.{name}", str(row[name])) for name in _TAGS if name in row],
                )
                client.set_terminated(run.info.run_id, "FINISHED" if row.get("status", "ok") == "ok" else "FAILED")
        except (MlflowException, ImportError, OSError) as error:
            raise InputError("MLflow took no runs", got=f"{uri}: {error}", hint=_HINT) from None
        return len(rows)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _metrics(row: Row) -> list[str]:
    stems = (*METRIC_COLUMNS, *SERVING_COLUMNS, *COUNT_COLUMNS, "n_repeats")
    return [name for stem in stems for name in (stem, f"{stem}_low", f"{stem}_high") if name in row]


def _parameters(row: Row) -> list[str]:
    return [name for name in row if name in CASE_COLUMNS or name.startswith((OPTION_PREFIX, WORKLOAD_PREFIX))]


def _name(row: Row) -> str:
    parts = [Path(str(row.get("model", "model"))).name, row.get("engine"), row.get("accelerator")]
    return " ".join(str(part) for part in parts if part)
