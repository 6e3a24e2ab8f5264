"""RQ2: how good and how fast is ALA beside plain learners, along its annealing?

For each deployment the annealing walks; on distinct subsets evenly along that walk, every method trains on the same
cells and predicts what is left out. Baselines are scikit-learn's and XGBoost's defaults on ii, oo, bb, as the paper's
are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from xgboost import XGBRegressor

from fewmark.core.errors import ModelError
from fewmark.core.json_types import Json
from fewmark.evaluation.reproduction.claims import (
    CANNOT_BE_TOLD,
    CONFIRMED,
    NOT_CONFIRMED,
    Claim,
    Question,
    judge,
    resample,
)
from fewmark.evaluation.reproduction.deployments import DeploymentData
from fewmark.models.ala.annealing.search import Schedule, anneal
from fewmark.models.ala.annealing.subsets import median_percentage_error
from fewmark.models.ala.regressor import AlaRegressor

FloatArray = NDArray[np.float64]
ALA: Final = "ALA"
PUBLISHED: Final = "ALA as published"
BASELINES: Final = ("linear regression", "XGBoost", "random forest", "gradient boosting")
_SUBSETS: Final = 8
_LONG: Final = 60
_ITERATIONS: Final = 200


def methods(seed: int) -> dict[str, Json]:
    """Every method, unfitted. "ALA as published" is the same with SciPy's search and an XGBoost model a parameter."""
    return {
        ALA: AlaRegressor(),
        PUBLISHED: AlaRegressor(fitting="search", learner=XGBRegressor(n_jobs=1)),
        "linear regression": LinearRegression(),
        "XGBoost": XGBRegressor(n_jobs=1, random_state=seed),
        "random forest": RandomForestRegressor(random_state=seed),
        "gradient boosting": GradientBoostingRegressor(random_state=seed),
    }


def effectiveness(deployments: Sequence[DeploymentData], seed: int, n_jobs: int, backend: str | None) -> Question:
    """Run RQ2 on all Llama deployments, and along a longer walk on the largest of them."""
    llama = [d for d in deployments if d.family == "Llama"]
    largest = max(range(len(llama)), key=lambda k: len(llama[k].y))
    walk = delayed(_along_a_walk)
    runs = Parallel(n_jobs=n_jobs, backend=backend)(
        walk(data, seed, _LONG if k == largest else _SUBSETS) for k, data in enumerate(llama)
    )
    names = list(methods(seed))
    rng = np.random.default_rng(seed)
    # Every deployment counts alike: as many of the long walk's subsets as of any other.
    units = [{key: values[_evenly(len(values), _SUBSETS)] for key, values in run.items()} for run in runs]

    def medians(chosen: list[dict[str, FloatArray]], few: bool = False) -> dict[str, float]:
        out = {}
        for name in names:
            values = [u[name][u["share"] < 1 / 3] if few else u[name] for u in chosen]
            pooled = np.concatenate(values)
            out[name] = float(np.median(pooled)) if len(pooled) else np.nan
        return out

    def wins(chosen: list[dict[str, FloatArray]], few: bool = False) -> bool:
        found = medians(chosen, few)
        return all(found[ALA] < found[name] for name in BASELINES)

    def spread(values: FloatArray) -> float:
        return float(np.subtract(*np.percentile(values, [75, 25])))

    def steadier(chosen: list[dict[str, FloatArray]]) -> bool:
        pooled = {name: np.concatenate([u[name] for u in chosen]) for name in names}
        return all(spread(pooled[ALA]) < spread(pooled[name]) for name in BASELINES)

    whole, few = medians(units), medians(units, few=True)
    tell = {name: f"{name} {value:.1f}%" for name, value in whole.items() if name != PUBLISHED}
    pooled = {name: np.concatenate([u[name] for u in units]) for name in names}
    seconds = {name: np.concatenate([u[f"seconds {name}"] for u in units]) for name in names}
    cost = {name: float(np.median(values)) for name, values in seconds.items()}
    slower = sum(cost[PUBLISHED] > cost[name] for name in BASELINES)
    grown = _growth(llama[largest])
    claims = (
        judge(
            "ALA has the lowest median error of all methods.",
            "medians over all subsets: " + ", ".join(tell.values()),
            resample(units, wins, rng),
        ),
        judge(
            "ALA keeps a lower error even when less training data is available.",
            "medians where less than a third of the cells is trained on: "
            + ", ".join(f"{name} {value:.1f}%" for name, value in few.items() if name != PUBLISHED),
            resample(units, lambda chosen: wins(chosen, few=True), rng),
        ),
        judge(
            "ALA's error is steady along the annealing; the baselines' is not.",
            "interquartile ranges: "
            + ", ".join(f"{name} {spread(pooled[name]):.1f}" for name in names if name != PUBLISHED)
            + " percentage points",
            resample(units, steadier, rng),
        ),
        Claim(
            "ALA takes longer to train than the baselines.",
            "median fit + predict, ms: " + ", ".join(f"{name} {value * 1e3:.1f}" for name, value in cost.items()),
            CONFIRMED if slower == len(BASELINES) else NOT_CONFIRMED,
        ),
        Claim(
            "ALA's training time depends on the number of unique pairs more than on the number of samples.",
            f"as published, 16 times the samples take {grown['rows']:.1f} times as long, 4 times the pairs "
            f"{grown['pairs']:.1f} times",
            CONFIRMED if grown["pairs"] > 1.5 * grown["rows"] else CANNOT_BE_TOLD,
        ),
    )
    return Question(
        name="rq2",
        title="How does ALA fare in effectiveness and efficiency?",
        design=f"{len(llama)} Llama deployments, each with {_SUBSETS} distinct subsets, evenly along its own annealing "
        f"({_LONG} for the course of the error on the largest, {llama[largest].label}). Every method trains on the "
        "same cells and predicts those left out; baselines have their library's defaults. Times "
        "are CPU time, one thread.",
        claims=claims,
        data={
            "errors": pooled,
            "seconds": seconds,
            "course": runs[largest],
            "n_train": np.concatenate([u["n_train"] for u in units]),
            "largest": llama[largest].label,
        },
    )


