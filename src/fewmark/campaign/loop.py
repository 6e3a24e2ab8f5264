"""The closed loop over one set of cases: ask the planner, let the runner measure, tell the planner, and again.

Resumable: what the store holds of these cases counts as measured and as spent, so that a campaign that was stopped by
any means goes on where it was. Each batch's forecasts are saved before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtri as normal_quantile

from fewmark.campaign.account import Campaign, LedgerEntry, Step, borne_out, plan_cost, spent
from fewmark.campaign.advice import campaign_advice
from fewmark.campaign.budget import Budget, CellCost, portions
from fewmark.campaign.case_runner import CaseRunner
from fewmark.core import Case, InputError, Measurement, Prediction, Status
from fewmark.evaluation.meta_metrics import Account, Charges, coverage, price_plan
from fewmark.interop import from_measurements
from fewmark.models.base import Model
from fewmark.planning.belief import INTERVAL_LEVEL, MIN_TOLD
from fewmark.planning.planner import COST, Planner, Proposal
from fewmark.planning.prefix import prefix_latency_s, shorter, tells_prefixes, truncated
from fewmark.planning.propose import PRIORITY, make_planner
from fewmark.planning.space import RATES
from fewmark.planning.surrogate import joined
from fewmark.runner.projection.projector import Projector
from fewmark.screening import apply, screen
from fewmark.store import Store
from fewmark.tables.spellings import one_spelling, spelled_as

STEP_CELLS: Final = 4
MAX_STEP_CELLS: Final = 12  # however long an engine takes to start, the plan is looked at again after so many
# A few runs made one after the other may all have met the same bad moment of the machine: so many before a campaign
# says that it cannot know better; or, where they have cost that share of what every cell would, the fewer. Nor does it
# say with fewer that it is there, unless they have cost the other share
SETTLED_RUNS: Final = 128
SETTLED_RUNS_DEAR: Final = 96
SETTLED_SHARE: Final = 0.03
REACHED_SHARE: Final = 0.02
BY_CHANCE: Final = 1.5  # what the median of a few forecasts' errors may be above their true one; no claim hangs on it


def run_campaign(
    cases: Sequence[Case],
    store: Store,
    runner: CaseRunner,
    *,
    model: Model | None,
    target: str = "throughput_tok_s",
    strategy: str = "adaptive",
    budget_s: float | None = None,
    target_error: float | None = None,
    charges: Charges | None = None,
    step_cells: int = STEP_CELLS,
    truncate: int | None = None,
    relatives: pd.DataFrame | None = None,
    random_state: int = 0,
    lanes: int = 1,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Campaign:
    """Measure the few cells that teach the most, and know the rest.

    Parameters
    ----------
    cases : the space
    store : where measurements are kept; everything in it is known to the model
    runner : who measures
    model : unfitted model of the target; None: a roofline and smoothness
    budget_s : seconds for these cases, what was spent on them before included; None: no limit. It is looked at before
        each cell (`fewmark.campaign.budget`)
    target_error : median error over the space to reach, a fraction, by the planner's own estimate; None: no such goal
    charges : what a run is predicted to take; loads are learned from what they really took
    step_cells : cells a step; more, up to 12, where its engine's start takes longer than they do
    truncate : besides the cells, generations of so many output tokens may be run in place of longer ones, where that
        teaches more a second; they are no part of the space
    relatives : a canonical table of what others measured, to begin with where the store has too little for the model
    lanes : deployments that the runner measures side by side
    on_step : told after each step

    Raises
    ------
    InputError
        If there is neither a budget nor an error to reach, or one of them makes no sense.
    """
    if budget_s is None and target_error is None:
        raise InputError("a campaign needs a budget or an error to reach", hint="--budget 30m or --target-error 0.05")
    if budget_s is not None and not (math.isfinite(budget_s) and budget_s > 0):
        raise InputError("a budget is a positive number of seconds", got=budget_s)
    if step_cells < 1:
        raise InputError("a step has at least one cell", got=step_cells)
    if not cases:
        raise InputError("a campaign needs at least one case")
    if truncate is not None and truncate < 1:
        raise InputError("a truncated generation has at least one output token", got=truncate)
    asked = {case.case_id: case for case in cases}
    probes = {} if truncate is None else {case.case_id: case for case in truncated(asked.values(), truncate)}
    loop = _Loop(
        asked, {key: case for key, case in probes.items() if key not in asked}, store, runner, model, target, strategy,
        charges or Charges(), target_error, relatives, random_state, Budget(budget_s), lanes,
    )  # fmt: skip
    steps: list[Step] = []
    while True:
        batch = loop.next_batch(step_cells)
        steps.append(loop.step(batch))
        on_step(steps[-1])
        ended = loop.ended(batch)
        if ended is None and not loop.measure(batch):
            ended = "stalled"
        if ended is not None:
            return loop.finish(ended, tuple(steps))


class _Loop:
    """The state between steps. Probes are cells that may be measured and that nobody asks about."""

    def __init__(
        self,
        cases: dict[str, Case],
        probes: dict[str, Case],
        store: Store,
        runner: CaseRunner,
        model: Model | None,
        target: str,
        strategy: str,
        charges: Charges,
        target_error: float | None,
        relatives: pd.DataFrame | None,
        random_state: int,
        budget: Budget,
        lanes: int,
    ) -> None:
        self.store, self.runner, self.target = store, runner, target
        self.budget, self.lanes = budget, lanes
        self.came: list[Measurement] = []
        self.standing: int | None = None  # the deployment whose engine stands ready
        asked = np.arange(len(cases) + len(probes)) < len(cases)
        cases = {**cases, **probes}
        table = from_measurements(Measurement(case) for case in cases.values())
        if probes:
            table[PRIORITY] = asked.astype(float)
        expired = set(store.withdrawn())
        known = pd.DataFrame(store.table())
        if not known.empty:
            known = spelled_as(one_spelling(known), table)
            known = apply(known, screen(known))
        known, self.n_relatives = joined(known, relatives if model is not None else None, target)
        self.planner: Planner = make_planner(
            known, table.drop(columns=["status", "provenance"], errors="ignore"), model, target=target,
            strategy=strategy, charges=charges, target_error=target_error, independent_reference=True,
            random_state=random_state,
        )  # fmt: skip
        where = self.planner.space.locate(table)
        self.cases = {int(position): case for position, case in zip(where, cases.values(), strict=True)}
        self.position = {case.case_id: position for position, case in self.cases.items()}
        self.asked = np.sort(where[asked])
        before = [m for m in store.measurements(case_ids=list(cases)) if m.measurement_id not in expired]
        self.done: list[Measurement] = [m for m in before if m.provenance != "imported"]
        self.model_name = "roofline" if model is None else model.name
        self.ledger: list[LedgerEntry] = []
        mine = (o for o in store.outcomes(target) if o.prediction.case.case_id in self.position)
        self.scores = [abs(o.prediction.value / o.actual - 1) for o in mine if o.prediction.value and o.actual > 0]
        self.projectors: dict[int, Projector] = {}
        self.runs: dict[int, Measurement] = {}
        self.too_dear = False
        self._learn_loads(self.done)
        self._pass_through(self.done)

    @property
    def spent_s(self) -> float:
        """Seconds spent on these cases, before this campaign and in it."""
        return spent(self.done)

    def next_batch(self, n: int) -> list[Proposal]:
        """The next cells that the rest of the budget allows; none where enough is known or nothing is affordable."""
        # An engine may stand ready from the step before. The choice is made as if it did not: where a start costs
        # nothing, the cheapest cells are always the best bargain, and nothing large is ever learned.
        self.planner.unload()
        self.too_dear = False
        if self._reached() or not len(self.planner.open_positions()):
            return []
        load_s, left_s = self.planner.charges.load_s, self.budget.left_s(self.spent_s)
        batch: list[Proposal] = []
        if not self.budget.is_limited or any(m.status is Status.OK for m in self.done):
            batch = self.planner.ask(max(n, MAX_STEP_CELLS), budget_s=left_s / self.budget.dearer)
        if not batch:  # of a machine that nothing is known of, or where costs are not what was predicted
            batch = self.planner.probe(budget_s=left_s)
        self.too_dear = not batch
        kept: list[Proposal] = []
        for proposal in batch:
            cost_s = sum(p.predicted_cost_s for p in kept)
            # a step goes on beyond its cells until its measuring weighs up its engine's start
            if len(kept) >= n and (cost_s >= 2 * load_s or self._nearly_there(kept[-1])):
                break
            kept.append(proposal)
        return kept

    def _nearly_there(self, last: Proposal) -> bool:
        target = self.planner.target_error
        return target is not None and last.forecast_error_after <= 0.5 * target

    def ended(self, batch: list[Proposal]) -> str | None:
        """Why the campaign is over, if it is."""
        if self._reached():
            return "reached"
        if batch:
            # with a budget alone there is more to learn than the median
            goal = self.planner.goal
            if goal is None or not self._enough() or self.planner.belief.n_told < MIN_TOLD:
                return None
            true = borne_out(self.scores, BY_CHANCE * goal, len(self.asked))
            return "settled" if true and self.planner.settled() else None
        return "budget" if self.too_dear else "exhausted"

    def _enough(self) -> bool:
        """Whether so much was run that going on would be only more of the same."""
        return self._has_made(SETTLED_RUNS_DEAR if self._has_cost(SETTLED_SHARE) else SETTLED_RUNS)

    def _has_made(self, n_runs: int) -> bool:
        """Whether so many runs are made, warm-ups included, or half of the cells."""
        n_cells = sum(m.status is Status.OK for m in self.done)
        return n_cells * self.planner.charges.runs >= n_runs or n_cells >= len(self.asked) // 2

    def _has_cost(self, share: float) -> bool:
        """Whether so large a share of what every cell is predicted to cost is spent."""
        return self.spent_s >= share * float(self.planner.cost_s()[self.asked].sum())

    def _reached(self) -> bool:
        enough = self._has_made(SETTLED_RUNS_DEAR) or self._has_cost(REACHED_SHARE)
        true = enough and borne_out(self.scores, self.planner.target_error, len(self.asked))
        return true and self.planner.reached()  # last, since it draws a forecast

    def measure(self, batch: list[Proposal]) -> bool:
        """Measure the cells of a batch as long as the budget allows them. False if nothing of the batch came back."""
        if not self.budget.is_limited:
            return self._take(batch)
        deployments = [int(self.planner.space.deployment[proposal.position]) for proposal in batch]
        came = False
        for portion in portions(batch, deployments, self.lanes):
            if came and self._cost_s(portion) * self.budget.dearer > self.budget.left_s(self.spent_s):
                break
            came |= self._take(portion)
        return came

    def _cost_s(self, portion: list[Proposal]) -> float:
        """What cells are predicted to cost by all that is known now, their engines' starts included, in seconds."""
        cost_s = self.planner.cost_s()
        total = 0.0
        for proposal in portion:
            starts = int(self.planner.space.deployment[proposal.position]) != self.standing
            total += float(cost_s[proposal.position]) + (self.planner.charges.load_s if starts else 0.0)
        return total

    def _take(self, batch: list[Proposal]) -> bool:
        """Save the forecasts, measure, tell. False if nothing of the batch came back."""
        chosen = [self.cases[proposal.position] for proposal in batch]
        forecasts = {c.case_id: self._prediction(p.position) for c, p in zip(chosen, batch, strict=True)}
        self.store.add_predictions(forecasts.values())
        costs = {c.case_id: self._cost_s([p]) for c, p in zip(chosen, batch, strict=True)}
        came = self.runner.run(chosen).measurements
        self.came += came
        for measurement in came:
            case_id = measurement.case.case_id
            if case_id not in self.position:
                continue
            self.done.append(measurement)
            value = measurement.median(self.target) if measurement.status is Status.OK else None
            position = self.position[case_id]
            self.standing = int(self.planner.space.deployment[position]) if self.lanes == 1 else None
            self.planner.tell(
                position, value, latency_s=measurement.median("e2e_latency_s"), ttft_s=measurement.median("ttft_s")
            )
            cost_s = spent([measurement])
            if case_id in costs and cost_s:
                self.budget.taken.append(CellCost(measurement.case, costs[case_id], cost_s))
            if value is not None and case_id in forecasts:
                guess = forecasts[case_id]
                assert guess.value is not None and guess.low is not None and guess.high is not None
                self.scores.append(abs(guess.value / value - 1))
                self.ledger.append(
                    LedgerEntry(measurement.case, guess.value, guess.low, guess.high, value, costs[case_id], cost_s)
                )
        self._learn_loads(came)
        self._pass_through(came)
        return bool(came)

    def _pass_through(self, came: Iterable[Measurement]) -> None:
        """Tell what runs say of the shorter generations that they passed through, and of longer ones."""
        telling = [m for m in came if m.case.case_id in self.position and tells_prefixes(m)]
        if not telling or self.target not in (*RATES, COST):
            return
        planner, space = self.planner, self.planner.space
        for measurement in telling:
            code = int(space.deployment[self.position[measurement.case.case_id]])
            self.projectors.setdefault(code, Projector()).learn(measurement)
            self.runs[self.position[measurement.case.case_id]] = measurement
        reveals = shorter(space, sorted(self.projectors))
        planner.reveal(reveals)
        for measurement in telling:
            run = self.position[measurement.case.case_id]
            for position in np.flatnonzero(reveals[run] & ~planner.observed):
                latency_s = prefix_latency_s(measurement, space.output_tokens[position])
                planner.tell(int(position), self._implied(int(position), latency_s), latency_s=latency_s, run=run)
        for run, measurement in self.runs.items():
            longer = np.flatnonzero(reveals[:, run] & ~planner.observed)
            planner.project({int(p): self._projected(int(p), run, measurement) for p in longer}, run)

    def _implied(self, position: int, latency_s: float) -> float:
        """The target of a cell if one run of it takes so long."""
        space = self.planner.space
        return float(space.value(self.target, np.full(len(space), latency_s))[position])

    def _projected(self, position: int, run: int, measurement: Measurement) -> tuple[float, float]:
        """What a shorter run makes of a cell's target, and the relative standard deviation of that."""
        projector = self.projectors[int(self.planner.space.deployment[run])]
        found = projector.extend(measurement, self.cases[position].workload)
        assert found.low_s is not None and found.high_s is not None
        sd = math.log(found.high_s / found.low_s) / (2 * normal_quantile(0.5 + found.confidence_level / 2))
        return self._implied(position, float(np.median(found.e2e_latency_s))), sd

    def step(self, batch: list[Proposal]) -> Step:
        """What to show now."""
        return Step(
            n_measured=int(self.planner.observed.sum()),
            n_failed=int(self.planner.failed.sum()),
            spent_s=self.spent_s,
            forecast=self.planner.forecast(),
            next_cost_s=sum(proposal.predicted_cost_s for proposal in batch) if batch else None,
            next_error=batch[-1].forecast_error_after if batch else None,
        )

    def finish(self, ended: str, steps: tuple[Step, ...]) -> Campaign:
        """The result."""
        planner, space = self.planner, self.planner.space
        value, kind = planner.estimate()
        sd = np.where(planner.belief.exact, 0.0, planner.belief.sd_later)
        half = normal_quantile(0.5 + INTERVAL_LEVEL / 2) * sd
        table = space.cells.assign(value=value, low=value * np.exp(-half), high=value * np.exp(half), kind=kind)
        table = table.iloc[self.asked].drop(columns=PRIORITY, errors="ignore").reset_index(drop=True)
        positions = [self.position[m.case.case_id] for m in self.done]
        account = Account(
            plan=plan_cost(space, positions, self.done),
            reference=price_plan(
                space.cells.iloc[self.asked], planner.predicted_latency_s()[self.asked], planner.charges
            ),
            coverage=coverage(space.cells.iloc[self.asked], kind[self.asked]),
            forecast=True,
        )
        advice = campaign_advice(ended, planner, self.budget, self.spent_s, self.came)
        return Campaign(
            self.target, ended, steps, tuple(self.ledger), table, account, tuple(advice), self.n_relatives,
            self.budget.limit_s, self.spent_s, tuple(self.came),
            n_failed=int(planner.failed[self.asked].sum()),
            n_not_tried=int((~planner.observed & ~planner.failed)[self.asked].sum()),
        )  # fmt: skip

    def _prediction(self, position: int) -> Prediction:
        belief = self.planner.belief
        middle = float(belief.mean[position])
        half = float(normal_quantile(0.5 + INTERVAL_LEVEL / 2) * belief.sd_of_measurement[position])
        same = belief.observed & (self.planner.space.deployment == self.planner.space.deployment[position])
        axes = self.planner.space.octaves
        inside = same.any() and bool(
            ((axes[position] >= axes[same].min(0)) & (axes[position] <= axes[same].max(0))).all()
        )
        return Prediction(
            case=self.cases[position],
            metric=self.target,
            value=math.exp(middle),
            low=math.exp(middle - half),
            high=math.exp(middle + half),
            confidence_level=INTERVAL_LEVEL,
            provenance="interpolated" if inside else "extrapolated" if same.any() else "transferred",
            model=self.model_name,
        )

    def _learn_loads(self, measurements: Iterable[Measurement]) -> None:
        """A load takes what loads have taken: the starts' shares summed over a deployment's cells of one step."""
        shares: dict[str, float] = {}
        for measurement in measurements:
            if measurement.cost.startup_s:  # not of an engine that stood ready
                key = measurement.case.deployment.deployment_id
                shares[key] = shares.get(key, 0.0) + measurement.cost.startup_s
        if shares:
            self.planner.learn_load_s(float(np.median(list(shares.values()))))
