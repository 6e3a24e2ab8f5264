"""Simulated annealing over training subsets: which measurements are worth training on.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithm 6; S, E, D as in `annealing_space`)
    S0           the initial subset           S*, E*   the state and its error
    S', E'       a candidate and its error    tau      temperature, in the unit of E
    alpha        cooling rate                 N        iterations
    u            a uniform random number

    tau <- alpha tau;  S' <- S* with one value of ii, oo or bb added or deleted;  accept if E' < E* or u < exp((E* -
    E')/tau)

What the paper leaves open, and what is done here
    S* is called the best state in its text, but its listing replaces it with whatever is accepted: it is the current
    state (``state="current"``, the default); with ``state="best"`` candidates derive from the best state seen and are
    compared with it, and an acceptance by temperature is only logged.
    The listing has E for E' in the exponent, the text 2 for tau, and compares the probability with nothing: E', tau
    and a uniform random number are meant.
    How elements are added or deleted: a fair coin says add or delete (the other where one is impossible), then one
    element is drawn evenly from all that may be; no set is emptied. ``n_changes`` elements a step, 1 by default.
    A subset that leaves nothing out, trains on nothing, or for which no fit converges has no error: it is logged with
    its outcome and an infinite error, and never accepted.
    tau, alpha, N and S0 have no values in the paper; S0 is a random half by default.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray

from fewmark.core.errors import InputError, ModelError
from fewmark.models.ala.annealing.log import AnnealingLog, join
from fewmark.models.ala.annealing.subsets import Evaluation, Scorer, SubsetSpace
from fewmark.models.ala.parameters import Learner
from fewmark.tables.arrays import BoolArray

STATES: Final = ("current", "best")
_TRIES: Final = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """N iterations from temperature tau (in the error's unit), multiplied by alpha before each; see the module."""

    n_iterations: int = 1000
    temperature: float = 10.0
    cooling: float = 0.995
    state: str = "current"
    n_changes: int = 1

    def __post_init__(self) -> None:
        for holds, what, got in (
            (self.n_iterations >= 1, "n_iterations must be at least 1", self.n_iterations),
            (math.isfinite(self.temperature) and self.temperature > 0, "temperature must be above 0", self.temperature),
            (0 < self.cooling <= 1, "cooling must be above 0 and at most 1", self.cooling),
            (self.state in STATES, f"state must be one of {', '.join(STATES)}", self.state),
            (self.n_changes >= 1, "n_changes must be at least 1", self.n_changes),
        ):
            if not holds:
                raise InputError(what, got=got)


def anneal(
    X: ArrayLike,
    y: ArrayLike,
    deployment: ArrayLike | None = None,
    *,
    schedule: Schedule | None = None,
    initial: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    n_chains: int = 1,
    random_state: int = 0,
    n_jobs: int | None = None,
    backend: str | None = None,
    scoring: str | Scorer = "median_ape",
    learner: Learner | None = None,
    fitting: str = "optimum",
) -> AnnealingLog:
    """Walk through the training subsets of a dataset and log every one tried. Source: ALA, Algorithm 6.

    Parameters
    ----------
    X : array (N, 3)
        Columns ii, oo, bb: input and output length and batch size.
    y : array (N,)
        Throughput, above 0.
    deployment : int array (N,), optional
        The deployment of each row; each has curves and learners of its own (Algorithm 4).
    schedule : Schedule, optional
    initial : (ii values, oo values, bb values), optional
        S0. By default every chain draws its own: each value with probability 1/2, until it has an error.
    n_chains : int, default 1
        Independent walks; chain k is the same whatever the number of chains, jobs or the backend.
    random_state : int, default 0
    n_jobs, backend : as `joblib.Parallel` takes them
        ``backend="ray"`` and ``"dask"`` take the chains to a cluster (the packages must be installed).
    scoring, learner, fitting : as `SubsetSpace` takes them

    Returns
    -------
    AnnealingLog
        n_chains times `schedule.n_iterations` entries.

    Raises
    ------
    AlaInputError
        If shapes or values are wrong.
    ModelError
        If no initial subset has an error, e.g. with one batch size and one pair only; or `initial` has none.
    """
    if n_chains < 1:
        raise InputError("n_chains must be at least 1", got=n_chains)
    schedule = schedule or Schedule()
    groups = None if deployment is None else np.asarray(deployment)
    space = SubsetSpace(
        np.asarray(X, dtype=float),
        np.asarray(y, dtype=float),
        groups,
        scoring=scoring,
        learner=learner,
        fitting=fitting,
    )
    start = None if initial is None else space.subset(*initial)
    seeds = np.random.SeedSequence(random_state).spawn(n_chains)
    if n_jobs in (None, 1) and backend is None:
        return join([_walk(space, schedule, start, seed) for seed in seeds])
    parallel = _parallel(n_jobs, backend)
    # Chains that share a process share what they have computed: one batch of chains a worker.
    batches = np.array_split(np.arange(n_chains), min(n_chains, max(1, _n_workers(parallel))))
    walked = parallel(delayed(_walks)(space, schedule, start, [seeds[k] for k in batch]) for batch in batches)
    return join([log for logs in walked for log in logs])


def _n_workers(parallel: Parallel) -> int:
    jobs = parallel.n_jobs
    if jobs is None or jobs > 0:
        return int(jobs or 1)
    from joblib import effective_n_jobs

    return int(effective_n_jobs(jobs))


def _parallel(n_jobs: int | None, backend: str | None) -> Parallel:
    try:
        if backend == "ray":
            importlib.import_module("ray.util.joblib").register_ray()
        elif backend == "dask":
            importlib.import_module("distributed")
        return Parallel(n_jobs=n_jobs, backend=backend)
    except ImportError:
        raise InputError(
            f"the {backend} backend is not installed", got=f"backend={backend!r}", hint=f"pip install {backend}"
        ) from None
    except ValueError as error:
        raise InputError("joblib knows no such backend", got=f"backend={backend!r}", hint=str(error)) from None


def _walks(
    space: SubsetSpace, schedule: Schedule, start: BoolArray | None, seeds: list[np.random.SeedSequence]
) -> list[AnnealingLog]:
    return [_walk(space, schedule, start, seed) for seed in seeds]


def _walk(
    space: SubsetSpace, schedule: Schedule, start: BoolArray | None, seed: np.random.SeedSequence
) -> AnnealingLog:
    rng = np.random.default_rng(seed)
    state = draw_initial(space, rng) if start is None else start
    state_error = space.evaluate(state).error
    if not math.isfinite(state_error):
        outcome = space.evaluate(state).outcome
        raise ModelError(f"the initial subset has no error: {outcome}", hint="start from a part of the values, not all")
    n = schedule.n_iterations
    subsets = np.zeros((n, space.n_values), dtype=bool)
    error, states, temperatures = np.zeros((3, n))
    accepted, outcomes = np.zeros(n, dtype=bool), np.zeros(n, dtype="U19")
    n_train, n_left_out = np.zeros((2, n), dtype=np.intp)
    temperature = schedule.temperature
    for i in range(n):
        temperature *= schedule.cooling
        candidate = modify(state, space.bounds, rng, schedule.n_changes)
        found = _evaluate(space, state, candidate, schedule.n_changes)
        lower = found.error < state_error
        worse_by = found.error - state_error
        taken = lower or rng.random() < math.exp(-max(worse_by, 0.0) / temperature)
        if taken and math.isfinite(found.error) and (lower or schedule.state == "current"):
            state, state_error = candidate, found.error
        subsets[i], error[i], states[i], temperatures[i] = candidate, found.error, state_error, temperature
        accepted[i], outcomes[i] = taken, found.outcome
        n_train[i], n_left_out[i] = found.n_train, found.n_left_out
    return AnnealingLog(
        values=(space.values[0], space.values[1], space.values[2]),
        subsets=subsets,
        error=error,
        state_error=states,
        temperature=temperatures,
        accepted=accepted,
        outcome=outcomes,
        n_train=n_train,
        n_left_out=n_left_out,
        chain=np.zeros(n, dtype=np.intp),
    )


def _evaluate(space: SubsetSpace, state: BoolArray, candidate: BoolArray, n_changes: int) -> Evaluation:
    if not space.cheap_together or n_changes > 1 or space.knows(candidate):
        return space.evaluate(candidate)
    # The next candidates, too, are neighbours of this state unless it is left: learn them all in one pass.
    return space.evaluate_all(np.vstack([candidate[None], neighbours(state, space.bounds)]))[0]


def modify(state: BoolArray, bounds: NDArray[np.intp], rng: np.random.Generator, n_changes: int = 1) -> BoolArray:
    """A copy of a subset with elements added or deleted, no set emptied; as the module describes."""
    candidate = state.copy()
    for _ in range(n_changes):
        addable = np.flatnonzero(~candidate)
        deletable = _deletable(candidate, bounds)
        add = rng.random() < 0.5
        choices = addable if (add and len(addable)) or not len(deletable) else deletable
        if not len(choices):
            return candidate  # one value of each: nothing can be added or deleted
        position = choices[rng.integers(len(choices))]
        candidate[position] = ~candidate[position]
    return candidate


def neighbours(state: BoolArray, bounds: NDArray[np.intp]) -> BoolArray:
    """All subsets that one change leads to."""
    positions = np.concatenate([np.flatnonzero(~state), _deletable(state, bounds)])
    around = np.repeat(state[None], len(positions), axis=0)
    around[np.arange(len(positions)), positions] ^= True
    return around


def _deletable(state: BoolArray, bounds: NDArray[np.intp]) -> NDArray[np.intp]:
    keeps = np.concatenate([np.full(end - start, state[start:end].sum() > 1) for start, end in pairwise(bounds)])
    return np.flatnonzero(state & keeps)


def draw_initial(space: SubsetSpace, rng: np.random.Generator) -> BoolArray:
    """S0: each value with probability 1/2, none of the sets empty, drawn again until the subset has an error.

    Raises
    ------
    ModelError
        If none is found, with what stood in the way.
    """
    outcome = ""
    for _ in range(_TRIES):
        drawn = rng.random(space.n_values) < 0.5
        for start, end in pairwise(space.bounds):
            if not drawn[start:end].any():
                drawn[start + rng.integers(end - start)] = True
        found = space.evaluate(drawn)
        if math.isfinite(found.error):
            return drawn
        outcome = found.outcome
    raise ModelError(
        f"no subset of these data can be trained on and leaves something to predict ({outcome})",
        got=" x ".join(str(len(values)) for values in space.values) + " values of ii x oo x bb",
        hint="the annealing needs at least two batch sizes or two (input, output) pairs",
    )
