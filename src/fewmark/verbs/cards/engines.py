"""The card that compares engines on one model and machine: speeds, who batches, steps by position, what differs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeGuard

from fewmark.core import Advice, Card, Chart, Measurement, Series, Status, Table, Workload, derive_metrics
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json
from fewmark.engines.base import OWN
from fewmark.verbs.cards.overview import each_run_once

METRICS: Final = (("throughput_tok_s", "Throughput"), ("ttft_s", "Time to first token"))
N_BLOCKS: Final = 8  # of the steps of one generation, each shown as a point
BATCHES: Final = 0.5  # a batch of b in at most this share of b times one alone is batched
ONE_BY_ONE: Final = 0.9  # in more than this share of it, nothing was gained
OWN_DIFFERS: Final = 0.05
MAX_FACTS: Final = 40

_ByEngine = Mapping[str, Mapping[Workload, Measurement]]


def engines_card(measurements: Iterable[Measurement]) -> Card | None:
    """The comparison of the engines that ran the most cells of one model, precision and machine; None of one engine.

    An engine with several deployments there is taken with the one that has the most cells.
    """
    groups: dict[tuple[object, ...], dict[str, dict[str, dict[Workload, Measurement]]]] = defaultdict(dict)
    for measurement in each_run_once(measurements):
        deployment = measurement.case.deployment
        if measurement.status is not Status.OK or not measurement.samples or measurement.provenance == "imported":
            continue
        key = (deployment.model, deployment.precision, deployment.accelerator, deployment.accelerator_count)
        cells = groups[key].setdefault(deployment.engine, {}).setdefault(deployment.deployment_id, {})
        cells[measurement.case.workload] = measurement
    alike = [
        {engine: max(each.values(), key=len) for engine, each in sorted(group.items())}
        for group in groups.values()
        if len(group) > 1
    ]
    if not alike:
        return None
    engines = max(alike, key=lambda group: sum(map(len, group.values())))
    if not _shared(engines):
        return None
    own, facts = _own(engines), _differing_facts(engines)
    deployment = next(iter(next(iter(engines.values())).values())).case.deployment
    about = " ".join(filter(None, (deployment.model, deployment.precision)))
    tables = [_speeds(engines, metric, title) for metric, title in METRICS]
    tables += [table for table in (_batching(engines), own[0], facts) if table.rows]
    charts = [_side_by_side(engines, metric, title) for metric, title in METRICS]
    charts += [chart for chart in (_by_position(engines),) if chart.series]
    return Card(
        "engines",
        "Engines side by side",
        f"{about} on {len(engines)} engines, at the {len(_shared(engines))} cells that two or more of them ran. In "
        "brackets is what the repeats span, or the interval of what was projected. The last table: what differs.",
        tables=tuple(tables),
        charts=tuple(charts),
        advice=own[1],
    )


def _shared(engines: _ByEngine) -> list[Workload]:
    """The workloads that two engines or more ran, in order."""
    counts: dict[Workload, int] = defaultdict(int)
    for cells in engines.values():
        for workload in cells:
            counts[workload] += 1
    shared = [workload for workload, count in counts.items() if count > 1]
    return sorted(shared, key=lambda workload: (workload.input_tokens, workload.output_tokens, workload.load))


def _cell(workload: Workload) -> str:
    return f"{workload.input_tokens:g} in, {workload.output_tokens:g} out, {workload.load_label}"


def _tick(workload: Workload) -> str:
    """As `_cell`, short enough for an axis."""
    return f"{workload.input_tokens:g}→{workload.output_tokens:g}, {workload.load_label}"


def _heads(engines: _ByEngine) -> tuple[str, ...]:
    """The columns' names: each engine with its version, where it is known."""
    return tuple(f"{engine} {version}" if (version := _version(cells)) else engine for engine, cells in engines.items())


def _version(cells: Mapping[Workload, Measurement]) -> str | None:
    facts = thaw(next(iter(cells.values())).environment).get("engine")
    version = facts.get("engine_version") if isinstance(facts, dict) else None
    return version if isinstance(version, str) else None


def _ends(measurement: Measurement, metric: str) -> tuple[float, float] | None:
    values = measurement.values(metric)
    return measurement.interval(metric) or ((min(values), max(values)) if values else None)


def _speeds(engines: _ByEngine, metric: str, title: str) -> Table:
    rows = []
    for workload in _shared(engines):
        told = []
        for cells in engines.values():
            found = cells.get(workload)
            value = found.median(metric) if found is not None else None
            ends = _ends(found, metric) if found is not None else None
            told.append(
                None if value is None else f"{value:.4g}" + (f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else "")
            )
        rows.append((_cell(workload), *told))
    return Table(f"{title} ({metric})", ("cell", *_heads(engines)), tuple(rows))


