"""ALA the plain way, as the yardstick: SciPy's curve_fit, default XGBoost once a parameter, nothing remembered.

Algorithms 2-8 of arXiv 2505.09319, written to be read beside the listings and independent of fewmark's own code but
for the walk: `modify` draws the same random numbers in the same order, so that both sides can walk over the same
subsets.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from sklearn.multioutput import MultiOutputRegressor
from xgboost import XGBRegressor

FloatArray = NDArray[np.float64]
Subset = tuple[frozenset[float], frozenset[float], frozenset[float]]
Pair = tuple[float, float]


def model(bb: FloatArray, a: float, b: float, c: float) -> FloatArray:
    """Algorithm 1."""
    return c - a * np.exp(-b * bb)


def build_exponential_database(X: FloatArray, y: FloatArray) -> dict[Pair, tuple[float, float, float]]:
    """Algorithm 2, with the bounds 0 <= a, b, c."""
    database = {}
    for ii, oo in np.unique(X[:, :2], axis=0):
        rows = (X[:, 0] == ii) & (X[:, 1] == oo)
        bb, thpt = X[rows, 2], y[rows]
        if len(np.unique(bb)) > 1:
            t10, t90 = np.percentile(thpt, [10, 90])
            b10, b90 = np.percentile(bb, [10, 90])
            b90 = max(b90, b10 + 1e-3)
            start = [max(t90 - t10, 1e-5), 1 / max(b90 - b10, 1e-5), max(t90, 1e-5)]
        else:
            start = [1.0, 0.001, 0.0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)
                found, _ = curve_fit(model, bb, thpt, p0=start, bounds=(0, np.inf))
        except RuntimeError:
            continue
        database[ii, oo] = (float(found[0]), float(found[1]), float(found[2]))
    return database


def features(pairs: FloatArray) -> FloatArray:
    """Algorithm 3, lines 2-8."""
    ii, oo = pairs[:, 0], pairs[:, 1]
    return np.column_stack([ii, oo, np.log1p(ii), np.log1p(oo), np.log1p(ii / oo), ii / (oo + 1), ii / (ii + 1)])


def train(X: FloatArray, y: FloatArray) -> tuple[dict[Pair, tuple[float, float, float]], MultiOutputRegressor | None]:
    """Algorithm 4 for one deployment."""
    database = build_exponential_database(X, y)
    if not database:
        return database, None
    learner = MultiOutputRegressor(XGBRegressor())
    return database, learner.fit(features(np.array(list(database))), np.array(list(database.values())))


def predict(
    database: dict[Pair, tuple[float, float, float]], learner: MultiOutputRegressor | None, X: FloatArray
) -> FloatArray:
    """Algorithm 5."""
    out = np.full(len(X), np.nan)
    for ii, oo in np.unique(X[:, :2], axis=0):
        rows = (X[:, 0] == ii) & (X[:, 1] == oo)
        if (ii, oo) in database:
            parameters = database[ii, oo]
        elif learner is not None:
            parameters = tuple(learner.predict(features(np.array([[ii, oo]])))[0])
        else:
            continue
        out[rows] = model(X[rows, 2], *parameters)
    return out


def evaluate_subset(X: FloatArray, y: FloatArray, deployment: NDArray[np.intp], subset: Subset) -> float:
    """The median percentage error on what a subset leaves out."""
    inside = np.all([np.isin(X[:, j], list(subset[j])) for j in range(3)], axis=0)
    if inside.all() or not inside.any():
        return math.inf
    prediction = np.full(len(X), np.nan)
    for group in np.unique(deployment):
        mine = deployment == group
        if (mine & inside).any():
            trained = train(X[mine & inside], y[mine & inside])
            prediction[mine & ~inside] = predict(*trained, X[mine & ~inside])
    if np.isnan(prediction[~inside]).all():
        return math.inf
    error = np.abs(np.where(np.isnan(prediction), 0.0, prediction) - y) / y
    return float(np.median(error[~inside]) * 100)


def modify(subset: Subset, values: list[FloatArray], rng: np.random.Generator) -> Subset:
    """One element added or deleted."""
    every = [(j, float(v)) for j in range(3) for v in values[j]]
    addable = [(j, v) for j, v in every if v not in subset[j]]
    deletable = [(j, v) for j, v in every if v in subset[j] and len(subset[j]) > 1]
    add = rng.random() < 0.5
    choices = addable if (add and addable) or not deletable else deletable
    if not choices:
        return subset
    j, v = choices[rng.integers(len(choices))]
    sets = list(subset)
    sets[j] = sets[j] ^ {v}
    return sets[0], sets[1], sets[2]


def anneal(
    X: FloatArray,
    y: FloatArray,
    deployment: NDArray[np.intp],
    initial: Subset,
    rng: np.random.Generator,
    *,
    temperature: float,
    cooling: float,
    n_iterations: int,
) -> list[tuple[Subset, float]]:
    """Algorithm 6."""
    values = [np.unique(X[:, j]) for j in range(3)]
    state, state_error = initial, evaluate_subset(X, y, deployment, initial)
    log = []
    for _ in range(n_iterations):
        temperature *= cooling
        candidate = modify(state, values, rng)
        error = evaluate_subset(X, y, deployment, candidate)
        if error < state_error or rng.random() < math.exp(-max(error - state_error, 0.0) / temperature):
            state, state_error = candidate, error
        log.append((candidate, error))
    return log


def encode(subset: Subset, values: list[FloatArray]) -> list[float]:
    """Algorithm 7, lines 3-10."""
    return [float(v in subset[j]) for j in (0, 2, 1) for v in values[j]]


def train_error_predictor(log: list[tuple[Subset, float]], values: list[FloatArray]) -> XGBRegressor:
    """Algorithm 7."""
    known = [(subset, error) for subset, error in log if math.isfinite(error)]
    return XGBRegressor().fit(np.array([encode(s, values) for s, _ in known]), np.array([e for _, e in known]))


def distance(one: FloatArray, other: FloatArray, edges: list[FloatArray]) -> float:
    """The cosine distance of two tables' histograms, averaged over the columns ii, oo, bb, thpt."""
    total = 0.0
    for j in range(one.shape[1]):
        p, q = np.histogram(one[:, j], edges[j])[0], np.histogram(other[:, j], edges[j])[0]
        total += 1 - p @ q / (np.linalg.norm(p) * np.linalg.norm(q))
    return float(total / one.shape[1])


def predict_error(
    new: FloatArray, data: FloatArray, predictor: XGBRegressor, log: list[tuple[Subset, float]]
) -> tuple[float, float]:
    """Algorithm 8: the predicted error of a table (ii, oo, bb, thpt), and 1 / (1 + distance to the nearest subset)."""
    values = [np.unique(data[:, j]) for j in range(3)]
    signature: Subset = (frozenset(new[:, 0]), frozenset(new[:, 1]), frozenset(new[:, 2]))
    error = float(predictor.predict(np.array([encode(signature, values)]))[0])
    edges = [np.histogram_bin_edges(np.concatenate([data[:, j], new[:, j]]), bins=10) for j in range(4)]
    distances = []
    for subset, _ in log:
        inside = np.all([np.isin(data[:, j], list(subset[j])) for j in range(3)], axis=0)
        if inside.any():
            distances.append(distance(data[inside], new, edges))
    return error, 1 / (1 + min(distances))