def _along_a_walk(data: DeploymentData, seed: int, n_subsets: int) -> dict[str, FloatArray]:
    log = anneal(data.X, data.y, schedule=Schedule(n_iterations=_ITERATIONS), random_state=seed)
    _, first = np.unique(log.subsets, axis=0, return_index=True)
    bounds = np.cumsum([0, *(len(values) for values in log.values)])
    bits = np.column_stack([bounds[j] + np.searchsorted(log.values[j], data.X[:, j]) for j in range(3)])
    out: dict[str, list[float]] = {}
    tried = np.sort(first[log.known[first]])
    for i in tried[_evenly(len(tried), n_subsets)]:
        train = log.subsets[i][bits].all(axis=1)
        out.setdefault("n_train", []).append(float(train.sum()))
        out.setdefault("share", []).append(float(train.mean()))
        for name, method in methods(seed).items():
            start = time.process_time()
            try:
                predicted = clone(method).fit(data.X[train], data.y[train]).predict(data.X[~train])
                error = median_percentage_error(data.y[~train], predicted)
            except ModelError:
                error = np.nan
            out.setdefault(f"seconds {name}", []).append(time.process_time() - start)
            out.setdefault(name, []).append(error)
    return {key: np.array(values) for key, values in out.items()}


def _evenly(n: int, wanted: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).round().astype(np.intp))


def _growth(data: DeploymentData, repeats: int = 5) -> dict[str, float]:
    """How many times as long the published way takes on 16 times the samples, and on 4 times the pairs."""
    plain = methods(0)[PUBLISHED]

    def seconds(X: FloatArray, y: FloatArray) -> float:
        taken = []
        for _ in range(repeats):
            start = time.process_time()
            clone(plain).fit(X, y)
            taken.append(time.process_time() - start)
        return float(np.median(taken))

    once = seconds(data.X, data.y)
    copies = np.vstack([data.X + np.array([10_000.0 * k, 10_000.0 * k, 0.0]) for k in range(4)])
    return {
        "rows": seconds(np.tile(data.X, (16, 1)), np.tile(data.y, 16)) / once,
        "pairs": seconds(copies, np.tile(data.y, 4)) / once,
    }
