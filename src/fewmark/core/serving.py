"""What the canonical table says of a measurement beyond its six metrics: percentiles, rates, counts, and a note."""

from __future__ import annotations

from typing import Final

from fewmark.core.columns import COUNT_COLUMNS, OPTIONAL_COLUMNS, SERVING_COLUMNS
from fewmark.core.json_types import Json
from fewmark.core.metrics import median_of_repeats
from fewmark.core.samples import Sample
from fewmark.core.values import RUN_PROVENANCES, Measurement

STATISTIC_COLUMNS: Final = (*SERVING_COLUMNS, *COUNT_COLUMNS)
_NUMERIC: Final = frozenset(STATISTIC_COLUMNS)


def serving_columns(measurement: Measurement) -> dict[str, Json]:
    """The known ones of `OPTIONAL_COLUMNS`: medians over the samples, of counts the sums; words as they are.

    What was measured here says by itself whether its metrics are means over requests or medians over repeats. Where
    requests were too few for a percentile, the note says that it is a bound.
    """
    out: dict[str, Json] = {}
    served = [sample for sample in measurement.samples if sample.statistics or sample.requests is not None]
    found = [sample.known() for sample in served]
    for name in STATISTIC_COLUMNS if served else ():
        values = [known[name] for known in found if name in known]
        if values:
            out[name] = sum(values) if name in COUNT_COLUMNS else median_of_repeats(name, values)
    for name in OPTIONAL_COLUMNS if measurement.extra else ():  # kept there before these columns were the table's own
        value = measurement.extra.get(name)
        if name not in out and value is not None and (name not in _NUMERIC or _is_number(value)):
            out[name] = value if name in _NUMERIC else str(value)
    if measurement.statistic is not None:
        out["statistic"] = measurement.statistic
    elif measurement.provenance in RUN_PROVENANCES and measurement.samples:
        out["statistic"] = "mean" if served else "median"
    notes = [str(out["note"])] if "note" in out else []
    notes += [note for note in dict.fromkeys(map(_bounds, served)) if note and note not in "; ".join(notes)]
    if notes:
        out["note"] = "; ".join(notes)
    return out


def _bounds(sample: Sample) -> str:
    if sample.requests is None or sample.requests.n_all is not None:
        return ""
    names = [name for name in sample.requests.bounds() if name not in sample.statistics]
    return f"too few requests, so only lower bounds: {', '.join(names)}" if names else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
