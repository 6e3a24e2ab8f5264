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
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from fewmark.facts.facts import Facts
from fewmark.models.analytic.batch_limits import (
    SEQUENCES,
    STEP,
    TOKENS,
    between,
    log_likelihood,
    log_prior,
    reach_of,
    site,
    soft_log_likelihood,
    together,
)
from fewmark.models.analytic.relatives import Key, certainty, covariance_of, key_of, keys_of, memory_limit, stated
from fewmark.models.gp.linalg import log_normal
from fewmark.models.state import Arrays, State, floats, listed
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import numbers_of

MEAN: Final = 6.0  # of log2 S before anything is known
SD: Final = 2.5
TELLING: Final = 2.0  # log odds from which cells tell of a limit of tokens
CONTEST: Final = 64  # deployments by which the shape of knees is decided
MAX_UNQUEUED_USERS: Final = 4.0  # so few never queue: their ttft is x D
SHORTEST: Final = 2.0  # output tokens; a TPOT over fewer says little
TOLD: Final = 7  # columns of `Saturation.told`


@dataclass(frozen=True)
class Saturation:
    """What is known of B.

    Attributes
    ----------
    keys : the d deployments that it was learned from: as `fewmark.models.analytic.relatives.Key`
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
        names = keys_of(told)
        keys = tuple(dict.fromkeys(names))
        members: dict[Key, list[int]] = {key: [] for key in keys}
        for row, key in enumerate(names):
            members[key].append(row)
        some = keys[:: len(keys) // CONTEST + 1]

        def of(each: FloatArray, chosen: tuple[Key, ...]) -> tuple[Saturation, float]:
            likelihood = np.stack([together(each[members[key]], length[members[key]]) for key in chosen])
            return cls._best(chosen, likelihood, unloaded, facts)

        evidence = {sharp: of(log_likelihood(*cells, sharp=sharp), some)[1] for sharp in (True, False)}
        if evidence[True] > evidence[False]:
            return of(log_likelihood(*cells, sharp=True), keys)[0]
        return replace(of(soft_log_likelihood(*cells), keys)[0], sharp=False)

    @classmethod
    def _best(
        cls, keys: tuple[Key, ...], likelihood: FloatArray, unloaded: tuple[float, float], facts: Facts
    ) -> tuple[Saturation, float]:
        """What the likelihoods (d, s, k) say, with a limit of tokens if they tell of one, and how likely they are."""
        covariances = {by_engine: covariance_of(keys, keys, facts, by_engine=by_engine) for by_engine in (False, True)}
        plain, bounded = (
            cls._of(
                *(keys, likelihood, unloaded, covariances),
                memory_limit(keys, facts, by_tokens=by_tokens),
                by_tokens=by_tokens,
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

        `covariances` (d, d) of deployments by whether they go by engine, `memory` (d,) as from `memory_limit`.
        """
        sure = certainty(by_tokens)
        before = np.column_stack(np.broadcast_arrays(MEAN, SD**2, memory, (sure * SD) ** 2))
        sites = np.stack([site(one, prior) for one, prior in zip(likelihood, before, strict=True)])
        others = np.empty_like(sites)
        off, spread = sites[:, 0] - MEAN, np.diag(sites[:, 1])
        by_engine = max(covariances, key=lambda which: log_normal(off, covariances[which] + spread))
        for at, covariance, mean in ((0, covariances[by_engine], MEAN), (2, sure**2 * covariances[False], memory)):
            precision = np.linalg.inv(covariance + np.diag(sites[:, at + 1]))
            diagonal = np.diag(precision)
            others[:, at] = sites[:, at] - precision @ (sites[:, at] - mean) / diagonal
            others[:, at + 1] = np.maximum(1 / diagonal - sites[:, at + 1], 0.05)
        others = stated(keys, others)
        reach = np.stack([reach_of(one, prior) for one, prior in zip(likelihood, others, strict=True)])
        return cls(keys, sites, reach, others, unloaded, by_engine, by_tokens, sharp=True)

    def _evidence(self, likelihood: FloatArray) -> float:
        """The log probability of each deployment's cells by what its relatives say, summed."""
        priors = [log_prior(one) for one in self.others]
        each = [logsumexp(one + prior) - logsumexp(prior) for one, prior in zip(likelihood, priors, strict=True)]
        return float(np.sum(each))

    def told(self, X: pd.DataFrame, names: Sequence[Key] | None = None) -> FloatArray:
        """What `reach_of_few` needs of each cell: log(ttft / D), log x, if sharp, its deployment's `others`, (n, TOLD).

        NaN if unknown. `names` are the deployments, `keys_of(X)`, where they are known.
        """
        out = np.full((len(X), TOLD), np.nan)
        if _can_tell(X):
            out[:, 0] = _shares(X)[1]
        out[:, 1], out[:, 2] = _at_rest(X, self.unloaded), self.sharp
        at = {key: i for i, key in enumerate(self.keys)}
        for row, key in enumerate(keys_of(X) if names is None else names):
            if key in at:
                out[row, 3:] = self.others[at[key]]
        return out

    def reach_at(self, X: pd.DataFrame, facts: Facts, names: Sequence[Key] | None = None) -> FloatArray:
        """The chance that B is at least each of its grid, for each row, (n, len(SEQUENCES))."""
        names = keys_of(X) if names is None else names
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
            out[own] = between(length[own], known[name])
        return out

    def _lent(self, strange: tuple[Key, ...], facts: Facts) -> list[FloatArray]:
        """`reach` of deployments of which no cell is known, by their relatives."""
        prior = np.empty((len(strange), 4))
        blank = np.full(len(self.keys), MEAN), np.full(len(strange), MEAN)
        memory = tuple(memory_limit(keys, facts, by_tokens=self.by_tokens) for keys in (self.keys, strange))
        for at, scale, by_engine, (mean, own) in (
            (0, 1.0, self.by_engine, blank),
            (2, certainty(self.by_tokens) ** 2, False, memory),
        ):
            every = scale * covariance_of((*self.keys, *strange), (*self.keys, *strange), facts, by_engine=by_engine)
            n = len(self.keys)
            across = every[n:, :n]
            weights = np.linalg.solve(every[:n, :n] + np.diag(self.sites[:, at + 1]), across.T).T
            prior[:, at] = own + weights @ (self.sites[:, at] - mean)
            prior[:, at + 1] = np.maximum(np.diag(every)[n:] - (weights * across).sum(1), 0.05)
        nothing = np.zeros((len(SEQUENCES), len(TOKENS)))
        return [reach_of(nothing, one) for one in stated(strange, prior)]

    def to_state(self) -> tuple[State, Arrays]:
        """JSON-ready values and arrays."""
        arrays: Arrays = {"sites": self.sites, "reach": self.reach, "others": self.others}
        state: State = {"keys": [list(key) for key in self.keys], "unloaded": list(self.unloaded)}
        return state | {"by_engine": self.by_engine, "by_tokens": self.by_tokens, "sharp": self.sharp}, arrays

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Saturation:
        """What `to_state` gave."""
        keys = tuple(map(key_of, listed(state, "keys")))
        first, second = np.asarray(listed(state, "unloaded"), dtype=np.float64).tolist()
        unloaded = first, second
        limits = bool(state["by_engine"]), bool(state["by_tokens"]), bool(state["sharp"])
        return cls(keys, floats(arrays, "sites"), floats(arrays, "reach"), floats(arrays, "others"), unloaded, *limits)


