"""The results of a run as a table: cells by deployment, medians with half of their range, marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from fewmark.cli.figures import UNKNOWN, text_table, with_spread

if TYPE_CHECKING:
    from fewmark.core import Case, Measurement
    from fewmark.verbs.show import CaseResult

COLUMNS: Final = (("throughput_tok_s", "tok/s", 1.0), ("ttft_s", "TTFT ms", 1e3), ("tpot_s", "TPOT ms", 1e3))
ROWS: Final = 40  # cells shown after a run


def value_text(result: CaseResult, name: str, scale: float) -> str:
    """A metric's median and half of its range over the repeats, one notation everywhere."""
    if name not in result.values:
        return UNKNOWN
    value, half = result.values[name]
    return with_spread(value * scale, None if half is None else half * scale)


def results_text(measurements: Iterable[Measurement]) -> str:
    """What a run measured, for people; empty where it measured nothing."""
    from fewmark.verbs.show import case_result

    held: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        held.setdefault(measurement.case.case_id, []).append(measurement)
    results = [case_result(found, {}) for found in held.values()]
    results.sort(key=lambda result: _place(result.case))
    parts: dict[str, list[list[str]]] = {}
    for result in results[:ROWS]:
        parts.setdefault(result.case.deployment.label, []).append(_row(result))
    headings = ["case", "cell", *(title for _, title, _ in COLUMNS), "n", "marks"]
    last = len(headings) - 1
    text = "\n\n".join(f"{label}\n{text_table([headings, *rows], left=(0, 1, last))}" for label, rows in parts.items())
    if len(results) > ROWS:
        text += f"\n… and {len(results) - ROWS} more cells: fewmark show --all"
    spread = any(half for result in results for _, half in result.values.values())
    return f"{text}\n± half of the range over repeats" if spread else text


def _row(result: CaseResult) -> list[str]:
    work = result.case.workload
    options = "".join(f", {name} {value}" for name, value in _plain(work.options).items())
    n_samples = sum(len(measurement.samples) for measurement in result.measurements)
    marks = [] if result.status == "ok" else [result.status]
    cell = f"{work.input_tokens:g}→{work.output_tokens:g}, {work.load_label}{options}"
    values = [value_text(result, name, scale) for name, _, scale in COLUMNS]
    return [result.case.case_id[:8], cell, *values, str(n_samples), ", ".join([*marks, *result.marks])]


def _place(case: Case) -> tuple[str, float, float, float]:
    work = case.workload
    return case.deployment.label, work.input_tokens, work.output_tokens, work.load


def _plain(options: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in options.items() if isinstance(value, (str, int, float))}
