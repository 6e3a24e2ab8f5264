"""The decode steps of runs as few numbers: means over stretches of steps, against the length of the KV cache.

A scheduler that takes the processor away now and then makes single step times jump by orders of magnitude and gives
them two modes; what adds up to the latency is their mean. Neighbouring steps share their noise, so that the scatter
of stretches, not that of steps, tells how well a mean is known.
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
    """Runs of one case: per stretch the mean KV length, the mean step in seconds, the number of steps behind it.

    `latencies` are those of the repeats, `mean_s` and `kv` the mean step and its KV length over all stretches.
    """

    load: int
    kv_at: FloatArray
    step_s: FloatArray
    count: FloatArray
    latencies: FloatArray

    @property
    def mean_s(self) -> float:
        """The mean step, seconds."""
        return float(np.average(self.step_s, weights=self.count))

    @property
    def kv(self) -> float:
        """The mean KV length, tokens a sequence."""
        return float(np.average(self.kv_at, weights=self.count))


def stretches(workload: Workload, samples: Sequence[Sample]) -> Stretches | None:
    """What the runs say of the steps; None where they say nothing (one token, or no clock of the first)."""
    latencies = np.array([s.e2e_latency_s for s in samples if s.e2e_latency_s is not None])
    runs = [gaps for sample in samples if len(gaps := step_times(sample))]
    ii = float(workload.input_tokens)
    if runs and len({len(gaps) for gaps in runs}) == 1:
        gaps = np.mean(runs, axis=0)
        first = SKIPPED if len(gaps) >= SKIPPED + SHORTEST else 0
        parts = np.array_split(np.arange(first, len(gaps)), max(1, min(STRETCHES, (len(gaps) - first) // SHORTEST)))
        return Stretches(
            workload.load,
            np.array([ii + 1 + part.mean() for part in parts]),
            np.array([gaps[part].mean() for part in parts]),
            np.array([float(len(part) * len(runs)) for part in parts]),
            latencies,
        )
    means, lengths = [], []
    for sample in samples:
        oo, e2e, ttft = sample.output_tokens, sample.e2e_latency_s, sample.ttft_s
        if oo is not None and oo > 1 and e2e is not None and ttft is not None and e2e > ttft:
            means.append((e2e - ttft) / (oo - 1))
            lengths.append(oo)
    if not means:
        return None
    oo = float(np.mean(lengths))
    return Stretches(
        workload.load, np.array([ii + oo / 2]), np.array([np.mean(means)]), np.array([(oo - 1) * len(means)]), latencies
    )


def of_measurement(measurement: Measurement) -> Stretches | None:
    """The stretches of a measurement's raw samples."""
    return stretches(measurement.case.workload, measurement.samples)
