"""A machine that runs at one of two speeds for some seconds at a time, simulated: what rounds give to projections.

    python benchmarks/projection.py --simulated

16 cells of 256 tokens, four of them also measured in full, the others cut to 32: three repeats each, one after the
other or in three rounds over the sweep, and a full measurement of every cell made afterwards in the same way. The time
that passes is that of the runs, warm-ups included.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fewmark.core import Case, Deployment, Measurement, Sample, Workload
from fewmark.engines.measuring.policy import WARMUP_TOKENS, Policy
from fewmark.runner.projection.truncation import Task, project_all
from fewmark.runner.rounds import CaseRounds

TOY = Deployment("toy", "toy")
FULL, CUT, REPEATS = 256, 32, 3
GRID = tuple(Case(TOY, Workload(n, FULL, batch_size=b)) for n in (16, 64, 192, 640) for b in (1, 2, 4, 8))
VALIDATED = tuple(GRID[i] for i in (2, 5, 11, 12))


@dataclass
class Machine:
    """A step costs 3 ms + 0.5 ms a sequence, grows with the KV cache, and `slowness` times as long in slow times.

    Fast and slow times last `dwell_s` seconds in the mean, exponentially distributed.
    """

    seed: int
    slowness: float
    dwell_s: float
    now_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._slow, self._until = False, float(self._random.exponential(self.dwell_s))

    def run(self, case: Case, tokens: int) -> Sample:
        """One run, so long as it takes."""
        load, began, times = int(case.workload.load), self.now_s, []
        for i in range(tokens):
            step = 0.003 + 0.0005 * load + (1e-6 + 5e-7 * load) * (case.workload.input_tokens + i)
            self._spend(0.005 + 1e-5 * load * case.workload.input_tokens if i == 0 else step)
            times.append(self.now_s - began)
        return Sample(e2e_latency_s=times[-1], ttft_s=times[0], output_tokens=tokens, token_times_s=tuple(times))

    def _spend(self, seconds: float) -> None:
        while self.now_s >= self._until:
            self._slow = not self._slow
            self._until += float(self._random.exponential(self.dwell_s))
        noise = float(np.exp(0.03 * self._random.standard_normal()))
        self.now_s += seconds * noise * (self.slowness if self._slow else 1.0)

    def measure(self, tasks: Sequence[Task], rounds: int) -> list[Measurement]:
        """All tasks, as the runner visits them."""
        policy = Policy(min_repeats=REPEATS, max_repeats=REPEATS, warmup=1)
        waiting, out = [CaseRounds(task, tokens=task.tokens) for task in tasks], []
        while waiting:
            entry = waiting.pop(0)
            case, tokens = entry.task.case, entry.task.tokens
            self.run(case, WARMUP_TOKENS)
            n_runs = entry.policy(policy, rounds).min_repeats
            samples = [self.run(case, FULL if tokens is None else tokens) for _ in range(n_runs)]
            kind = "measured" if tokens is None else "projected"
            entry.measurements.append(Measurement(case, samples=tuple(samples), provenance=kind))
            if entry.complete(policy, rounds):
                out.append(entry.merged(policy))
            else:
                waiting.append(entry)
        return out


@dataclass(frozen=True)
class Outcome:
    """Of the cells that were only projected: errors against full measurements, whether these lie inside, and how far
    two full measurements are apart; seconds of the sweep that was projected."""

    errors: list[float]
    inside: list[bool]
    apart: list[float]
    seconds: float


def sweep(machine: Machine, rounds: int) -> Outcome:
    """A sweep cut short, and two in full after it."""
    rest = [case for case in GRID if case not in VALIDATED]
    measurements = machine.measure([*map(Task, VALIDATED), *(Task(case, CUT) for case in (*VALIDATED, *rest))], rounds)
    seconds = machine.now_s
    full, again = ({m.case: _seconds(m) for m in machine.measure(list(map(Task, GRID)), rounds)} for _ in range(2))
    errors, inside, apart = [], [], []
    for m in project_all(measurements):
        ends = m.interval("e2e_latency_s")
        if ends is not None and m.case in rest:
            errors.append(abs(_seconds(m) / full[m.case] - 1))
            inside.append(ends[0] <= full[m.case] <= ends[1])
            apart.append(abs(again[m.case] / full[m.case] - 1))
    return Outcome(errors, inside, apart, seconds)


def sweeps(slowness: float, dwell_s: float, rounds: int, n: int) -> Outcome:
    """n sweeps, each on a machine of its own."""
    each = [sweep(Machine(seed, slowness, dwell_s), rounds) for seed in range(n)]
    return Outcome(
        [e for one in each for e in one.errors],
        [i for one in each for i in one.inside],
        [a for one in each for a in one.apart],
        statistics.median(one.seconds for one in each),
    )


def report(n: int) -> None:
    """Print the table."""
    print(f"two speeds, {n} sweeps each; projected: median error, 90th percentile, inside, two full apart, sweep")
    for slowness in (1.15, 1.33):
        for dwell_s in (0.5, 2.0, 5.0, 10.0):
            for rounds in (1, 3):
                o = sweeps(slowness, dwell_s, rounds, n)
                p90 = float(np.quantile(o.errors, 0.9))
                print(
                    f"  {slowness:.2f}× slower, {dwell_s:4.1f} s at a time, rounds={rounds}: "
                    f"{statistics.median(o.errors):5.1%} {p90:6.1%} {np.mean(o.inside):5.0%} "
                    f"{statistics.median(o.apart):6.1%} {o.seconds:6.1f} s",
                    flush=True,
                )


def _seconds(measurement: Measurement) -> float:
    value = measurement.median("e2e_latency_s")
    assert value is not None
    return value
