"""`batch_size: auto`: the lowest tier that holds all tensors, then the batch that serves best.

Each batch tried is an ordinary measurement, saved like any other, and one that the store holds already is not measured
again. What fits is the engine's own answer: its memory model refuses a case before time is spent on it, and what runs
out of memory all the same is remembered, here and in later runs: nothing larger is then tried.

Rules: ``throughput`` doubles the batch until `PATIENCE` doublings in a row have not beaten the best throughput by more
than `WORTH`, and takes the best; ``largest`` (FlexLLMGen's) takes the largest that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fewmark.core import Case, InputError, Measurement, Status
from fewmark.core.frozen import FrozenMap
from fewmark.core.json_types import Json
from fewmark.engines.memory.footprint import TIERS

RULES: Final = ("throughput", "largest")
WORTH: Final = 0.02  # a doubled batch that gains less has saturated: what is left is noise and memory
PATIENCE: Final = 2  # one disturbed measurement must not end the search
Measure = Callable[[Sequence[Case]], Iterable[Measurement]]


@dataclass(frozen=True, slots=True)
class AutoBatch:
    """What came of one case that leaves its batch size, and perhaps its placement (``auto``), open.

    `chosen` is None where nothing ran. `tried` is in the order of trying; `reason` says why the search ended.
    """

    asked: Case
    chosen: Measurement | None
    tried: tuple[Measurement, ...]
    reason: str

    def to_dict(self) -> dict[str, Json]:
        """JSON values."""
        work = self.asked.workload
        return {
            "deployment": self.asked.deployment.label,
            "input_tokens": work.input_tokens,
            "output_tokens": work.output_tokens,
            "batch_size": None if self.chosen is None else self.chosen.case.workload.batch_size,
            "placement": None if self.chosen is None else self.chosen.case.deployment.to_dict().get("placement"),
            "case_id": None if self.chosen is None else self.chosen.case.case_id,
            "reason": self.reason,
            "tried": [
                {
                    "placement": m.case.deployment.to_dict().get("placement"),
                    "batch_size": m.case.workload.batch_size,
                    "status": str(m.status),
                    "throughput_tok_s": m.median("throughput_tok_s") if m.status is Status.OK else None,
                    "error": m.error,
                }
                for m in self.tried
            ],
        }


@dataclass(slots=True)
class _Search:
    asked: Case
    tiers: list[str | FrozenMap | None]
    batch: int = 1
    tried: list[Measurement] = field(default_factory=list)
    reason: str = ""

    def next_case(self) -> Case:
        deployment = replace(self.asked.deployment, placement=self.tiers[0])
        return Case(deployment, replace(self.asked.workload, batch_size=self.batch))


def auto_batch(
    asked: Sequence[Case],
    measure: Measure,
    known: Iterable[Measurement] = (),
    *,
    rule: str = "throughput",
    max_batch: int = 1024,
) -> tuple[AutoBatch, ...]:
    """Find the batch size of each case; those of one round are measured together.

    Parameters
    ----------
    asked : sequence of Case
        Their batch sizes do not count; a placement of ``auto`` is found as well.
    measure : callable
        Measures cases; one without an answer is given up.
    known : iterable of Measurement
        What was measured before.

    Raises
    ------
    InputError
        If the rule is unknown, or `max_batch` is less than 1.
    """
    if rule not in RULES:
        raise InputError("unknown rule for the batch size", got=rule, hint=f"one of {', '.join(RULES)}")
    if max_batch < 1:
        raise InputError("the largest batch must be at least 1", got=max_batch)
    memory = {m.case.case_id: m for m in known}
    searches = [_Search(case, _tiers(case)) for case in asked]
    while running := [search for search in searches if not search.reason]:
        waiting: dict[str, Case] = {}
        for search in running:
            case = search.next_case()
            if case.case_id not in memory and _ran_out(case, memory) is None:
                waiting[case.case_id] = case
        if waiting:
            memory |= {m.case.case_id: m for m in measure(list(waiting.values()))}
        for search in running:
            case = search.next_case()
            _advance(search, memory.get(case.case_id), _ran_out(case, memory), rule, max_batch)
    return tuple(AutoBatch(s.asked, _best(s.tried, rule), tuple(s.tried), s.reason) for s in searches)


def _tiers(case: Case) -> list[str | FrozenMap | None]:
    placement = case.deployment.placement
    return list(TIERS) if placement == "auto" else [placement]


def _advance(search: _Search, found: Measurement | None, larger: Measurement | None, rule: str, most: int) -> None:
    if found is not None:
        search.tried.append(found)
    failed = found if found is not None and found.status is Status.OUT_OF_MEMORY else larger
    if found is not None and found.status is Status.OK:
        if rule == "throughput" and _has_saturated(search.tried):
            search.reason = f"throughput no longer rises at batch {search.batch}"
        elif search.batch * 2 > most:
            search.reason = f"batch {search.batch} is the largest that was allowed to be tried"
        else:
            search.batch *= 2
    elif failed is not None and found in (None, failed):
        if search.batch == 1 and len(search.tiers) > 1:
            search.tiers.pop(0)  # not even one sequence fits: the next tier
            return
        if found is None:
            search.tried.append(failed)
        search.reason = f"batch {search.batch} does not fit: {failed.error}"
    else:
        search.reason = "not measured" if found is None else f"batch {search.batch} is {found.status}: {found.error}"


def _has_saturated(tried: Sequence[Measurement]) -> bool:
    """Whether the last batches gained nothing worth having over the best before them."""
    rates = [m.median("throughput_tok_s") or 0.0 for m in tried if m.status is Status.OK]
    before, last = rates[:-PATIENCE], rates[-PATIENCE:]
    return bool(before) and max(last) <= max(before) * (1 + WORTH)


def _ran_out(case: Case, memory: Mapping[str, Measurement]) -> Measurement | None:
    """A measurement that ran out of memory on no more than the case asks, on the same deployment."""
    work = case.workload
    for m in memory.values():
        had = m.case.workload
        if (
            m.status is Status.OUT_OF_MEMORY
            and m.case.deployment == case.deployment
            and had.batch_size is not None
            and had.batch_size <= work.load
            and had.input_tokens <= work.input_tokens
            and had.output_tokens <= work.output_tokens
        ):
            return m
    return None


def _best(tried: Sequence[Measurement], rule: str) -> Measurement | None:
    good = [m for m in tried if m.status is Status.OK]
    if rule == "largest":
        return max(good, key=lambda m: m.case.workload.load, default=None)
    return max(good, key=lambda m: m.median("throughput_tok_s") or 0.0, default=None)
