"""RQ1: how does the training set affect the prediction? Four designs of a training set, and their errors.

The paper's designs are known from a figure only (its Fig. 5) and its text. Here, on a grid of five lengths and four
batch sizes a deployment, each trains on 12 of the 20 cells, so that they differ in where the cells lie and in nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.evaluation.reproduction.claims import Question, judge, resample
from fewmark.evaluation.reproduction.deployments import DeploymentData
from fewmark.models.ala.regressor import AlaRegressor

IntArray = NDArray[np.intp]
Design = Callable[[IntArray, IntArray, np.random.Generator], NDArray[np.bool_]]


def _broad(pair: IntArray, batch: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray(pair % 2 == 0)


def _clusters(pair: IntArray, batch: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray((pair >= 1) & (pair <= 3))


def _no_large_batches(pair: IntArray, batch: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray((batch < batch.max()) & (pair != 1))


def _sparse(pair: IntArray, batch: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    kept = np.zeros(len(pair), dtype=bool)
    fuller = rng.choice(5, size=2, replace=False)
    for p in range(5):
        rows = np.flatnonzero(pair == p)
        kept[rng.choice(rows, size=3 if p in fuller else 2, replace=False)] = True
    return kept


DESIGNS: Final[dict[str, Design]] = {
    "1 broad and balanced": _broad,
    "2 dense clusters": _clusters,
    "3 no large batches": _no_large_batches,
    "4 sparse everywhere": _sparse,
}


def training_sets(deployments: Sequence[DeploymentData], seed: int) -> Question:
    """Run RQ1 on the Llama deployments whose grid of 5 lengths x 4 batch sizes is complete."""
    rng = np.random.default_rng(seed)
    chosen = [
        d for d in deployments if d.family == "Llama" and len(d.y) == 20 and len(d.pairs) == 5 and len(d.batches) == 4
    ]
    errors: list[dict[str, NDArray[np.float64]]] = []
    shown: dict[str, NDArray[np.bool_]] = {}
    for data in chosen:
        pair, batch = data.ranks()
        of: dict[str, NDArray[np.float64]] = {}
        for name, design in DESIGNS.items():
            train = design(pair, batch, rng)
            model = AlaRegressor().fit(data.X[train], data.y[train])
            of[name] = np.abs(model.predict(data.X[~train]) / data.y[~train] - 1) * 100
            shown.setdefault(name, train)
        errors.append(of)

    def median(units: list[dict[str, NDArray[np.float64]]]) -> dict[str, float]:
        return {name: float(np.median(np.concatenate([unit[name] for unit in units]))) for name in DESIGNS}

    def tail(values: NDArray[np.float64]) -> float:
        low, middle, high = np.percentile(values, [10, 50, 90])
        return float((high - middle) / (middle - low))

    def skewed(units: list[dict[str, NDArray[np.float64]]]) -> bool:
        pooled = [np.concatenate([unit[name] for unit in units]) for name in DESIGNS]
        return all(tail(values) > 1 for values in pooled)

    def order(units: list[dict[str, NDArray[np.float64]]]) -> list[str]:
        medians = median(units)
        return sorted(medians, key=lambda name: medians[name])

    names = list(DESIGNS)
    medians = median(errors)
    numbers = ", ".join(f"{name[0]}: {value:.1f}%" for name, value in medians.items())
    claims = (
        judge(
            "Errors are right-skewed in every training set: mostly low, with a long tail.",
            "the upper tail (median to 90th percentile) is longer than the lower one by a factor of "
            + ", ".join(f"{tail(np.concatenate([e[name] for e in errors])):.1f} ({name[0]})" for name in names),
            resample(errors, skewed, rng),
        ),
        judge(
            "Experiment 1, broad and balanced, has the lowest median error (4%).",
            f"medians {numbers}",
            resample(errors, lambda units: order(units)[0] == names[0], rng),
        ),
        judge(
            "Experiments 3 (no large batches) and 4 (sparse) have the highest median errors.",
            f"medians {numbers}",
            resample(errors, lambda units: set(order(units)[2:]) == {names[2], names[3]}, rng),
        ),
        judge(
            "Dense clusters (2) give a lower error than sparsity across the range (4).",
            f"{medians[names[1]]:.1f}% against {medians[names[3]]:.1f}%",
            resample(errors, lambda units: median(units)[names[1]] < median(units)[names[3]], rng),
        ),
    )
    example = chosen[0]
    return Question(
        name="rq1",
        title="How does the training set impact the throughput prediction?",
        design=f"{len(chosen)} Llama deployments with a complete grid of 5 lengths (input = output) x 4 batch sizes; "
        "each design trains on 12 cells and predicts the other 8. 1: every other length at all batch sizes. 2: the "
        "three middle lengths at all batch sizes. 3: four lengths, without the largest batch size. 4: two or three "
        "random batch sizes at every length.",
        claims=claims,
        data={
            "errors": {name: np.concatenate([unit[name] for unit in errors]) for name in DESIGNS},
            "pair": example.ranks()[0],
            "batch": example.ranks()[1],
            "lengths": example.pairs[:, 0],
            "batches": example.batches,
            "train": shown,
        },
    )
