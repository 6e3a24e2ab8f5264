"""The decode steps of runs as few numbers: means over stretches of steps, against the length of the KV cache.

A scheduler that takes the processor away now and then makes single steps many times as long, and a client that reads
late sees one long step and several of no length. What adds up to the latency is the plain mean, but that of few steps
hangs on whether one of them was hit. A stretch is therefore told by its interquartile mean, and `inflation`, plain
mean over interquartile mean, by itself: it belongs to the machine more than to the case, and is pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core import Measurement, Sample, Workload

SKIPPED: Final = 2  # decode steps after the prefill that are not like the others
STRETCHES: Final = 12  # of a run, at most
SHORTEST: Final = 4  # steps in a stretch

FloatArray = NDArray[np.float64]


def step_times(sample: Sample) -> FloatArray:
    """Seconds of each decode step, (output_tokens - 1,); empty where the engine did not tell one time a token."""
    times = np.asarray(sample.token_times_s, dtype=float)
    if len(times) < 2 or sample.output_tokens != len(times):
        return np.zeros(0)
    return np.diff(times)


@dataclass(frozen=True, slots=True)
class Stretches:
    """Runs of one case: per stretch the mean KV length, the robust mean step in seconds, the steps behind it.

    `repeats_s` is the robust mean step of each repeat; `inflation` the plain mean of all steps over that of `step_s`.
    """

    case: str
    load: int
    kv_at: FloatArray
    step_s: FloatArray
    count: FloatArray
    repeats_s: FloatArray
    inflation: float = 1.0

    @property
    def mean_s(self) -> float:
        """The robust mean step, seconds."""
        return float(np.average(self.step_s, weights=self.count))

    @property
    def kv(self) -> float:
        """The mean KV length, tokens a sequence."""
        return float(np.average(self.kv_at, weights=self.count))

    @property
    def steps(self) -> float:
        """The number of steps behind it all."""
        return float(self.count.sum())


def stretches(workload: Workload, samples: Sequence[Sample], case: str = "") -> Stretches | None:
    """What the runs say of the steps; None where they say nothing (one token, or no clock of the first)."""
    if workload.request_rate is not None:
        return None  # how many sequences a step served, nobody knows
    runs = [gaps for sample in samples if len(gaps := step_times(sample))]
    ii = float(workload.input_tokens)
    if runs and len({len(gaps) for gaps in runs}) == 1:
        gaps = np.array(runs)
        n = gaps.shape[1]
        first = SKIPPED if n >= SKIPPED + SHORTEST else 0
        parts = np.array_split(np.arange(first, n), max(1, min(STRETCHES, (n - first) // SHORTEST)))
        middle = np.array([_interquartile_mean(gaps[:, part].ravel()) for part in parts])
        count = np.array([float(len(part) * len(runs)) for part in parts])
        inflation = float(gaps[:, first:].mean() / np.average(middle, weights=count))
        kv_at = np.array([ii + 1 + part.mean() for part in parts])
        repeats = np.array([_interquartile_mean(run[first:]) for run in gaps])
        return Stretches(case, workload.sequences, kv_at, middle, count, repeats, inflation)
    told = [
        ((e2e - ttft) / (oo - 1), oo)
        for oo, e2e, ttft in ((s.output_tokens, s.e2e_latency_s, s.ttft_s) for s in samples)
        if oo is not None and oo > 1 and e2e is not None and ttft is not None and e2e > ttft
    ]
    if not told:
        return None
    means, lengths = np.array(told).T
    oo = float(lengths.mean())
    count = np.array([(oo - 1) * len(told)])
    return Stretches(case, workload.sequences, np.array([ii + oo / 2]), np.array([means.mean()]), count, means)


def of_measurement(measurement: Measurement) -> Stretches | None:
    """The stretches of a measurement's raw samples."""
    return stretches(measurement.case.workload, measurement.samples, measurement.case.case_id)


def _interquartile_mean(values: FloatArray) -> float:
    """The mean of the middle half; the plain mean where that would be less than two values, or 0."""
    cut = len(values) // 4
    middle = float(np.sort(values)[cut : len(values) - cut].mean()) if len(values) - 2 * cut >= 2 else 0.0
    return middle if middle > 0 else float(values.mean())
