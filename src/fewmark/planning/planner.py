"""Ask and tell: what to measure next, and what is believed once it is measured. Knows no engine, file or store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.core.fractions import require_fraction
from fewmark.evaluation.meta_metrics import Charges
from fewmark.planning.belief import MIN_TOLD, Belief, Forecast, Observation
from fewmark.planning.space import Space
from fewmark.planning.strategies import State, Strategy
from fewmark.planning.strategies.base import groups
from fewmark.planning.surrogate import prior_belief
from fewmark.tables.arrays import AnyArray, BoolArray, FloatArray

COST: Final = "e2e_latency_s"
NEAR_REPEATABILITY: Final = 0.01  # an error this close to what the machine repeats to cannot be brought down further


@dataclass(frozen=True, slots=True)
class Proposal:
    """A cell worth measuring: its position in the space, how far it is expected to lower the error over the space
    (log units, close to a fraction), what it is predicted to cost, and the forecast median APE before and after it."""

    position: int
    expected_gain: float
    predicted_cost_s: float
    forecast_error_before: float
    forecast_error_after: float


class Planner:
    """One campaign over one space.

    Parameters
    ----------
    space : the cells, n of them
    belief : what is believed of the log target at the start
    strategy : who chooses
    target : the metric
    charges : how running is charged
    target_error : the error to reach, a fraction; `reached` then looks at the bound of the forecast, not at its middle
    mean_error : whether `target_error` is the mean APE over the space instead of the median
    assurance : the probability with which `reached` is to be right
    latency_s : array (n,), predicted seconds of one run, where the target does not imply it (default: a roofline)
    weights : array (n,), how much each cell matters; 0 leaves it out of the error (it may still be measured)
    forbidden : array (n,), cells that must not be measured
    independent_reference : whether errors are those against a reference measured at another time, as a campaign's are
    n_relatives : measurements of others among what the belief began with
    random_state : seed of everything random

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.planning.propose import make_planner
    >>> table = datasets.example()
    >>> planner = make_planner(table.head(3), table, None)
    >>> planner
    Planner(throughput_tok_s: 24 cells, 3 measured, 0 failed, strategy adaptive)
    >>> (proposal,) = planner.ask(1, budget_s=600)
    >>> planner.tell(proposal.position, 500.0)
    >>> int(planner.observed.sum())
    4
    """

    def __init__(
        self,
        space: Space,
        belief: Belief,
        strategy: Strategy,
        *,
        target: str = "throughput_tok_s",
        charges: Charges | None = None,
        target_error: float | None = None,
        mean_error: bool = False,
        assurance: float = 0.85,
        latency_s: FloatArray | None = None,
        weights: FloatArray | None = None,
        forbidden: BoolArray | None = None,
        independent_reference: bool = False,
        n_relatives: int = 0,
        random_state: int = 0,
    ) -> None:
        n = len(space)
        self.space, self.strategy, self.target = space, strategy, target
        self.belief = replace(belief, independent_reference=True) if independent_reference else belief
        self.charges = charges or Charges()
        self.target_error, self.mean_error, self.assurance = target_error, mean_error, assurance
        self.random_state = random_state
        self.weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
        if self.weights.shape != (n,) or (self.weights < 0).any() or not self.weights.sum() > 0:
            raise InputError("weights must be at least 0, one a cell, not all 0", got=self.weights[:5].tolist())
        if target_error is not None:
            require_fraction("the error to reach", target_error)
        self._given_latency = latency_s
        self.forbidden = np.zeros(n, dtype=bool) if forbidden is None else np.asarray(forbidden, dtype=bool)
        self.failed = np.zeros(n, dtype=bool)
        self.infeasible: dict[int, str] = {}  # cells that cannot run, and why; they are forbidden
        self.latency_s, self.ttft_s = np.full(n, np.nan), np.full(n, np.nan)
        self.passed = np.zeros(n, dtype=bool)
        self.loaded: set[int] = set()
        self.n_relatives = n_relatives
        self.is_guess = False  # nothing that was measured here is known yet

    def __repr__(self) -> str:
        return (
            f"Planner({self.target}: {len(self.space)} cells, {int(self.observed.sum())} measured, "
            f"{int(self.failed.sum())} failed, strategy {self.strategy.name})"
        )

    @property
    def observed(self) -> BoolArray:
        """Cells that were measured, (n,)."""
        return self.belief.observed

    def predicted_latency_s(self) -> FloatArray:
        """Seconds of one run of each cell, as seen where it was measured and else as predicted now, (n,)."""
        implied = self.space.latency_s(self.target, np.exp(self.belief.mean))
        if not np.isfinite(implied).all():
            if self._given_latency is None:
                self._given_latency = np.exp(prior_belief(self.space, COST).mean)
            implied = np.where(np.isfinite(implied), implied, self._given_latency)
        return np.where(np.isfinite(self.latency_s), self.latency_s, implied)

    def open_positions(self) -> NDArray[np.intp]:
        """Cells that may be asked: not measured, forbidden or failed, and asking no more than a failed one did."""
        closed = self.observed | self.failed | self.forbidden
        space = self.space
        for position in np.flatnonzero(self.failed):
            same = (space.deployment == space.deployment[position]) & (space.kind == space.kind[position])
            closed |= same & (space.octaves >= space.octaves[position] - 1e-9).all(axis=1)
        return np.flatnonzero(~closed)

    def cost_s(self) -> FloatArray:
        """Seconds that measuring each cell is predicted to take, loading not included, (n,)."""
        return self.charges.runs * self.predicted_latency_s()

    def affordable(self, budget_s: float) -> NDArray[np.intp]:
        """The open cells whose predicted cost, with their engine's start where it is not loaded, fits the budget."""
        starts = ~np.isin(self.space.deployment, sorted(self.loaded))
        total_s = self.cost_s() + np.where(starts, self.charges.load_s, 0.0)
        positions = self.open_positions()
        return positions[total_s[positions] <= budget_s]

    def unload(self) -> None:
        """From now on every deployment's engine has to be started first."""
        self.loaded = set()

    def choose(self, n: int = 1, *, budget_s: float = np.inf) -> NDArray[np.intp]:
        """The positions of the next n cells, best first, without forecasts; fewer where the strategy has no more.

        Each fits the budget (seconds) by itself: a dear cell is passed over, cheaper ones are still asked.
        """
        if n < 1:
            raise InputError("ask for at least one cell", got=n)
        candidates = self.affordable(budget_s) if np.isfinite(budget_s) else self.open_positions()
        return self.strategy.propose(self._state(), candidates, n)[:n] if len(candidates) else candidates

    def ask(self, n: int = 1, *, budget_s: float = np.inf) -> list[Proposal]:
        """The next n cells, best first; fewer, or none, where the strategy has no more or the budget is spent.

        Parameters
        ----------
        n : int
            How many cells at the most.
        budget_s : float
            Seconds that all of them together may cost, by prediction, starts of engines included.
        """
        return self._proposals(self.choose(n, budget_s=budget_s), budget_s)

    def probe(self, *, budget_s: float = np.inf) -> list[Proposal]:
        """The cheapest open cell that fits the budget (seconds): of a machine that nothing is known of, it tells most
        for what it may cost at the most; none where nothing fits."""
        positions = self.affordable(budget_s)
        if not len(positions):
            return []
        return self._proposals(positions[[int(self.cost_s()[positions].argmin())]], budget_s)

    def _proposals(self, picks: NDArray[np.intp], budget_s: float) -> list[Proposal]:
        cost_s = self.cost_s()
        belief, loaded = self.belief, set(self.loaded)
        before = self.forecast(belief).median_ape
        out: list[Proposal] = []
        for pick in picks:
            code = int(self.space.deployment[pick])
            cost = float(cost_s[pick]) + (0.0 if code in loaded else self.charges.load_s)
            if sum(proposal.predicted_cost_s for proposal in out) + cost > budget_s:
                continue
            gain = float(belief.sd_reduction(np.array([pick]), self.weights)[0])
            loaded.add(code)
            belief = belief.fantasize(int(pick))
            after = min(before, self.forecast(belief).median_ape)
            out.append(Proposal(int(pick), gain, cost, before, after))
            before = after
        return out

    def tell(
        self,
        position: int,
        value: float | None,
        *,
        latency_s: float | None = None,
        ttft_s: float | None = None,
        run: int | None = None,
    ) -> None:
        """Take in a result: the target's value, or None where the cell failed.

        `run` is the cell whose run gave it, where that is another one (`planning.prefix`).

        Raises
        ------
        InputError
            If the value is not a finite positive number.
        """
        self.loaded.add(int(self.space.deployment[position]))
        if value is None:
            self.failed[position] = True
            return
        if not (np.isfinite(value) and value > 0):
            raise InputError("a measured value must be finite and positive", got=value)
        self.belief = self.belief.condition_on(
            [Observation(position, float(np.log(value)), position if run is None else run)]
        )
        self.passed[position] = run is not None and run != position
        implied = self.space.latency_s(self.target, np.full(len(self.space), value))[position]
        self.latency_s[position] = implied if latency_s is None else latency_s
        self.ttft_s[position] = np.nan if ttft_s is None else ttft_s

    def reveal(self, reveals: BoolArray) -> None:
        """From now on measuring cell j gives the value of each cell i with ``reveals[j, i]`` as well; shape (n, n)."""
        self.belief = replace(self.belief, reveals=reveals)

    def learn_load_s(self, load_s: float) -> None:
        """What an engine's start has been seen to take, in seconds."""
        self.charges = replace(self.charges, load_s=load_s)

    def project(self, values: Mapping[int, tuple[float, float]], run: int) -> None:
        """Take in what the run of a cell makes of longer ones: by position the value and its relative deviation."""
        new = {p: pair for p, pair in values.items() if not self.observed[p]}
        self.belief = self.belief.condition_on(
            [Observation(p, float(np.log(value)), run, sd) for p, (value, sd) in new.items()]
        )
        self.passed[list(new)] = True

    def forecast(self, belief: Belief | None = None, *, later: bool = True) -> Forecast:
        """The errors to expect over the space, of the belief now or of another one (`Belief.forecast`)."""
        return (belief or self.belief).forecast(
            assurance=self.assurance, random_state=self.random_state, weights=self.weights, later=later
        )

    def reached(self) -> bool:
        """Whether the error asked for is reached, by the planner's own estimate, with the assurance asked for.

        Never before anything of each deployment was measured: a forecast without a check is an opinion.
        """
        return self.target_error is not None and self._below(self.target_error, later=True)

    def _below(self, error: float, *, later: bool) -> bool:
        if not self.observed.any() or not self.covers_every_deployment():
            return False
        forecast = self.forecast(later=later)
        return (forecast.mean_ape_bound if self.mean_error else forecast.median_ape_bound) <= error

    @property
    def goal(self) -> float | None:
        """The error worth working for: the one asked for, or what the machine's own repeatability leaves of it."""
        if self.target_error is None or not self.belief.independent_reference or self.belief.n_told < MIN_TOLD:
            return self.target_error
        return max(self.target_error, self.belief.repeatability + NEAR_REPEATABILITY)

    def settled(self) -> bool:
        """Whether the machine's own noise, not what is unknown, is what keeps the error above the one asked for."""
        goal = self.goal
        return goal is not None and self._below(goal, later=False)

    def covers_every_deployment(self) -> bool:
        """Whether each deployment that has open cells has at least one that was tried."""
        touched = set(self.space.deployment[self.observed]) | set(self.space.deployment[self.failed])
        return touched >= set(self.space.deployment[self.open_positions()])

    def estimate(self) -> tuple[FloatArray, AnyArray]:
        """The target of each cell, (n,), and where it comes from: measured, projected, predicted; empty: cannot run."""
        value = np.exp(self.belief.mean)
        silent = self.failed.copy()
        silent[list(self.infeasible)] = True
        kind = np.where(self.observed, "measured", np.where(silent, "", "predicted")).astype(object)
        kind[self.passed] = "projected"
        if self.strategy.projects:
            self._project(value, kind)
        return np.where(kind == "", np.nan, value), kind

    def _project(self, value: FloatArray, kind: AnyArray) -> None:
        """Longer generations from the one measured: TTFT (where known) and then a constant time a token; in place."""
        space = self.space
        alike = groups(space.deployment, space.octaves[:, 0], space.octaves[:, 2], space.kind)
        for position in np.flatnonzero(self.observed & np.isfinite(self.latency_s)):
            longer = np.flatnonzero(
                (alike == alike[position]) & (kind == "predicted") & (space.octaves[:, 1] > space.octaves[position, 1])
            )
            first = self.ttft_s[position] if np.isfinite(self.ttft_s[position]) else 0.0
            tokens = space.output_tokens - (1.0 if first > 0 else 0.0)
            step = (self.latency_s[position] - first) / max(tokens[position], 1e-9)
            projected = space.value(self.target, first + step * tokens)
            value[longer], kind[longer] = projected[longer], "projected"

    def _state(self) -> State:
        return State(
            space=self.space,
            belief=self.belief,
            cost_s=self.cost_s(),
            load_s=self.charges.load_s,
            observed=self.observed,
            failed=self.failed,
            latency_s=self.latency_s,
            ttft_s=self.ttft_s,
            weights=self.weights,
            target_error=self.goal,
            mean_error=self.mean_error,
            random_state=self.random_state,
            loaded=frozenset(self.loaded),
        )
