"""All deployments of a table as local experts: which expert answers for a cell, and what the experts say together.

Notation: m cells that are asked about, as `fewmark.models.auto.features.Features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.experts import LocalExpert, partition
from fewmark.models.auto.extrapolation import beyond
from fewmark.models.auto.features import OWN, Features
from fewmark.models.auto.hyperparameters import Hyperparameters
from fewmark.models.gp.kernel import Inputs
from fewmark.models.gp.threads import single_threaded
from fewmark.models.state import Arrays
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.identity import numbered, rows_by_group

MAX_DOUBLINGS: Final = 4.0  # of a length or a load beyond anything measured, for which there is an answer

Situation = tuple[NDArray[np.intp], LeftOut, FloatArray]


class LocalExperts:
    """The experts, and where each deployment is.

    Parameters
    ----------
    members : sequence of LocalExpert
        At least one; each deployment's cells are with one of them.
    """

    def __init__(self, members: Sequence[LocalExpert]) -> None:
        self.members = list(members)
        self._index()

    @classmethod
    def condition(
        cls,
        hypers: Sequence[Hyperparameters],
        table: Features,
        residual: FloatArray,
        *,
        max_cells: int,
        random_state: int,
        whole: bool,
    ) -> Self:
        """Experts for measured cells and their residuals (n,); `hypers`: those that predict, then those of the folds.

        More than `max_cells` cells are partitioned, and the experts solved by joblib's backend: one after another
        unless `joblib.parallel_config` says otherwise. `whole`: whether the latency is that of whole requests.
        """
        groups = rows_by_group(partition(table.inputs.codes, max_cells)).values()
        parts = (
            (table.inputs.take(rows), residual[rows], table.axes[rows], table.kept[rows], random_state)
            for rows in groups
        )
        if len(groups) == 1:
            one = LocalExpert(hypers[0], hypers[1:], *next(parts), whole=whole)
            _ = one.posterior.a  # ready to answer and to take in more
            return cls([one])
        from joblib import Parallel, delayed

        return cls(Parallel()(delayed(_waiting)(hypers[0], hypers[1:], *part, whole=whole) for part in parts))

    def _index(self) -> None:
        self.place = {code: number for number, one in enumerate(self.members) for code in one.members}
        firsts = [(code, one, int(rows[0])) for one in self.members for code, rows in one.members.items()]
        self.noise_scales = {code: float(one.noise[row]) for code, one, row in firsts}
        self.amplitudes = {code: float(one.posterior.inputs.values[row, OWN]) for code, one, row in firsts}
        axes = np.vstack([one.axes[:, :3] for one in self.members])
        self.range = axes.min(0), axes.max(0)
        self.typical_noise = float(np.median(list(self.noise_scales.values())))

    def add(self, table: Features, residual: FloatArray) -> None:
        """Take in further measured cells under the same hyperparameters."""
        table = self.with_amplitudes(table)
        noise, of = self.noise(table), self._expert_of(table)
        for number in np.unique(of):
            rows = np.flatnonzero(of == number)
            self.members[number].add(
                table.inputs.take(rows), residual[rows], table.axes[rows], table.kept[rows], noise[rows]
            )
        self._index()

    def with_amplitudes(self, table: Features) -> Features:
        """The cells with the amplitude of each deployment's own covariance terms; 1 where it is not known."""
        numbers, position = numbered(table.deployment)
        table.inputs.values[:, OWN] = np.array([self.amplitudes.get(int(n), 1.0) for n in numbers])[position]
        return table

    def latent(self, table: Features) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the latent residual, (m,) each."""
        mean, variance = np.empty(len(table)), np.empty(len(table))
        of = self._expert_of(table)
        for number in np.unique(of):
            rows = np.flatnonzero(of == number)
            own = table.inputs if len(rows) == len(table) else table.inputs.take(rows)
            mean[rows], variance[rows] = self.members[number].latent(own)
        return mean, variance

    def joint(self, table: Features) -> tuple[FloatArray, FloatArray]:
        """Mean (m,) and covariance (m, m) of the latent residual; experts are taken to be independent."""
        mean, covariance = np.zeros(len(table)), np.zeros((len(table), len(table)))
        of = self._expert_of(table)
        for number in np.unique(of):
            rows = np.flatnonzero(of == number)
            mean[rows], covariance[np.ix_(rows, rows)] = self.members[number].posterior.joint(table.inputs.take(rows))
        return mean, covariance

    def explained(self, table: Features, variance: FloatArray) -> FloatArray:
        """The share of each cell's prior variance that the measured cells explain, in [0, 1], (m,)."""
        first = self.members[0]
        share = 1.0 - variance / first.kernel.diagonal(first.hyper.theta, table.inputs)
        return np.where(table.unusable, 0.0, np.clip(share, 0.0, 1.0))

    def noise(self, table: Features) -> FloatArray:
        """Each cell's noise scale: its deployment's where known, else the median one, (m,)."""
        numbers, position = numbered(table.deployment)
        return np.array([self.noise_scales.get(int(n), self.typical_noise) for n in numbers], float)[position]

    def waited(self, table: Features) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `latent`, with the waits of measured cells, and the variance of waits that are not known, (m,) each.

        What a measured cell is off the process was its wait, as far as that is less sure than the measurement.
        """
        mean, variance = self.latent(table)
        unknown = table.waiting.copy()
        for code, rows, one in self.by_deployment(table):
            own, asked = one.members.get(code), rows[unknown[rows] > 0]
            if own is None or not len(asked):
                continue
            on_grid = [np.isin(table.axes[asked, axis], one.axes[own, axis]) for axis in range(3)]
            asked = asked[np.all(on_grid, axis=0)]
            same = (table.axes[asked][:, None] == one.axes[own]).all(-1)
            asked, same = asked[same.any(1)], same[same.any(1)]
            noise = self.noise_scales[code] ** 2
            share = unknown[asked] / (unknown[asked] + noise)
            mean[asked] += share * (same @ one.posterior.y[own] / same.sum(1) - mean[asked])
            variance[asked] = np.minimum(variance[asked], noise)
            unknown[asked] = 0.0
        return mean, variance, unknown

    def shrunk(self, table: Features, mean: FloatArray, sd: FloatArray) -> FloatArray:
        """Log latencies (m,), shrunk towards the deployment's own parametric model at loads beyond those known.

        Those of a deployment of which nothing is known are averaged with trees'.
        """
        out = mean.copy()
        self._prepare(table, only_extrapolated=True)
        for code, rows, one in self.by_deployment(table):
            axes = table.axes[rows]
            if code in one.members:
                out[rows] = one.shrunk(code, table.inputs.take(rows[:1]), axes, mean[rows], sd[rows])
            else:
                out[rows] = one.averaged(code, table.inputs.take(rows), axes, table.log_roofline[rows], out[rows])
        return out

    def inflated(self, table: Features, sd: FloatArray) -> FloatArray:
        """Standard deviations (m,) as wide as what is known of each deployment is surprising."""
        out = sd.copy()
        for code, rows, one in self.by_deployment(table):
            out[rows] *= one.inflation(code)
        return out

    def is_far(self, table: Features) -> NDArray[np.bool_]:
        """Cells whose length or load lies far outside all that was measured of any deployment, (m,)."""
        low, high = self.range
        axes = table.axes[:, :3]
        return np.asarray(((axes < low - MAX_DOUBLINGS) | (axes > high + MAX_DOUBLINGS)).any(1))

    def by_deployment(self, table: Features) -> list[tuple[int, NDArray[np.intp], LocalExpert]]:
        """For each deployment asked for: its number, the asked rows, and the expert that answers."""
        of = self._expert_of(table)
        return [(code, rows, self.members[int(of[rows[0]])]) for code, rows in rows_by_group(table.deployment).items()]

    def situations(self, table: Features) -> list[Situation]:
        """For each deployment asked for: the asked rows, cells left out alike, and octaves beyond the known."""
        self._prepare(table)
        return [
            (rows, one.left_out(code, table.inputs.take(rows[:1])), beyond(table.axes[rows], one.known(code)))
            for code, rows, one in self.by_deployment(table)
        ]

    def _prepare(self, table: Features, *, only_extrapolated: bool = False) -> None:
        """Leave out the cells of all situations that are about to be asked for; together they cost less."""
        wanted: dict[int, tuple[LocalExpert, list[tuple[int, Inputs]]]] = {}
        for code, rows, one in self.by_deployment(table):
            if only_extrapolated and not one.is_extrapolated(code, table.axes[rows]):
                continue
            wanted.setdefault(id(one), (one, []))[1].append((code, table.inputs.take(rows[:1])))
        for one, asked in wanted.values():
            one.prepare(asked)

    def _expert_of(self, table: Features) -> IntArray:
        """The expert that answers for each cell, (m,): its deployment's, else that of most relatives."""
        numbers, position = numbered(table.deployment)
        rows = np.empty(len(numbers), dtype=np.int64)
        rows[position] = np.arange(len(table))  # any row of each
        of = np.zeros(len(numbers), dtype=np.int64)
        for i, (code, row) in enumerate(zip(numbers, rows, strict=True)):
            if int(code) in self.place:
                of[i] = self.place[int(code)]
            elif len(self.members) > 1:
                of[i] = int(np.argmax([one.similarity_weight(table.inputs.codes[row]) for one in self.members]))
        return np.asarray(of[position])

    def n_worked_out(self) -> int:
        """How much of `worked_out` there is."""
        return sum(one.n_worked_out() for one in self.members)

    def worked_out(self) -> Arrays:
        """What the experts have worked out for answers so far, as arrays."""
        return {f"expert-{i}/{name}": a for i, one in enumerate(self.members) for name, a in one.worked_out().items()}

    def recall(self, arrays: Arrays) -> None:
        """Take over what `worked_out` gave, of the same cells."""
        for number, one in enumerate(self.members):
            own = arrays_under(f"expert-{number}", arrays)
            if "deployment" in own:
                one.recall(own)


@single_threaded
def _waiting(
    hyper: Hyperparameters, folds: Sequence[Hyperparameters], inputs: Inputs, residual: FloatArray,
    axes: FloatArray, kept: FloatArray, random_state: int, *, whole: bool,
) -> LocalExpert:  # fmt: skip
    """One of many experts, which waits with little memory until it is asked."""
    one = LocalExpert(hyper, folds, inputs, residual, axes, kept, random_state, whole=whole)
    one.forget()
    return one


def arrays_under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names begin with the prefix and a slash, by the rest of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
