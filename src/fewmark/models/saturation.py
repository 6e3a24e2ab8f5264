"""How many users an engine really serves at once, deployment by deployment, learned from what is known of its cells.

In a closed loop an engine takes in as many requests as its batch holds; the others queue. Where the batch is full
no published fact tells: engines set limits of their own. But any cell whose first token and pace are known shows it:

    g = log(e2e / decoding), the share of a request's time that is not decoding, e2e = ttft + (oo - 1) · tpot
    g ≈ g0 + log(1 + (U / B)^3) / 3,   U users, B the most that decode at once

Notation: d deployments; log2 B on a grid; each deployment's likelihood is a Student t of its cells. A Gaussian process
over deployments (sizes, free memory, the same model, the same accelerator) lends what relatives tell.

Source: the share of time in service of a closed queue is its mean number in service over U (Little 1961); one pass of
assumed-density filtering, then each deployment's own likelihood under what the others say (Minka 2001, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.models.facts import Facts, weight_bytes

FloatArray = NDArray[np.float64]

GRID: Final = np.linspace(0.0, 12.0, 97)  # log2 users
MEAN: Final = 6.0  # of log2 B before anything is known
SD: Final = 2.5
SCALE: Final = 0.25  # of g beside its formula
DEGREES: Final = 4.0
FEW_USERS: Final = 4.0  # so few never queue: their g is g0
SHORTEST: Final = 2.0  # output tokens; a pace over fewer says little
WIDTH: Final = 2.0  # octaves of size over which deployments are alike
# standard deviations of what deployments share, octaves
ALL: Final = 2.0
SIZED: Final = 1.5
SAME_MODEL: Final = 1.0
SAME_ACCELERATOR: Final = 0.7
OWN: Final = 0.5

Key = tuple[str, str, float, str]


@dataclass(frozen=True)
class Saturation:
    """What is known of log2 B.

    Attributes
    ----------
    keys : the d deployments that it was learned from: model, accelerator, devices, precision
    site_mean, site_variance : (d,) what each says by itself
    own_mean : (d,) its estimate, with what its relatives say
    others : (d, 2) mean and variance of what its relatives alone say
    calm : g0
    """

    keys: tuple[Key, ...]
    site_mean: FloatArray
    site_variance: FloatArray
    own_mean: FloatArray
    others: FloatArray
    calm: float

    @classmethod
    def learn(cls, X: pd.DataFrame, facts: Facts) -> Saturation | None:
        """From cells with users, `ttft_s` and `tpot_s`; None where no cell has them."""
        if not {"concurrency", "ttft_s", "tpot_s", "output_tokens"} <= set(map(str, X.columns)):
            return None
        users, g = _shares(X)
        rows = np.flatnonzero(~np.isnan(g))
        if not len(rows):
            return None
        g, users = g[rows], users[rows]
        calm = float(np.median(g[users <= max(FEW_USERS, float(users.min()))]))
        each = _likelihood(g - calm, users)
        names = _keys(X.iloc[rows])
        keys = tuple(dict.fromkeys(names))
        at = {key: i for i, key in enumerate(keys)}
        likelihood = np.zeros((len(keys), len(GRID)))
        np.add.at(likelihood, [at[key] for key in names], each)
        mean, variance = _moments(likelihood - 0.5 * ((GRID - MEAN) / SD) ** 2)
        site_variance = 1 / np.maximum(1 / variance - 1 / SD**2, 1e-3)
        site_mean = site_variance * (mean / variance - MEAN / SD**2)
        precision = np.linalg.inv(_covariance(keys, keys, facts) + np.diag(site_variance))
        diagonal = np.diag(precision)
        others = site_mean - precision @ (site_mean - MEAN) / diagonal
        spread = np.maximum(1 / diagonal - site_variance, 0.05)
        own, _ = _moments(likelihood - 0.5 * (GRID - others[:, None]) ** 2 / spread[:, None])
        return cls(keys, site_mean, site_variance, own, np.column_stack([others, spread]), calm)

    def told(self, X: pd.DataFrame) -> FloatArray:
        """What `log2_users_of_few` needs of each cell: g - g0, and its deployment's `others`; NaN if not known."""
        out = np.full((len(X), 3), np.nan)
        if {"concurrency", "ttft_s", "tpot_s", "output_tokens"} <= set(map(str, X.columns)):
            out[:, 0] = _shares(X)[1] - self.calm
        at = {key: i for i, key in enumerate(self.keys)}
        for row, key in enumerate(_keys(X)):
            if key in at:
                out[row, 1:] = self.others[at[key]]
        return out

    def log2_users(self, X: pd.DataFrame, facts: Facts) -> FloatArray:
        """The estimate of log2 B for each row, (n,)."""
        names = _keys(X)
        known = dict(zip(self.keys, self.own_mean.tolist(), strict=True))
        strange = tuple(dict.fromkeys(name for name in names if name not in known))
        if strange:
            matrix = _covariance(self.keys, self.keys, facts) + np.diag(self.site_variance)
            lent = _covariance(strange, self.keys, facts) @ np.linalg.solve(matrix, self.site_mean - MEAN)
            known |= dict(zip(strange, np.clip(MEAN + lent, GRID[0], GRID[-1]).tolist(), strict=True))
        return np.array([known[name] for name in names], dtype=np.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON-ready values and arrays."""
        arrays = {"site_mean": self.site_mean, "site_variance": self.site_variance, "own_mean": self.own_mean}
        return {"keys": [list(key) for key in self.keys], "calm": self.calm}, arrays | {"others": self.others}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Saturation:
        """What `to_state` gave."""
        keys = tuple((str(m), str(a), float(n), str(p)) for m, a, n, p in state["keys"])
        others = arrays.get("others", np.full((len(keys), 2), np.nan))  # files of before it was kept
        means = arrays["site_mean"], arrays["site_variance"], arrays["own_mean"]
        return cls(keys, *means, others, float(state.get("calm", 0.0)))


def log2_users_of_few(told: FloatArray, users: FloatArray) -> float:
    """The estimate of log2 B of a deployment by these cells (and its relatives), as `Saturation.told` tells of them."""
    use = ~np.isnan(told[:, 0])
    likelihood = _likelihood(told[use, 0], users[use]).sum(0)
    return float(_moments((likelihood - 0.5 * (GRID - told[0, 1]) ** 2 / told[0, 2])[None, :])[0][0])


def _shares(X: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """The users of each cell, and g, NaN where it is not known; each (n,)."""
    users, oo, ttft, tpot = (
        pd.to_numeric(X[name], errors="coerce").to_numpy(float)
        for name in ("concurrency", "output_tokens", "ttft_s", "tpot_s")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        known = (users > 0) & (oo > SHORTEST) & (ttft > 0) & (tpot > 0)
        return users, np.where(known, np.log1p(ttft / ((oo - 1) * tpot)), np.nan)


def _likelihood(excess: FloatArray, users: FloatArray) -> FloatArray:
    """The log likelihood of each B of the grid by each cell, (n, b)."""
    off = excess[:, None] - log_waves(users[:, None], GRID)
    return np.asarray(-0.5 * (DEGREES + 1) * np.log1p((off / SCALE) ** 2 / DEGREES))


def log_waves(users: FloatArray, log2_most: FloatArray) -> FloatArray:
    """log(1 + (U / B)^3) / 3: how many times over the users fill the batch, natural log."""
    return np.asarray(np.logaddexp(0.0, 3 * np.log(2.0) * (np.log2(users) - log2_most)) / 3)


def _moments(log_weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = weight @ GRID
    return mean, weight @ GRID**2 - mean**2 + 0.04  # the grid's own coarseness


def _keys(X: pd.DataFrame) -> list[Key]:
    def texts(name: str) -> list[str]:
        return ["" if pd.isna(v) else str(v).strip().lower() for v in X[name]] if name in X else [""] * len(X)

    def numbers(name: str) -> FloatArray:
        if name not in X:
            return np.full(len(X), np.nan)
        return pd.to_numeric(X[name], errors="coerce").to_numpy(float)

    counts, parallel = numbers("accelerator_count"), numbers("tensor_parallel_size")
    devices = np.where(counts > 0, counts, np.where(parallel > 0, parallel, 1.0))
    return list(zip(texts("model"), texts("accelerator"), devices.tolist(), texts("precision"), strict=True))


def _covariance(a: tuple[Key, ...], b: tuple[Key, ...], facts: Facts) -> FloatArray:
    za, zb = _sizes(a, facts), _sizes(b, facts)
    near = np.exp(-0.5 * ((za[:, None] - zb) ** 2).sum(-1) / WIDTH**2)
    model = np.array([[k[0] == other[0] for other in b] for k in a])
    accelerator = np.array([[k[1] == other[1] for other in b] for k in a])
    same = np.array([[k == other for other in b] for k in a])
    out = ALL**2 + SIZED**2 * near + SAME_MODEL**2 * model * near
    return np.asarray(out + SAME_ACCELERATOR**2 * accelerator + OWN**2 * same, dtype=np.float64)


def _sizes(keys: tuple[Key, ...], facts: Facts) -> FloatArray:
    """log2 of free memory (GB), devices and parameters (billions), (d, 3)."""
    rows = []
    for name, device, count, precision in keys:
        model, accelerator = facts.model(name or None), facts.accelerator(device or None)
        memory = count * accelerator.memory_bytes
        free = max(0.9 * memory - model.parameters * weight_bytes(precision), 0.05 * memory)
        rows.append([free / 1e9, count, model.parameters / 1e9])
    return np.log2(np.array(rows, dtype=np.float64))
