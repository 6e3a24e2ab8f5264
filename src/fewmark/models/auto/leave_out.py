"""Intervals that mean what they say: scores of other deployments under the same pattern of knowing.

The process's own standard deviations rank predictions well but not at the right size. So for a deployment of which the
cells T are measured, every other deployment is looked at as if only cells like T of it were: its other cells are left
out (all at once, by the block formula of `fewmark.models.gp.posterior`) and predicted
(`fewmark.models.auto.hidden_cells`). The scores |residual| / standard deviation of those cells say how far off such
predictions are. Scores count by how alike the situation is: the same accelerator more, and as many devices, a standard
deviation of the same size, and equally far beyond what is measured.

A Gaussian process's standard deviation does not depend on the values that were measured, so a deployment unlike its
relatives would get the same interval as one like them. How surprising its known cells are given all others tells the
two apart: with a common unknown scale of what is not known of a deployment, of precision Gamma(DEGREES/2, DEGREES/2),
the process is a Student t, and n known cells of squared Mahalanobis distance b inflate its standard deviations by

    sqrt((DEGREES + b) / (DEGREES + n)),

of the left-out cells as of the asked ones.

Hyperparameters that never saw a deployment have learned from half of the data, so their errors are too large; those of
the hyperparameters that predict, which did see it, are too small. The error of a score is a mixture of the two, as the
.632 estimator's, the second up to MAX_IN_SAMPLE_SHARE of it, the more cells of the deployment itself are known (what is
not known of it comes from the other deployments, and for that nothing replaces one that was never seen) and the more
deployments there are: those of a small table fit it the closer for being few. Where latencies compete for trust
(`fewmark.models.auto.reconciliation`) the right size does not matter, and hyperparameters from half of few deployments
err in ways of their own: there the second count up to MAX_DECIDING_SHARE, whatever the number.

Source: the .632 estimator (Efron 1983, section 6); split conformal prediction with weights for shift (Tibshirani et al.
2019, equation 7) on leave-out scores (Vehtari et al. 2017 for the block formulas); exchangeable are deployments under
one pattern, not cells. The inflation: Student-t processes (Shah, Wilson and Ghahramani 2014, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fewmark.models.auto import extrapolation, unmeasured
from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.extrapolation import beyond, parametric_at
from fewmark.models.auto.features import COLUMNS
from fewmark.models.auto.fold import Fold
from fewmark.models.auto.hidden_cells import HiddenCells, Task
from fewmark.models.auto.situations import Situation, situation_of
from fewmark.models.state import Arrays, floats
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.identity import rows_by_group

ACCELERATOR_WEIGHT = 6.0  # weight of a score from the same accelerator beside one from another
DEVICES_BANDWIDTH = 1.5  # octaves
MAX_IN_SAMPLE_SHARE = 0.95
MAX_DECIDING_SHARE = 0.7
HALF_CELLS = 4.0  # known cells, at which half of that holds
HALF_DEPLOYMENTS = 60.0  # deployments, at which half of that holds
MAX_DEPLOYMENTS = 64
MAX_BLOCK = 600
DEVICES = COLUMNS.index("log2_devices")
Plan = tuple[list[Task], int]


class Calibrator:
    """Scores for a deployment from all others.

    Parameters
    ----------
    main : the posterior that predicts
    folds : posteriors over the same n cells, each with the deployments that it scores
    axes : (n, 3 or more) log2 input, output and load of the measured cells
    kept : `features.Features.kept` of the measured cells, NaN where it was not kept
    deployment, accelerator : (n,) numbers of the groups of the measured cells
    random_state : seed of the choice of deployments where there are very many
    whole : whether the latency is that of whole requests, from end to end
    """

    def __init__(
        self,
        main: Fold,
        folds: Sequence[Fold],
        axes: FloatArray,
        kept: FloatArray,
        deployment: IntArray,
        accelerator: IntArray,
        random_state: int,
        *,
        whole: bool,
    ) -> None:
        self.main, self.folds, self.axes, self.kept = main, folds, axes, kept
        self.deployment, self.accelerator = deployment, accelerator
        self.random_state, self.whole = random_state, whole
        self.members = rows_by_group(deployment)
        self._hidden = HiddenCells(main, folds, axes, kept, deployment)
        self._parametric: dict[tuple[int, int, bytes], FloatArray] = {}
        self._trees: dict[bool, FloatArray] = {}
        numbers = np.arange(int(deployment.max(initial=0)) + 1)
        self._unseen = {id(fold): np.isin(numbers, list(fold.members)) for fold in folds}
        self._plans: dict[Situation, Plan] = {}
        self._left_out: dict[Situation, LeftOut] = {}
        self._recalled: dict[Situation, Callable[[], LeftOut]] = {}

    def left_out(self, deployment: int, accelerator: int, log2_devices: float, known: FloatArray) -> LeftOut:
        """Cells of others left out as if of each only cells like those at axes `known` were known.

        For a deployment by its number, any other if new, of which these are known.
        """
        key, kept = situation_of(deployment, accelerator, log2_devices, known)
        if key not in self._left_out:
            again = self._recalled.pop(key, None)
            self._left_out[key] = self._leave_out(key, kept) if again is None else again()
        return self._left_out[key]

    def prepare(self, situations: Iterable[tuple[int, int, float, FloatArray]]) -> None:
        """Foretell at once whatever `left_out` needs for each of these situations, given as its parameters."""
        wanted: list[Task] = []
        for situation in situations:
            key, kept = situation_of(*situation)
            if key in self._left_out or key in self._recalled or not len(kept):
                continue
            for fold, rows, stay in self._plan(key, kept)[0]:
                if not stay.any() or self.deployment[rows[0]] != self.deployment[rows[-1]]:
                    continue
                wanted += [(one, rows, stay) for one in (fold, self.main)]
        self._hidden.foretell_many(wanted)

    @property
    def n_situations(self) -> int:
        """For how many situations it is known what is left out."""
        return len(self._left_out) + len(self._recalled)

    def to_arrays(self) -> Arrays:
        """What was left out for the situations asked so far, as arrays."""
        for key in list(self._recalled):
            self._left_out[key] = self._recalled.pop(key)()
        found = list(self._left_out.items())
        if not found:
            return {}
        lefts = [left for _, left in found]
        return {
            "situation": np.array([key[:2] for key, _ in found], dtype=np.int64),
            "devices": np.array([key[2] for key, _ in found]),
            "kept": np.frombuffer(b"".join(key[3] for key, _ in found), dtype=np.float64).reshape(-1, 3),
            "count": np.array([(len(key[3]) // 24, len(left.truth), left.n_foreign) for key, left in found]),
            "pull": np.array([left.shrinkage for left in lefts]),
            "rows": np.concatenate([left.rows for left in lefts]).astype(np.int32),
            "foretold": np.hstack([np.stack([left.out_of_fold, left.in_sample, left.sd]) for left in lefts]),
        }

    def recall(self, arrays: Arrays) -> None:
        """Take over what `to_arrays` gave, of the same cells under the same hyperparameters."""
        kept_at, at = 0, 0
        for (deployment, accelerator), devices, (n_kept, n_rows, n_foreign), shrinkage in zip(
            arrays["situation"].tolist(), arrays["devices"].tolist(), arrays["count"].tolist(),
            arrays["pull"].tolist(), strict=True,
        ):  # fmt: skip
            kept = floats(arrays, "kept")[kept_at : kept_at + n_kept]
            rows = arrays["rows"][at : at + n_rows].astype(np.intp)
            foretold = floats(arrays, "foretold")[:, at : at + n_rows]
            key = (deployment, accelerator, devices, kept.tobytes())
            self._recalled[key] = partial(self._assemble, key, kept, rows, foretold, n_foreign, shrinkage)
            kept_at, at = kept_at + n_kept, at + n_rows

    def _plan(self, key: Situation, kept: FloatArray) -> Plan:
        """Who foretells which rows of which block, and how many accelerators stand for an unknown one."""
        if key not in self._plans:
            blocks, n_foreign = self._blocks(key[0], key[1], len(kept))
            stays = [self._stay(rows, kept) for rows in blocks]
            tasks = [
                (fold, rows, stay)
                for fold in self.folds
                for rows, stay in zip(blocks, stays, strict=True)
                if not fold.members.isdisjoint(self.deployment[rows].tolist())
            ]
            self._plans[key] = tasks, n_foreign
        return self._plans[key]

    def _leave_out(self, key: Situation, kept: FloatArray) -> LeftOut:
        tasks, n_foreign = self._plan(key, kept)
        del self._plans[key]
        found, rows, scored = [], [np.zeros(0, dtype=np.intp)], [np.zeros(0, dtype=bool)]
        for fold, block, stay in tasks:
            out_of_fold, _ = self._hidden.as_if(fold, block, stay)
            # on the scale of the hyperparameters that predict
            in_sample, variance = self._hidden.as_if(self.main, block, stay)
            found.append((out_of_fold, in_sample, variance))
            rows.append(block[~stay])
            scored.append(self._unseen[id(fold)][self.deployment[block[~stay]]])
        asked = np.concatenate(rows)
        parametric = np.full(len(asked), np.nan)
        if self.whole and len(asked):
            far = beyond(self.axes[asked], kept)[:, 1] > 0
            start = 0
            for (_, block, stay), there in zip(tasks, rows[1:], strict=True):
                if far[start : start + len(there)].any():
                    parametric[start : start + len(there)] = self._parametric_of(block, stay)
                start += len(there)
        out_of_fold, in_sample, variance = np.hstack([np.zeros((3, 0)), *(np.stack(each) for each in found)])
        use = np.concatenate(scored)
        if not len(kept) and unmeasured.has_say(len(self.members), self.kept):
            foretold = np.stack([out_of_fold, in_sample, np.sqrt(variance)])[:, use]
            left = self._assemble(key, kept, asked[use], foretold, n_foreign, 0.0)
            return unmeasured.learn(left, self._trees_without(n_foreign > 0)[asked[use]])
        left = self._assemble(
            key, kept, asked[use], np.stack([out_of_fold, in_sample, np.sqrt(variance)])[:, use], n_foreign, 0.0
        )
        return extrapolation.learn(left, parametric[use])

    def _assemble(
        self,
        key: Situation,
        kept: FloatArray,
        rows: NDArray[np.intp],
        foretold: FloatArray,
        n_foreign: int,
        shrinkage: float,
    ) -> LeftOut:
        """The left-out cells at these rows; `foretold` (3, k): out of fold, in sample, the standard deviation."""
        _, accelerator, log2_devices, _ = key
        out_of_fold, in_sample, sd = foretold
        apart = (self.main.posterior.inputs.values[rows, DEVICES] - log2_devices) / DEVICES_BANDWIDTH
        similarity_weight = np.where(self.accelerator[rows] == accelerator, ACCELERATOR_WEIGHT, 1.0) * np.exp(
            -0.5 * apart**2
        )
        known, many = len(kept) / (len(kept) + HALF_CELLS), len(self.members) / (len(self.members) + HALF_DEPLOYMENTS)
        return LeftOut(
            self.axes[rows], self.deployment[rows], self.kept[rows, 0], self.main.posterior.y[rows], out_of_fold,
            in_sample, sd, share=MAX_IN_SAMPLE_SHARE * known * many, deciding=MAX_DECIDING_SHARE * known,
            beyond=beyond(self.axes[rows], kept), similarity_weight=similarity_weight, n_foreign=n_foreign,
            shrinkage=shrinkage, unmeasured=not len(kept), rows=rows,
        )  # fmt: skip

    def _blocks(self, deployment: int, accelerator: int, n_known: int) -> tuple[list[NDArray[np.intp]], int]:
        """The rows of each block to leave out, and how many accelerators stand for one that nobody knows."""
        enough = max(6, n_known + 1)
        rich = [d for d, rows in self.members.items() if d != deployment and len(rows) >= enough]
        alike = [d for d in rich if self.accelerator[self.members[d][0]] == accelerator]
        if alike or not rich:
            blocks, n_foreign = [self.members[d] for d in self._some(rich, alike)], 0
        else:
            # nothing is well measured on this accelerator: leave out another one whole, as it is with this one
            blocks = []
            others = sorted({int(self.accelerator[self.members[d][0]]) for d in rich})
            n_foreign = len(others)
            for other in others:
                whole = [rows for rows in self.members.values() if self.accelerator[rows[0]] == other]
                blocks.append(np.concatenate(whole)[:MAX_BLOCK])
        return blocks, n_foreign

    def _some(self, rich: list[int], alike: list[int]) -> list[int]:
        if len(rich) <= MAX_DEPLOYMENTS:
            return rich
        rng = np.random.default_rng(self.random_state)
        first = list(rng.permutation(alike)[:MAX_DEPLOYMENTS])
        others = rng.permutation([d for d in rich if d not in set(alike)])
        return [int(d) for d in [*first, *others][:MAX_DEPLOYMENTS]]

    def _stay(self, rows: NDArray[np.intp], kept: FloatArray) -> NDArray[np.bool_]:
        """Which rows of a block stay so that what remains of a deployment is like `kept`; the others are left out."""
        stay = np.zeros(len(rows), dtype=bool)
        if not len(kept):
            return stay
        deployment = self.deployment[rows]
        distance = np.abs(self.axes[rows][:, None, :3] - kept[None, :, :]).sum(-1)
        if deployment[0] == deployment[-1]:
            stay[distance.argmin(0)] = True
            return stay
        for number in np.unique(deployment):
            own = np.flatnonzero(deployment == number)
            stay[own[distance[own].argmin(0)]] = True
        return stay

    def _trees_without(self, whole_accelerators: bool) -> FloatArray:
        """What trees say of each cell's residual that have not seen its deployment, or its accelerator, (n,)."""
        if whole_accelerators not in self._trees:
            posterior, group = self.main.posterior, self.accelerator if whole_accelerators else self.deployment
            self._trees[whole_accelerators] = unmeasured.left_out_trees(
                posterior.inputs, self.axes, self.kept[:, 0], posterior.y, group, self.random_state
            )
        return self._trees[whole_accelerators]

    def _parametric_of(self, rows: NDArray[np.intp], stay: NDArray[np.bool_]) -> FloatArray:
        """What a parametric model of the cells that stay says of those that do not; NaN where that has no say."""
        asked = rows[~stay]
        key = (int(rows[0]), len(rows), stay.tobytes())
        if key not in self._parametric:
            parametric = np.full(len(asked), np.nan)
            for number in np.unique(self.deployment[asked]):
                own = np.flatnonzero(self.deployment[asked] == number)
                known = rows[stay & (self.deployment[rows] == number)]
                said = parametric_at(self.main.posterior, self.axes, self.kept, known, self.axes[asked[own]])
                parametric[own] = said - self.kept[asked[own], 0]
            self._parametric[key] = parametric
        return self._parametric[key]
