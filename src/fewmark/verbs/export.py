"""`fewmark export`: what is known, predicted, planned or recommended, in the formats of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

import pandas as pd

from fewmark.core import InputError, ModelError, Prediction
from fewmark.interop import from_measurements
from fewmark.interop.exports import CELLS, MEASUREMENTS, PREDICTIONS, Exporter, exporter_names, make_exporter
from fewmark.interop.exports.predicted import predicted_table
from fewmark.interop.exports.registry import SUFFIXES
from fewmark.store import open_store
from fewmark.verbs.predict import as_predictions, predict
from fewmark.verbs.source import Tabular, read_cases, read_source, read_unscreened

_OWN = ("csv", "parquet", "json", "prometheus", "mlflow")  # which say of each row what it is


def export(
    out: str | PurePath,
    *,
    format: str = "auto",  # noqa: A002  the option's own word
    store: str | None = None,
    data: Tabular | None = None,
    cases: Tabular | None = None,
    settings: Mapping[str, str] | None = None,
    model: str = "auto",
    safe_csv: bool = False,
) -> int:
    """Write measurements, forecasts or cells as another tool reads them.

    Parameters
    ----------
    out : path
        A file, or a folder or URI where the format has those.
    format : str, default "auto"
        A name of `fewmark.interop.exports.exporter_names`; "auto": by the suffix.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    data : rows, path or str, optional
        What is exported or (with `cases`) what is learned from; by default what the store holds.
    cases : rows or path, optional
        Cells to predict, whose forecasts are exported; without them a format of forecasts takes those of the store.
    settings : mapping of str, optional
        The format's own settings.
    model : str, default "auto"
        A name of `fewmark.models.registry`, which predicts `cases`.
    safe_csv : bool, default False
        Of CSV, whether what a spreadsheet would execute is neutralised.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    InputError, FormatError, ModelError
        If the format is unknown, there is nothing that it can hold, or the file cannot be written.
    StoreError
        If the store cannot be opened or read.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> fewmark.export("cells.csv", data=datasets.example())
    24
    """
    place = str(out)
    exporter = _exporter(place, format, {**(settings or {}), **({"safe": "true"} if safe_csv else {})})
    if cases is not None:
        if exporter.takes != PREDICTIONS and exporter.name not in _OWN:
            raise InputError(f"the format {exporter.name} takes {exporter.takes}, not forecasts", got="--cases")
        frame = _forecasts(exporter, cases, data, store, model)
    elif data is not None:
        frame = read_unscreened(data, store=store) if exporter.takes == MEASUREMENTS else read_cases(data)
    elif exporter.takes == CELLS:
        raise InputError(
            f"the format {exporter.name} needs a table of cells",
            hint="say --data TABLE: what fewmark plan --out or fewmark recommend --out wrote",
        )
    else:
        frame = _stored(exporter, store)
    return exporter.write(frame, place)


def exporters() -> list[tuple[str, str, str]]:
    """The name, what it takes and the description of each format that can be written."""
    return [(made.name, made.takes, made.description) for made in map(make_exporter, exporter_names())]


def _exporter(out: str, name: str, settings: Mapping[str, str]) -> Exporter:
    if name != "auto":
        return make_exporter(name, settings)
    suffix = PurePath(out).suffix
    if suffix not in SUFFIXES:
        hint = f"say --format: {', '.join(exporter_names())}; or end in {', '.join(SUFFIXES)}"
        raise InputError("the name does not tell the format", got=out, hint=hint)
    return make_exporter(SUFFIXES[suffix], settings)


def _stored(exporter: Exporter, store: str | None) -> pd.DataFrame:
    with open_store(store, create=False) as opened:
        if exporter.takes == PREDICTIONS:
            return predicted_table(made for made in opened.predictions() if made.provenance != "imported")
        frame = from_measurements(opened.measurements(), opened.withdrawn())
        if frame.empty:
            raise InputError("the store has no measurements", got=opened.url, hint="fewmark run or fewmark import")
    return frame


def _forecasts(exporter: Exporter, cases: Tabular, data: Tabular | None, store: str | None, model: str) -> pd.DataFrame:
    """Forecasts of the cases, of every target that can be learned from what is known."""
    known = read_source(data, store=store)
    asked = read_cases(cases, known)
    found: list[Prediction] = []
    failures: list[ModelError | InputError] = []
    for target in exporter.targets or ("throughput_tok_s", "ttft_s", "tpot_s"):
        try:
            predicted = predict(asked, data=data, store=store, target=target, model=model)
        except (ModelError, InputError) as error:
            failures.append(error)
            continue
        found += as_predictions(predicted, target, model, 0.9)
    if not found:
        raise failures[0] if failures else InputError("no case can be predicted from what is known")
    return predicted_table(found)
