"""How many users an engine really serves at once, learned from what is known of its cells.

In a closed loop an engine takes in as many requests as its batch holds; the others queue. Where the batch is full
is not published: engines set limits of their own, of sequences and of the tokens that their cache may hold. But
any cell whose first token and TPOT are known shows it (`fewmark.models.analytic.queueing`):

    ttft / D ≈ x + (1 + x) · max(0, U / B - 1),   D = (oo - 1) · tpot, U users, B the most that are served at once
    B = min(S, K / (ii + oo)),                    S sequences, K tokens, both of a deployment
    x = (c1 + c2 ii) / (oo - 1), what few users see: a first token takes as long as some decoding steps

Notation: d deployments; log2 S and log2 K on grids; each deployment's likelihood is a Student t of its cells' log ttft,
wider above the formula than below it, as prompts also wait for one another where the batch has room. Two
Gaussian processes over deployments lend what relatives tell: of S those of the same engine, or those alike in
size, model and accelerator, as the cells have it; of K, beside what the memory that the weights leave free would hold,
the latter. K is left out where the cells are no likelier with it.

Source: the share of time in service of a closed queue is its mean number in service over U (Little 1961); one pass of
assumed-density filtering, then each deployment's own likelihood under what the others say (Minka 2001, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import logsumexp

from fewmark.core.json_types import Json
from fewmark.facts.facts import Facts, weight_bytes
from fewmark.models.analytic.queueing import log_first_token
from fewmark.models.analytic.roofline import USABLE_MEMORY
from fewmark.models.gp.linalg import log_normal
from fewmark.models.state import Arrays, State, floats, listed
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import numbers_of

STEP: Final = 0.25  # octaves
SEQUENCES: Final = np.arange(0.0, 12.0 + STEP, STEP)  # log2 S, and log2 B
TOKENS: Final = np.arange(2.0, 26.0 + STEP, STEP)  # log2 K
LENGTHS: Final = np.arange(0.0, 20.5, 0.5)  # log2 (ii + oo) at which B is kept
MEAN: Final = 6.0  # of log2 S before anything is known
SD: Final = 2.5
SURE: Final = 0.5  # standard deviations of log2 K beside what memory says, over those of log2 S
UNLIMITED: Final = 0.05  # the same, where K is far beyond all requests
TELLING: Final = 2.0  # log odds from which cells tell of a limit of tokens
SCALE: Final = 0.3  # of log ttft beside its formula
SCALE_OF_SHARE: Final = 0.25  # of the log of e2e / D
CONTEST: Final = 64  # deployments by which the shape of knees is decided
CROWDED: Final = 0.6  # the same of the part without waiting, above it
DEGREES: Final = 4.0
MAX_UNQUEUED_USERS: Final = 4.0  # so few never queue: their ttft is x D
SHORTEST: Final = 2.0  # output tokens; a TPOT over fewer says little
WIDTH: Final = 2.0  # octaves of size over which deployments are alike
# standard deviations of what deployments share, octaves
ALL: Final = 2.0
SIZED: Final = 1.5
ENGINE_WEIGHT: Final = 1.0
MODEL_WEIGHT: Final = 1.0
ACCELERATOR_WEIGHT: Final = 0.7
OWN: Final = 0.5
OWN_OF_ENGINE: Final = 0.25  # where the limit is the engine's
MIN_PRECISION: Final = 1e-2  # precision of what tells nothing

TOLD: Final = 7  # columns of `Saturation.told`

Key = tuple[str, str, str, float, str]


@dataclass(frozen=True)
class Saturation:
    """What is known of B.

    Attributes
    ----------
    keys : the d deployments that it was learned from: engine, model, accelerator, devices, precision
    sites : (d, 4) what each says by itself: mean and variance of log2 S, mean and variance of log2 K
    reach : (d, len(LENGTHS), len(SEQUENCES)) the chance that B is at least each of its grid, by request length, with
        what its relatives say
    others : (d, 4) as `sites`, what its relatives alone say
    unloaded : c1, c2
    by_engine : whether S goes by the engine alone, as the sites have it, or by sizes, models and accelerators as well
    by_tokens : whether the cells tell of K at all
    sharp : whether waiting begins at U = B, as it does with requests alike; else little by little before it
    """

    keys: tuple[Key, ...]
    sites: FloatArray
    reach: FloatArray
    others: FloatArray
    unloaded: tuple[float, float]
    by_engine: bool
    by_tokens: bool
    sharp: bool

    @classmethod
    def learn(cls, X: pd.DataFrame, facts: Facts) -> Saturation | None:
        """From cells with users, `ttft_s` and `tpot_s`; None where no cell has them."""
        if not _can_tell(X):
            return None
        users, first = _shares(X)
        rows = np.flatnonzero(~np.isnan(first))
        if not len(rows):
            return None
        told = X.iloc[rows]
        unloaded = _calm(told, users[rows])
        length = _log2_tokens(told)
        cells = first[rows], _at_rest(told, unloaded), users[rows]
        names = _keys(told)
        keys = tuple(dict.fromkeys(names))
        members: dict[Key, list[int]] = {key: [] for key in keys}
        for row, key in enumerate(names):
            members[key].append(row)
        some = keys[:: len(keys) // CONTEST + 1]

        def of(each: FloatArray, chosen: tuple[Key, ...]) -> tuple[Saturation, float]:
            likelihood = np.stack([_together(each[members[key]], length[members[key]]) for key in chosen])
            return cls._best(chosen, likelihood, unloaded, facts)

        evidence = {sharp: of(_likelihood(*cells, sharp=sharp), some)[1] for sharp in (True, False)}
        if evidence[True] > evidence[False]:
            return of(_likelihood(*cells, sharp=True), keys)[0]
        return replace(of(_soft_likelihood(*cells), keys)[0], sharp=False)

    @classmethod
    def _best(
        cls, keys: tuple[Key, ...], likelihood: FloatArray, unloaded: tuple[float, float], facts: Facts
    ) -> tuple[Saturation, float]:
        """What the likelihoods (d, s, k) say, with a limit of tokens if they tell of one, and how likely they are."""
        covariances = {by_engine: _covariance(keys, keys, facts, by_engine=by_engine) for by_engine in (False, True)}
        plain, bounded = (
            cls._of(
                keys, likelihood, unloaded, covariances, _memory(keys, facts, by_tokens=by_tokens), by_tokens=by_tokens
            )
            for by_tokens in (False, True)
        )
        with_tokens, without = bounded._evidence(likelihood), plain._evidence(likelihood)
        return (bounded, with_tokens) if with_tokens - without >= TELLING else (plain, without)

    @classmethod
    def _of(
        cls, keys: tuple[Key, ...], likelihood: FloatArray, unloaded: tuple[float, float],
        covariances: dict[bool, FloatArray], memory: FloatArray, *, by_tokens: bool,
    ) -> Saturation:  # fmt: skip
        """What the likelihoods (d, s, k) say, if cached tokens are limited, or if they are not.

        `covariances` (d, d) of deployments by whether they go by engine, `memory` (d,) as from `_memory`.
        """
        sure = _sure(by_tokens)
        before = np.column_stack(np.broadcast_arrays(MEAN, SD**2, memory, (sure * SD) ** 2))
        sites = np.stack([_site(one, prior) for one, prior in zip(likelihood, before, strict=True)])
        others = np.empty_like(sites)
        off, spread = sites[:, 0] - MEAN, np.diag(sites[:, 1])
        by_engine = max(covariances, key=lambda which: log_normal(off, covariances[which] + spread))
        for at, covariance, mean in ((0, covariances[by_engine], MEAN), (2, sure**2 * covariances[False], memory)):
            precision = np.linalg.inv(covariance + np.diag(sites[:, at + 1]))
            diagonal = np.diag(precision)
            others[:, at] = sites[:, at] - precision @ (sites[:, at] - mean) / diagonal
            others[:, at + 1] = np.maximum(1 / diagonal - sites[:, at + 1], 0.05)
        reach = np.stack([_reach(one, prior) for one, prior in zip(likelihood, others, strict=True)])
        return cls(keys, sites, reach, others, unloaded, by_engine, by_tokens, sharp=True)

    def _evidence(self, likelihood: FloatArray) -> float:
        """The log probability of each deployment's cells by what its relatives say, summed."""
        priors = [_log_prior(one) for one in self.others]
        each = [logsumexp(one + prior) - logsumexp(prior) for one, prior in zip(likelihood, priors, strict=True)]
        return float(np.sum(each))

    def told(self, X: pd.DataFrame) -> FloatArray:
        """What `reach_of_few` needs of each cell: log(ttft / D), log x, if sharp, its deployment's `others`, (n, TOLD).

        NaN if unknown.
        """
        out = np.full((len(X), TOLD), np.nan)
        if _can_tell(X):
            out[:, 0] = _shares(X)[1]
        out[:, 1], out[:, 2] = _at_rest(X, self.unloaded), self.sharp
        at = {key: i for i, key in enumerate(self.keys)}
        for row, key in enumerate(_keys(X)):
            if key in at:
                out[row, 3:] = self.others[at[key]]
        return out

    def reach_at(self, X: pd.DataFrame, facts: Facts) -> FloatArray:
        """The chance that B is at least each of its grid, for each row, (n, len(SEQUENCES))."""
        names = _keys(X)
        known = dict(zip(self.keys, self.reach, strict=True))
        strange = tuple(dict.fromkeys(name for name in names if name not in known))
        if strange:
            known |= dict(zip(strange, self._lent(strange, facts), strict=True))
        length = _log2_tokens(X)
        out = np.empty((len(X), len(SEQUENCES)))
        rows: dict[Key, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        for name, own in rows.items():
            out[own] = _between(length[own], known[name])
        return out

    def _lent(self, strange: tuple[Key, ...], facts: Facts) -> list[FloatArray]:
        """`reach` of deployments of which no cell is known, by their relatives."""
        prior = np.empty((len(strange), 4))
        blank = np.full(len(self.keys), MEAN), np.full(len(strange), MEAN)
        memory = tuple(_memory(keys, facts, by_tokens=self.by_tokens) for keys in (self.keys, strange))
        for at, scale, by_engine, (mean, own) in (
            (0, 1.0, self.by_engine, blank),
            (2, _sure(self.by_tokens) ** 2, False, memory),
        ):
            every = scale * _covariance((*self.keys, *strange), (*self.keys, *strange), facts, by_engine=by_engine)
            n = len(self.keys)
            across = every[n:, :n]
            weights = np.linalg.solve(every[:n, :n] + np.diag(self.sites[:, at + 1]), across.T).T
            prior[:, at] = own + weights @ (self.sites[:, at] - mean)
            prior[:, at + 1] = np.maximum(np.diag(every)[n:] - (weights * across).sum(1), 0.05)
        nothing = np.zeros((len(SEQUENCES), len(TOKENS)))
        return [_reach(nothing, one) for one in prior]

    def to_state(self) -> tuple[State, Arrays]:
        """JSON-ready values and arrays."""
        arrays: Arrays = {"sites": self.sites, "reach": self.reach, "others": self.others}
        state: State = {"keys": [list(key) for key in self.keys], "unloaded": list(self.unloaded)}
        return state | {"by_engine": self.by_engine, "by_tokens": self.by_tokens, "sharp": self.sharp}, arrays

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Saturation:
        """What `to_state` gave."""
        keys = tuple(map(_key_of, listed(state, "keys")))
        first, second = np.asarray(listed(state, "unloaded"), dtype=np.float64).tolist()
        unloaded = first, second
        limits = bool(state["by_engine"]), bool(state["by_tokens"]), bool(state["sharp"])
        return cls(keys, floats(arrays, "sites"), floats(arrays, "reach"), floats(arrays, "others"), unloaded, *limits)


def _key_of(told: Json) -> tuple[str, str, str, float, str]:
    if isinstance(told, str) or not isinstance(told, Sequence):
        raise TypeError("a key is a list")
    engine, model, accelerator, n_accelerators, precision = (str(item) for item in told)
    return engine, model, accelerator, float(n_accelerators), precision


def reach_of_few(told: FloatArray, users: FloatArray, log2_tokens: FloatArray) -> FloatArray:
    """`reach_at` for a deployment's cells by those of them that tell (and its relatives), (n, len(SEQUENCES))."""
    use = ~np.isnan(told[:, 0])
    cells = told[use, 0], told[use, 1], users[use]
    each = _likelihood(*cells, sharp=True) if told[0, 2] else _soft_likelihood(*cells)
    return _between(log2_tokens, _reach(_together(each, log2_tokens[use]), told[0, 3:]))


def log2_users(reach: FloatArray) -> FloatArray:
    """The estimate of log2 B, (n,)."""
    return np.asarray(STEP * reach[:, 1:].sum(axis=1))


def log_waves(users: FloatArray, log2_most: FloatArray) -> FloatArray:
    """log(1 + (U / B)^3) / 3: how many times over the users fill the batch, natural log."""
    return np.asarray(np.logaddexp(0.0, 3 * np.log(2.0) * (np.log2(users) - log2_most)) / 3)


def _can_tell(X: pd.DataFrame) -> bool:
    return {"concurrency", "ttft_s", "tpot_s", "input_tokens", "output_tokens"} <= set(map(str, X.columns))


def _shares(X: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """The users of each cell, and log(ttft / D), NaN where it is not known; each (n,)."""
    names = ("concurrency", "input_tokens", "output_tokens", "ttft_s", "tpot_s")
    users, ii, oo, ttft, tpot = (numbers_of(X, name) for name in names)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = (users > 0) & (ii > 0) & (oo > SHORTEST) & (ttft > 0) & (tpot > 0)
        return users, np.where(known, np.log(ttft / ((oo - 1) * tpot)), np.nan)


def _log2_tokens(X: pd.DataFrame) -> FloatArray:
    tokens = np.nan_to_num(numbers_of(X, "input_tokens")) + np.nan_to_num(numbers_of(X, "output_tokens"))
    return np.asarray(np.log2(np.maximum(tokens, 1.0)))


def _calm(X: pd.DataFrame, users: FloatArray) -> tuple[float, float]:
    """c1 and c2 by the cells of few users: how many decoding steps a first token takes."""
    few = X[users <= max(MAX_UNQUEUED_USERS, float(users.min()))]
    ii, steps = numbers_of(few, "input_tokens"), np.log(numbers_of(few, "ttft_s") / numbers_of(few, "tpot_s"))
    middle = float(np.median(ii))
    half = float(np.median(steps)) - np.log(2.0)

    def off(log_c: FloatArray) -> FloatArray:
        return np.asarray(np.logaddexp(log_c[0], log_c[1] + np.log(ii / middle)) - steps)

    found = least_squares(off, [half, half], loss="soft_l1").x
    return float(np.exp(found[0])), float(np.exp(found[1]) / middle)


def _at_rest(X: pd.DataFrame, unloaded: tuple[float, float]) -> FloatArray:
    """log x of each cell, (n,)."""
    ii, oo = numbers_of(X, "input_tokens"), numbers_of(X, "output_tokens")
    return np.asarray(np.log((unloaded[0] + unloaded[1] * ii) / np.maximum(oo - 1, 1.0)))


def _likelihood(first: FloatArray, at_rest: FloatArray, users: FloatArray, *, sharp: bool) -> FloatArray:
    """The log likelihood of each B of the grid by each cell, (n, b), averaged over what lies between its points."""
    waiting = log_first_token(users, SEQUENCES, STEP, at_rest, sharp=sharp)
    off = first[:, None, None] - at_rest[:, None, None] - waiting
    above = np.hypot(SCALE, CROWDED * np.exp(-waiting))
    each = -0.5 * (DEGREES + 1) * np.log1p((off / np.where(off < 0, SCALE, above)) ** 2 / DEGREES)
    return np.asarray(logsumexp(each - np.log(SCALE + above), axis=2))


def _soft_likelihood(first: FloatArray, at_rest: FloatArray, users: FloatArray) -> FloatArray:
    """The same where knees are rounded, by the share of a request's time that is not decoding."""
    excess = np.log1p(np.exp(first)) - np.log1p(np.exp(at_rest))
    off = excess[:, None] - log_waves(users[:, None], SEQUENCES)
    return np.asarray(-0.5 * (DEGREES + 1) * np.log1p((off / SCALE_OF_SHARE) ** 2 / DEGREES))


@lru_cache(maxsize=128)
def _place(steps: int) -> NDArray[np.intp]:
    """Where B lies on its grid for requests of so many steps of log2 tokens, (s, k)."""
    fitting = np.rint(TOKENS / STEP).astype(np.intp) - steps
    place = np.minimum(np.arange(len(SEQUENCES))[:, None], np.maximum(fitting, 0))
    place.setflags(write=False)
    return place


def _together(each: FloatArray, log2_tokens: FloatArray) -> FloatArray:
    """The log likelihood of S and K by all cells of a deployment, (s, k)."""
    out = np.zeros((len(SEQUENCES), len(TOKENS)))
    for length in np.unique(log2_tokens).tolist():
        alike = each[log2_tokens == length].sum(0)
        steps, rest = divmod(length / STEP, 1.0)
        out += (1 - rest) * alike[_place(int(steps))] + rest * alike[_place(int(steps) + 1)]
    return out


def _log_prior(prior: FloatArray) -> FloatArray:
    """log p(S, K), up to a constant, (s, k)."""
    mean_s, variance_s, mean_k, variance_k = prior
    apart = -0.5 * (SEQUENCES[:, None] - mean_s) ** 2 / variance_s
    return np.asarray(apart - 0.5 * (TOKENS - mean_k) ** 2 / variance_k)


def _weights(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """The posterior over S and K, (s, k)."""
    log_weight = likelihood + _log_prior(prior)
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def _site(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """What a deployment's cells say of S and of K by themselves, as Gaussians: the posterior over the prior, (4,)."""
    weight = _weights(likelihood, prior)
    out = np.empty(4)
    for at, grid, share in ((0, SEQUENCES, weight.sum(1)), (2, TOKENS, weight.sum(0))):
        mean = share @ grid
        variance = share @ grid**2 - mean**2 + 0.04  # the grid's own coarseness
        precision = 1 / variance - 1 / prior[at + 1]
        if precision < MIN_PRECISION:
            out[at : at + 2] = prior[at], 1 / MIN_PRECISION
        else:
            out[at : at + 2] = (mean / variance - prior[at] / prior[at + 1]) / precision, 1 / precision
    return out


def _reach(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """The chance that B is at least each of its grid, at each of `LENGTHS`, (l, s)."""
    both = np.cumsum(np.cumsum(_weights(likelihood, prior)[::-1, ::-1], axis=0), axis=1)[::-1, ::-1]
    padded = np.pad(both, ((0, 0), (0, 1)))
    at = np.rint((SEQUENCES + LENGTHS[:, None] - TOKENS[0]) / STEP).astype(np.intp)
    out = padded[np.arange(len(SEQUENCES)), np.clip(at, 0, len(TOKENS))]
    out[:, 0] = 1.0  # one is always served
    return np.asarray(out)


def _between(log2_tokens: FloatArray, reach: FloatArray) -> FloatArray:
    """`reach` (l, s) at these lengths, (n, s)."""
    at = np.clip(log2_tokens / (LENGTHS[1] - LENGTHS[0]), 0.0, len(LENGTHS) - 1.0)
    low = np.minimum(at.astype(np.intp), len(LENGTHS) - 2)
    share = (at - low)[:, None]
    return np.asarray((1 - share) * reach[low] + share * reach[low + 1])


def _keys(X: pd.DataFrame) -> list[Key]:
    def texts(name: str) -> list[str]:
        return ["" if pd.isna(v) else str(v).strip().lower() for v in X[name]] if name in X else [""] * len(X)

    counts, parallel = numbers_of(X, "accelerator_count"), numbers_of(X, "tensor_parallel_size")
    devices = np.where(counts > 0, counts, np.where(parallel > 0, parallel, 1.0))
    names = (texts(name) for name in ("engine", "model", "accelerator"))
    return list(zip(*names, devices.tolist(), texts("precision"), strict=True))


def _same(a: tuple[Key, ...], b: tuple[Key, ...], part: int | slice) -> NDArray[np.bool_]:
    numbers: dict[object, int] = {}
    left, right = (np.array([numbers.setdefault(key[part], len(numbers)) for key in keys]) for keys in (a, b))
    return np.asarray(left[:, None] == right)


def _covariance(a: tuple[Key, ...], b: tuple[Key, ...], facts: Facts, *, by_engine: bool) -> FloatArray:
    """Between deployments, of what they share of one limit: with a limit of the engine's, or one set for each."""
    own = _same(a, b, slice(None))
    out = ALL**2 + ENGINE_WEIGHT**2 * _same(a, b, 0)
    if by_engine:
        return np.asarray(out + OWN_OF_ENGINE**2 * own, dtype=np.float64)
    za, zb = _sizes(a, facts), _sizes(b, facts)
    near = np.exp(-0.5 * ((za[:, None] - zb) ** 2).sum(-1) / WIDTH**2)
    out = out + SIZED**2 * near + MODEL_WEIGHT**2 * _same(a, b, 1) * near
    return np.asarray(out + ACCELERATOR_WEIGHT**2 * _same(a, b, 2) + OWN**2 * own, dtype=np.float64)


def _free(key: Key, facts: Facts) -> float:
    """Bytes that the weights leave free."""
    _, name, device, count, precision = key
    memory = count * facts.accelerator(device or None).memory_bytes
    return max(
        USABLE_MEMORY * memory - facts.model(name or None).parameters * weight_bytes(precision, name), 0.05 * memory
    )


def _sure(by_tokens: bool) -> float:
    return SURE if by_tokens else UNLIMITED


def _memory(keys: tuple[Key, ...], facts: Facts, *, by_tokens: bool) -> FloatArray:
    """log2 of the tokens whose keys and values that memory holds, or all that there can be, (d,)."""
    if not by_tokens:
        return np.full(len(keys), TOKENS[-1])
    models = [facts.model(key[1] or None) for key in keys]
    tokens = [_free(k, facts) / (4 * m.layers * m.kv_heads * m.head_dim) for k, m in zip(keys, models, strict=True)]
    return np.clip(np.log2(np.array(tokens, dtype=np.float64)), TOKENS[0], TOKENS[-1])


def _sizes(keys: tuple[Key, ...], facts: Facts) -> FloatArray:
    """log2 of free memory (GB), devices and parameters (billions), (d, 3)."""
    rows = [[_free(key, facts) / 1e9, key[3], facts.model(key[1] or None).parameters / 1e9] for key in keys]
    return np.log2(np.array(rows, dtype=np.float64))