def reach_of_few(told: FloatArray, users: FloatArray, log2_tokens: FloatArray) -> FloatArray:
    """`reach_at` for a deployment's cells by those of them that tell (and its relatives), (n, len(SEQUENCES))."""
    use = ~np.isnan(told[:, 0])
    cells = told[use, 0], told[use, 1], users[use]
    each = log_likelihood(*cells, sharp=True) if told[0, 2] else soft_log_likelihood(*cells)
    return between(log2_tokens, reach_of(together(each, log2_tokens[use]), told[0, 3:]))


def log2_users(reach: FloatArray) -> FloatArray:
    """The estimate of log2 B, (n,)."""
    return np.asarray(STEP * reach[:, 1:].sum(axis=1))


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

    from scipy.optimize import least_squares  # takes half a second to load, and only fitting needs it

    found = least_squares(off, [half, half], loss="soft_l1").x
    return float(np.exp(found[0])), float(np.exp(found[1]) / middle)


def _at_rest(X: pd.DataFrame, unloaded: tuple[float, float]) -> FloatArray:
    """log x of each cell, (n,)."""
    ii, oo = numbers_of(X, "input_tokens"), numbers_of(X, "output_tokens")
    return np.asarray(np.log((unloaded[0] + unloaded[1] * ii) / np.maximum(oo - 1, 1.0)))
