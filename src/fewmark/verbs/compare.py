"""`fewmark compare`: two engines, versions, machines, tools or imports over their common cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fewmark.core import InputError
from fewmark.core.fractions import require_fraction
from fewmark.core.metrics import METRICS, TARGETS
from fewmark.core.text import counted
from fewmark.decide import compare as statistics
from fewmark.decide.compare import Comparison, Verdict
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.common_cells import CommonCells, common_cells, is_failed, mismatch, values_by_cell
from fewmark.tables.identity import cell_columns
from fewmark.tables.metrics import derive
from fewmark.tables.spellings import NOTES, spelled_as
from fewmark.verbs.compare_sides import read_side
from fewmark.verbs.source import Tabular

LATENCIES_FIRST: Final = ("e2e_latency_s", "tpot_s", "ttft_s")
MORE_FAILED: Final = 0.01  # of all requests, from which on more failed ones are said


@dataclass(frozen=True, repr=False)
class Compared:
    """What `fewmark compare` found.

    Attributes
    ----------
    cells : DataFrame
        One row a common cell: its identity, runs and geometric means of each side, ratio, interval, p-values, verdict.
    counts : mapping of counts: cells common, on one side only, failed on one side, without the metric
    notes : what to know about the verdict
    """

    names: tuple[str, str]
    metric: str
    higher_is_better: bool
    threshold: float
    confidence_level: float
    verdict: Verdict
    words: str
    overall: Comparison | None
    cells: pd.DataFrame
    common: CommonCells
    counts: Mapping[str, int]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(
            (f"Compared {self.names[0]} with {self.names[1]}. {self.words}", *map("  note: {}".format, self.notes))
        )

    def to_dict(self) -> dict[str, object]:
        """The JSON of `fewmark compare --json`."""
        found = self.overall
        overall = {} if found is None else {"ratio": found.ratio, "low": found.low, "high": found.high}
        noise = {} if found is None else {"from": found.noise, "cv_a": found.cv_a, "cv_b": found.cv_b, "df": found.df}
        apart = {"compared": self.common.compared, "known_on_one_side": self.common.known_once}
        out: dict[str, object] = {
            "a": self.names[0],
            "b": self.names[1],
            "verdict": self.verdict,
            "words": self.words,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "threshold": self.threshold,
            "confidence_level": self.confidence_level,
            **{key: {name: {"a": a, "b": b} for name, (a, b) in of.items()} for key, of in apart.items()},
            "overall": {**overall, "level": None if found is None else found.level},
            "noise": noise,
            "counts": dict(self.counts),
            "cells": self.cells.to_dict("records"),
            "notes": list(self.notes),
        }
        return {key: _json(value) for key, value in out.items()}


def compare(
    a: Tabular,
    b: Tabular,
    *,
    metric: str | None = None,
    threshold: float = 0.1,
    confidence_level: float = 0.9,
    every_cell: bool = False,
    where_a: Mapping[str, str] | None = None,
    where_b: Mapping[str, str] | None = None,
    ignored: Sequence[str] = (),
    length_tolerance: float = 0.02,
    screened: bool = True,
) -> Compared:
    """Whether B is slower than A by more than a threshold, over the cells that both have.

    Parameters
    ----------
    a, b : rows, path or str
        Rows, a file of any known format, a folder, archive or glob of them, a packaged dataset's name, or a store's
        URL.
    metric : str, optional
        Default: throughput, or end-to-end latency in open loops; else the metric that most common cells have.
    threshold : float, default 0.1
        How much slower is too much, a fraction.
    confidence_level : float, default 0.9
        Of the intervals, a fraction.
    every_cell : bool, default False
        Whether one slower cell fails the whole.
    where_a, where_b : mapping, optional
        Only rows with these values: ``{"engine": "vllm"}``.
    ignored : sequence of str
        Columns that are no part of a cell's identity.
    length_tolerance : float, default 0.02
        The relative difference up to which token counts are taken as equal.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.

    Returns
    -------
    Compared
        PASS, FAIL or INCONCLUSIVE, over all and by cell.

    Raises
    ------
    InputError, FormatError, StoreError
        If the request or a side is wrong, or they have no cell in common.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> times = {name: 1.25 * table[name] for name in ("ttft_s", "tpot_s", "e2e_latency_s")}
    >>> slower = table.assign(throughput_tok_s=0.8 * table["throughput_tok_s"], **times)
    >>> found = fewmark.compare(table, slower)
    >>> found.verdict, round(found.overall.ratio, 3)
    ('FAIL', 0.8)
    """
    known = (*METRICS, "power_w")
    if metric is not None and metric not in known:
        raise InputError("unknown metric", got=metric, hint=f"one of {', '.join(known)}")
    require_fraction("the threshold", threshold)
    require_fraction("the confidence level", confidence_level)
    if not 0 <= length_tolerance < 1:
        raise InputError("the tolerance of lengths must be a fraction between 0 and 1", got=length_tolerance)
    notes: list[str] = []
    side_a, side_b = (
        read_side(data, side, where or {}, screened, notes)
        for data, side, where in ((a, "A", where_a), (b, "B", where_b))
    )
    side_b = spelled_as(side_b, side_a)
    notes += [f"B: {note}" for note in side_b.attrs.get(NOTES, []) if " is taken for " in note]
    notes = list(dict.fromkeys(notes))
    common = common_cells(derive(side_a), derive(side_b), length_tolerance=length_tolerance, ignored=ignored)
    metric = metric or _default_metric(common)
    y_a, cell_a = values_by_cell(common.a, common.code_a, metric)
    y_b, cell_b = values_by_cell(common.b, common.code_b, metric)
    both = np.intersect1d(cell_a, cell_b)
    counts = _counts(common, both)
    if not len(both) and not counts["failed_in_b_only"]:
        _refuse(common, metric)
    higher = metric in METRICS and METRICS[metric].higher_is_better
    found, cells = None, pd.DataFrame()
    if len(both):
        in_a, in_b = np.isin(cell_a, both), np.isin(cell_b, both)
        y_a, y_b = y_a[in_a], y_b[in_b]
        cell_a, cell_b = np.searchsorted(both, cell_a[in_a]), np.searchsorted(both, cell_b[in_b])
        found = statistics.compare(
            y_a, cell_a, y_b, cell_b, higher_is_better=higher, threshold=threshold,
            confidence_level=confidence_level, every_cell=every_cell,
        )  # fmt: skip
        cells = _cell_table(common, both, found)
        at = list(cells.columns).index("ratio")
        for name, y, cell in (("b", y_b, cell_b), ("a", y_a, cell_a)):
            cells.insert(at, f"{metric}.{name}", np.exp(_means(np.log(y), cell)))
            cells.insert(at, f"n_{name}", np.bincount(cell))
    verdict: Verdict = "FAIL" if counts["failed_in_b_only"] or found is None else found.verdict
    notes = [*_notes(common, both, metric, found, threshold), *notes]
    names = _name(a, "A"), _name(b, "B")
    words = _words(verdict, metric, higher, threshold, found, counts)
    return Compared(
        names, metric, higher, threshold, confidence_level, verdict, words, found, cells, common, counts, tuple(notes)
    )


def _name(data: Tabular, side: str) -> str:
    return str(data) if isinstance(data, (str, Path)) else side


def _default_metric(common: CommonCells) -> str:
    """Of the metrics that most common cells have, the first in order; latencies first where all loops are open."""
    is_open = bool(np.isfinite(numbers_of(common.a, "request_rate")).all())
    order: dict[str, None] = dict.fromkeys((*(LATENCIES_FIRST if is_open else ()), *TARGETS, *METRICS))
    found = {}
    for name in order:
        _, in_a = values_by_cell(common.a, common.code_a, name)
        _, in_b = values_by_cell(common.b, common.code_b, name)
        found[name] = len(np.intersect1d(in_a, in_b))
    return max(found, key=lambda name: found[name])


def _refuse(common: CommonCells, metric: str) -> None:
    if len(np.intersect1d(common.code_a, common.code_b)):
        raise InputError(
            f"no common cell has {metric} on both sides",
            got=f"{metric} in {', '.join(_with_metric(common, metric))}",
            hint="name another one with --metric",
        )
    raise InputError(
        "A and B have no cell in common",
        got=mismatch(common),
        hint="--ignore COLUMN ignores a column; --length-tolerance matches token counts that differ a little",
    )


def _with_metric(common: CommonCells, metric: str) -> list[str]:
    sides = ("A", common.a, common.code_a), ("B", common.b, common.code_b)
    return [f"{len(np.unique(values_by_cell(t, code, metric)[1]))} cells of {name}" for name, t, code in sides]


def _counts(common: CommonCells, both: IntArray) -> dict[str, int]:
    of_a, of_b = set(common.code_a.tolist()), set(common.code_b.tolist())
    failed_a, failed_b = common.failed()
    shared = of_a & of_b
    in_b_only, in_a_only = (failed_b - failed_a) & shared, (failed_a - failed_b) & shared
    return {
        "common": len(both),
        "only_in_a": len(of_a - of_b),
        "only_in_b": len(of_b - of_a),
        "failed_in_a_only": len(in_a_only),
        "failed_in_b_only": len(in_b_only),
        "failed_in_both": len(failed_a & failed_b),
        "without_metric": len(shared - set(both.tolist()) - failed_a - failed_b),
        "failed_runs_a": int(is_failed(common.a).sum()),
        "failed_runs_b": int(is_failed(common.b).sum()),
    }


def _cell_table(common: CommonCells, both: IntArray, found: Comparison) -> pd.DataFrame:
    _, first = np.unique(common.code_a, return_index=True)
    rows = common.a.iloc[first].set_index(common.code_a[first]).loc[both]
    apart = {*common.compared, *common.known_once}
    identity = rows[[name for name in cell_columns(rows) if name not in apart and rows[name].notna().any()]]
    out: pd.DataFrame = identity.reset_index(drop=True)
    of = found.cells
    return out.assign(
        ratio=of.ratio,
        low=of.low,
        high=of.high,
        p_slower=of.p_slower,
        p_slower_holm=of.p_slower_holm,
        verdict=of.verdicts,
        equivalent=of.equivalent,
        faster=of.faster,
    )


def _means(values: FloatArray, cell: IntArray) -> FloatArray:
    return np.asarray(np.bincount(cell, values) / np.bincount(cell))


def _notes(common: CommonCells, both: IntArray, metric: str, found: Comparison | None, threshold: float) -> list[str]:
    out = []
    if found is not None and found.noise == "unknown":
        out.append(
            "how much runs differ by themselves is not known: no cell has two runs on a side that differ. Run each "
            "cell at least twice, better three times"
        )
    elif found is not None and found.noise == "spread over cells":
        out.append(
            "one run a cell: the noise is taken from how much the ratios differ over cells, real differences between "
            "cells included, so that only large changes show. Run each cell at least twice"
        )
    elif found is not None:
        if not found.alike:
            out.append("cells are not equally noisy: each is judged by its own noise, shrunk towards that of all")
        if np.isnan(found.cv_a) or np.isnan(found.cv_b):
            side = "A" if np.isnan(found.cv_a) else "B"
            out.append(f"{side} has no repeats that differ: it is taken to be as noisy as the other side")
        if found.verdict == "INCONCLUSIVE":
            cv = float(np.nanmax([found.cv_a, found.cv_b]))
            n = int(np.ceil(2 * ((ndtri(0.95) + ndtri(0.9)) * cv / np.log1p(threshold)) ** 2))
            out.append(f"at this noise ({cv:.1%} from run to run) about {max(n, 2)} runs a side tell an unchanged cell")
    open_loops = np.isfinite(numbers_of(common.a, "request_rate")) & np.isin(common.code_a, both)
    if metric in ("throughput_tok_s", "total_throughput_tok_s", "request_throughput_req_s") and open_loops.any():
        out.append("in open loops the throughput is mostly what was asked for: compare a latency or goodput_req_s")
    kinds = [set(side.get("statistic", pd.Series(dtype=object)).dropna()) for side in (common.a, common.b)]
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        out.append(f"values are not of one kind: A has the {'/'.join(kinds[0])}, B the {'/'.join(kinds[1])}")
    if common.n_lengths:
        out.append(f"{common.n_lengths} lengths that differ little were matched as equal (--length-tolerance)")
    shares = [_failed_share(side) for side in (common.a, common.b)]
    if shares[1] > shares[0] + MORE_FAILED:
        out.append(
            f"more requests failed in B ({shares[1]:.1%}) than in A ({shares[0]:.1%}): its values are of the rest"
        )
    return out


def _failed_share(side: pd.DataFrame) -> float:
    failed, done = numbers_of(side, "n_failed"), numbers_of(side, "n_requests")
    total = float(np.nansum(failed) + np.nansum(done))
    return float(np.nansum(failed)) / total if total else 0.0


def _words(
    verdict: Verdict, metric: str, higher: bool, threshold: float, found: Comparison | None, counts: Mapping[str, int]
) -> str:
    limit = f"{threshold:.0%} {'less' if higher else 'more'}"
    parts = []
    if found is not None:
        cells = found.cells
        of = [cells.verdicts.count(kind) for kind in ("PASS", "FAIL", "INCONCLUSIVE")]
        interval = "" if np.isnan(found.low) else f" ({found.level:.0%} interval {found.low:.3f} to {found.high:.3f})"
        parts.append(
            f"{metric} of B is {found.ratio:.3f} times that of A{interval}, the geometric mean over "
            f"{counted(len(cells.verdicts), 'cell')}; {limit} is too much. By cell: {of[0]} PASS, {of[1]} FAIL, "
            f"{of[2]} INCONCLUSIVE"
        )
        sure = int((cells.p_slower_holm < (1 - found.level) / 2).sum())
        if sure and len(cells.verdicts) > 1:
            parts.append(f"{sure} cells are slower by more than that even allowing for how many there are (Holm)")
    if counts["failed_in_b_only"]:
        parts.append(f"{counted(counts['failed_in_b_only'], 'cell')} that ran in A failed in B")
    if counts["failed_in_a_only"]:
        parts.append(f"{counted(counts['failed_in_a_only'], 'cell')} that failed in A ran in B")
    if counts["only_in_a"] or counts["only_in_b"]:
        parts.append(
            f"{counted(counts['only_in_a'], 'cell')} only in A and {counts['only_in_b']} only in B are not compared"
        )
    if counts["without_metric"]:
        parts.append(f"{counts['without_metric']} common cells lack {metric} on a side")
    return f"{verdict}: {'. '.join(parts)}."


def _json(value: object) -> object:
    """Plain values; unknown is null."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