def _side_by_side(engines: _ByEngine, metric: str, title: str) -> Chart:
    series = []
    for engine, cells in engines.items():
        known = [
            (_tick(workload), found.median(metric), _ends(found, metric))
            for workload in _shared(engines)
            if (found := cells.get(workload)) is not None
        ]
        low, high = (tuple(ends[side] if ends else value for _, value, ends in known) for side in (0, 1))
        x, y = tuple(cell for cell, *_ in known), tuple(value for _, value, _ in known)
        series.append(Series(engine, x, y, low, high, style="points"))
    return Chart(f"{title} by engine", "cell", metric, tuple(series), log_y=True, group=title)


def _batching(engines: _ByEngine) -> Table:
    """How long a batch takes beside one sequence alone, at the longest lengths where both were run."""
    rows = []
    for engine, cells in engines.items():
        alone = {(w.input_tokens, w.output_tokens): m for w, m in cells.items() if w.batch_size == 1}
        many = [w for w in cells if w.batch_size is not None and w.batch_size > 1]
        for workload in sorted(many, key=lambda w: (w.load, w.output_tokens, w.input_tokens)):
            one = alone.get((workload.input_tokens, workload.output_tokens))
            times = [m.median("e2e_latency_s") for m in (one, cells[workload]) if m is not None]
            if len(times) != 2 or times[0] is None or times[1] is None:
                continue
            ratio = times[1] / times[0]
            share = ratio / workload.load
            verdict = "batches" if share <= BATCHES else "one after another" if share > ONE_BY_ONE else "in part"
            rows.append((engine, _cell(workload), round(ratio, 2), verdict))
    return Table(
        "Who batches: time of a batch over time of one", ("engine", "cell", "times as long", "verdict"), tuple(rows)
    )


def _by_position(engines: _ByEngine) -> Chart:
    """Median time per output token against the tokens before it, of single sequences."""
    series = []
    for engine, cells in engines.items():
        points: dict[float, list[float]] = defaultdict(list)
        for workload, measurement in cells.items():
            if workload.batch_size != 1:
                continue
            for sample in measurement.samples:
                steps = [after - before for before, after in pairwise(sample.token_times_s)]
                size = max(1, -(-len(steps) // N_BLOCKS))
                for start in range(0, len(steps) - size + 1, size):
                    position = workload.input_tokens + 1 + start + size / 2
                    points[position].append(statistics.median(steps[start : start + size]))
        x = sorted(points)
        if x:
            series.append(Series(engine, tuple(x), tuple(statistics.median(points[at]) for at in x), style="line"))
    return Chart(
        "Time per output token against its position (batch 1)", "tokens before it", "seconds", tuple(series),
        log_x=True, group="Time per token by position",
    )  # fmt: skip


def _own(engines: _ByEngine) -> tuple[Table, tuple[Advice, ...]]:
    """What engines say of themselves beside what was measured from outside."""
    rows, apart = [], set()
    for engine, cells in engines.items():
        for workload in _shared(engines):
            own = thaw(cells[workload].extra).get(OWN) if workload in cells else None
            for metric, said in own.items() if isinstance(own, dict) else ():
                measured = _of_what_ran(cells[workload], metric)
                of_each = [value for value in (said if isinstance(said, list) else [said]) if _is_number(value)]
                if not of_each or not measured:
                    continue
                says = statistics.median(of_each)
                ratio = says / measured
                rows.append((engine, _cell(workload), metric, round(measured, 6), round(says, 6), round(ratio, 3)))
                if abs(ratio - 1) > OWN_DIFFERS:
                    apart.add(engine)
    advice = tuple(
        Advice("own-metrics", f"{engine}'s own metrics differ from what a client sees by more than {OWN_DIFFERS:.0%}.",
               "Compare engines by times measured from outside alone.")
        for engine in sorted(apart)
    )  # fmt: skip
    columns = ("engine", "cell", "metric", "measured", "engine says", "ratio")
    return Table("What the engine's own metrics say", columns, tuple(rows)), advice


def _of_what_ran(measurement: Measurement, metric: str) -> float | None:
    """The median over the repeats as they were run, of a projection as far as they were."""
    work = measurement.case.workload
    told = [
        derive_metrics(
            sample.to_dict(),
            input_tokens=work.input_tokens,
            output_tokens=sample.output_tokens or work.output_tokens,
            batch_size=work.batch_size,
        ).get(metric)
        for sample in measurement.samples
    ]
    known = [value for value in told if value is not None]
    return statistics.median(known) if known else None


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differing_facts(engines: _ByEngine) -> Table:
    """Facts of the engines' environments that differ between engines, and that hold throughout each of them."""
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for engine, cells in engines.items():
        seen: dict[str, set[str]] = defaultdict(set)
        for measurement in cells.values():
            facts = thaw(measurement.environment).get("engine")
            for name, value in facts.items() if isinstance(facts, dict) else ():
                seen[name].add(_text(value))
        for name, values in seen.items():
            told[name][engine] = ", ".join(sorted(values))
    differing = [name for name in sorted(told) if len({told[name].get(engine) for engine in engines}) > 1]
    rows = tuple((name, *(told[name].get(engine) for engine in engines)) for name in differing[:MAX_FACTS])
    return Table("What is not alike, as the engines tell it (empty: not told)", ("fact", *_heads(engines)), rows)


def _text(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
