"""Ensembles of regression trees as plain arrays, so that they are saved as data and predict the same everywhere.

Notation: a node either splits (feature f ≥ 0: go left where float32(x_f) ≤ threshold) or is a leaf (f = −1: value).
All trees' nodes stand in one array; `roots` are the positions of the first nodes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.models.state import Arrays, floats
from fewmark.tables.arrays import FloatArray

if TYPE_CHECKING:
    import xgboost

_FIELDS = ("roots", "left", "right", "feature", "threshold", "value")


class SklearnTree(Protocol):
    """What is read of scikit-learn's fitted trees: arrays of `node_count` items, and values (node_count, 1, 1)."""

    node_count: int
    children_left: NDArray[np.intp]
    children_right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: FloatArray
    value: FloatArray


@dataclass(frozen=True)
class Forest:
    """A sum of trees: base + scale · Σ tree(x)."""

    roots: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: FloatArray
    value: FloatArray
    base: float
    scale: float

    @classmethod
    def of(cls, trees: Sequence[SklearnTree], *, base: float, scale: float) -> Self:
        """The arrays of scikit-learn's fitted trees (their `tree_` attributes)."""
        sizes = [tree.node_count for tree in trees]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        shift = np.repeat(starts, sizes)
        left, right, feature, threshold, value = (
            np.concatenate([np.asarray(getattr(tree, name)).reshape(tree.node_count) for tree in trees])
            for name in ("children_left", "children_right", "feature", "threshold", "value")
        )
        return cls(
            roots=starts,
            left=np.where(leaf, 0, left + shift).astype(np.int32),
            right=np.where(leaf, 0, right + shift).astype(np.int32),
            feature=np.where(leaf, -1, feature).astype(np.int32),
            threshold=np.where(leaf, 0.0, threshold),
            value=value.astype(float),
            base=base,
            scale=scale,
        )

    @classmethod
    def of_booster(cls, booster: xgboost.Booster) -> Self:
        """The arrays of an XGBoost model of one output with numeric splits.

        XGBoost goes left where x < threshold, in float32: that is x ≤ the float32 just below.
        """
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        sizes = [len(tree["left_children"]) for tree in trees]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        shift = np.repeat(starts, sizes)
        left, right, feature, condition = (
            np.concatenate([np.asarray(tree[name], float) for tree in trees])
            for name in ("left_children", "right_children", "split_indices", "split_conditions")
        )
        leaf = left < 0
        below = np.nextafter(condition.astype(np.float32), np.float32(-np.inf)).astype(float)
        base = np.ravel(json.loads(learner["learner_model_param"]["base_score"]))
        return cls(
            roots=starts,
            left=np.where(leaf, 0, left + shift).astype(np.int32),
            right=np.where(leaf, 0, right + shift).astype(np.int32),
            feature=np.where(leaf, -1, feature).astype(np.int32),
            threshold=np.where(leaf, 0.0, below),
            value=np.where(leaf, condition, 0.0),
            base=float(base[0]),
            scale=1.0,
        )

    def predict(self, matrix: FloatArray) -> FloatArray:
        """The sum for each row of an (n, p) matrix, shape (n,)."""
        x = matrix.astype(np.float32)
        rows = np.arange(len(x))
        total = np.zeros(len(x))
        for root in self.roots:
            node = np.full(len(x), root)
            while (inner := self.feature[node] >= 0).any():
                at = node[inner]
                goes_left = x[rows[inner], self.feature[at]] <= self.threshold[at]
                node[inner] = np.where(goes_left, self.left[at], self.right[at])
            total += self.value[node]
        return self.base + self.scale * total

    def to_arrays(self) -> Arrays:
        """The arrays by name."""
        return {name: getattr(self, name) for name in _FIELDS} | {"base_scale": np.array([self.base, self.scale])}

    @classmethod
    def from_arrays(cls, arrays: Arrays, *, n_features: int) -> Self:
        """The forest behind `to_arrays`. Raises `ModelError` if its links do not stay inside or run in a circle."""
        base, scale = floats(arrays, "base_scale")
        forest = cls(
            roots=arrays["roots"].astype(np.int32, copy=False),
            left=arrays["left"].astype(np.int32, copy=False),
            right=arrays["right"].astype(np.int32, copy=False),
            feature=arrays["feature"].astype(np.int32, copy=False),
            threshold=floats(arrays, "threshold"),
            value=floats(arrays, "value"),
            base=base,
            scale=scale,
        )
        n = len(forest.value)
        inner = np.flatnonzero(forest.feature >= 0)
        links = np.concatenate([forest.left[inner] - inner, forest.right[inner] - inner]) if n else np.ones(0)
        ends = np.concatenate([forest.left, forest.right, forest.roots])
        astray = (links <= 0).any() or (ends < 0).any() or (ends >= n).any()
        if astray or (forest.feature >= n_features).any() or len({len(arrays[name]) for name in _FIELDS[1:]}) > 1:
            raise ModelError("the saved trees are damaged")
        return forest
