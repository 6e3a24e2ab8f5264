"""What one generation tells of shorter ones: its first tokens came as those of a shorter generation come.

A static batch of o tokens passes through every shorter length on its way. Where an engine tells the moment of each
token, one run at the longest output is therefore also a run at each shorter one of the same prompts and batch. Their
errors hang together: what slowed the run slowed all of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from fewmark.core import Case, Measurement, Sample, Status
from fewmark.planning.space import Space
from fewmark.tables.arrays import BoolArray
from fewmark.tables.identity import cell_codes


def shorter(space: Space, deployments: Sequence[int]) -> BoolArray:
    """Whether a run of cell j passes through cell i, (n, n); the diagonal is true. Only of static batches, and only of
    the deployments (codes) given."""
    alike = cell_codes(space.cells.drop(columns="output_tokens"))
    within = (alike[:, None] == alike[None, :]) & (space.octaves[None, :, 1] <= space.octaves[:, None, 1] + 1e-9)
    within &= (np.isin(space.deployment, list(deployments)) & ~space.online)[:, None]
    return np.asarray(within | np.eye(len(space), dtype=bool))


def tells_prefixes(measurement: Measurement) -> bool:
    """Whether a measurement holds the moment of every token of a static batch."""
    batch = measurement.case.workload.batch_size
    return measurement.status is Status.OK and batch is not None and bool(_whole(measurement.samples))


def prefix_latency_s(measurement: Measurement, output_tokens: float) -> float:
    """Seconds to that many output tokens, the median over the repeats; ask only where `tells_prefixes` holds."""
    return statistics.median(s.token_times_s[int(output_tokens) - 1] for s in _whole(measurement.samples))


def truncated(cases: Iterable[Case], output_tokens: int) -> Iterable[Case]:
    """The longer ones of the cases with their generation cut to so many tokens."""
    for case in cases:
        if case.workload.output_tokens > output_tokens:
            yield replace(case, workload=replace(case.workload, output_tokens=output_tokens))


def _whole(samples: Sequence[Sample]) -> list[Sample]:
    return [s for s in samples if s.output_tokens and len(s.token_times_s) == s.output_tokens]
