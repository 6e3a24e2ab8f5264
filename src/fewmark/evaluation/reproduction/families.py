"""RQ3: how does ALA fare with different model families?

The paper says that it segregates each model's data into test and training, not how. Two ways are shown: cells at
random, which leaves many pairs with few batch sizes, and whole lengths, which leaves every known pair complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.evaluation.reproduction.claims import Question, judge, resample
from fewmark.evaluation.reproduction.deployments import DeploymentData
from fewmark.models.ala.annealing.subsets import median_percentage_error
from fewmark.models.ala.regressor import AlaRegressor

FloatArray = NDArray[np.float64]
Unit = tuple[str, dict[str, FloatArray]]
SPLITS: Final = ("cells at random", "whole lengths")
_REPEATS: Final = 10
_TRAIN: Final = 0.7
_LOW: Final = 15.0  # percent: what the paper itself calls accurate (its Table I, 15.03)
_FEWEST: Final = 3  # deployments that make a family


def families(deployments: Sequence[DeploymentData], seed: int) -> Question:
    """Run RQ3 on every deployment."""
    rng = np.random.default_rng(seed)
    units: list[Unit] = [(data.family, _errors(data, rng)) for data in deployments]
    counts = {name: sum(f == name for f, _ in units) for name in dict.fromkeys(f for f, _ in units)}
    names = sorted((name for name, n in counts.items() if n >= _FEWEST and name != "other"), key=lambda n: -counts[n])

    def by_family(chosen: list[Unit], split: str) -> dict[str, FloatArray]:
        return {name: np.concatenate([[], *(e[split] for f, e in chosen if f == name)]) for name in names}

    def low(chosen: list[Unit], split: str) -> bool:
        return all(len(e) and np.median(e) < _LOW for e in by_family(chosen, split).values())

    def spread(values: FloatArray) -> float:
        return float(np.subtract(*np.percentile(values, [75, 25])))

    def llama_widest(chosen: list[Unit], split: str) -> bool:
        spreads = {name: spread(e) for name, e in by_family(chosen, split).items() if len(e)}
        return "Llama" in spreads and max(spreads, key=lambda name: spreads[name]) == "Llama"

    found = {split: by_family(units, split) for split in SPLITS}
    claims = []
    for split in SPLITS:
        medians = ", ".join(f"{name} {np.median(e):.1f}%" for name, e in found[split].items())
        claims.append(
            judge(
                f"ALA achieves low median errors with every model family ({split}).",
                f"medians: {medians} (low: below {_LOW:g}%, what the paper's Table I calls accurate)",
                resample(units, lambda chosen, split=split: low(chosen, split), rng),  # type: ignore[misc]
            )
        )
    for split in SPLITS:
        spreads = ", ".join(f"{name} {spread(e):.1f}" for name, e in found[split].items())
        claims.append(
            judge(
                f"Llama's errors spread slightly wider than those of the other families ({split}).",
                f"interquartile ranges: {spreads} percentage points",
                resample(units, lambda chosen, split=split: llama_widest(chosen, split), rng),  # type: ignore[misc]
            )
        )
    return Question(
        name="rq3",
        title="How does ALA fare with different LLMs?",
        design=f"{len(deployments)} deployments with at least 16 cells, 4 lengths and 4 batch sizes, in families of at "
        f"least {_FEWEST}. Cells at random: {_REPEATS} times, {_TRAIN:.0%} to train on, the rest to predict. "
        "Whole lengths: each pair held out in turn. One value a split: the median error of what is held out.",
        claims=tuple(claims),
        data={"errors": found, "counts": counts},
    )


def _errors(data: DeploymentData, rng: np.random.Generator) -> dict[str, FloatArray]:
    at_random = []
    for _ in range(_REPEATS):
        train = np.zeros(len(data.y), dtype=bool)
        train[rng.permutation(len(data.y))[: round(_TRAIN * len(data.y))]] = True
        at_random.append(train)
    lengths = [(data.X[:, :2] != pair).any(axis=1) for pair in data.pairs]
    return {
        name: np.array([error for train in splits if (error := _error(data, train)) is not None])
        for name, splits in zip(SPLITS, (at_random, lengths), strict=True)
    }


def _error(data: DeploymentData, train: NDArray[np.bool_]) -> float | None:
    try:
        predicted = AlaRegressor().fit(data.X[train], data.y[train]).predict(data.X[~train])
    except ModelError:
        return None
    return median_percentage_error(data.y[~train], predicted)
