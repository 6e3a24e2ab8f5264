"""Recommendations and plans from what the server knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from fewmark.core import Advice
from fewmark.core.metrics import METRICS
from fewmark.decide.prices import Prices
from fewmark.evaluation.meta_metrics import Charges
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.reporting.display import quantity, show_value
from fewmark.tables.columns import load_label
from fewmark.verbs.cards.decision import price_flip
from fewmark.verbs.plan import plan
from fewmark.verbs.recommend import Answer, recommend
from fewmark.web.knowledge import Knowledge, records

if TYPE_CHECKING:
    from fewmark.planning.planner import Planner

ASSURANCE: Final = 0.9  # the probability with which objectives are to be met, where nobody says
OPTIONS: Final = ("input_tokens", "output_tokens", "demand_tok_s", "assurance")


def recommend_for(
    knowledge: Knowledge,
    slo: Mapping[str, float],
    prices: Prices | None,
    *,
    space: Sequence[Mapping[str, object]] | None = None,
    where: Mapping[str, str] | None = None,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
    region: str | None = None,
    spot: bool = False,
    demand_tok_s: float | None = None,
    assurance: float = ASSURANCE,
) -> Answer:
    """What `fewmark recommend` answers from what is known. Raises as it does."""
    snapshot = knowledge.now()
    objectives = [f"{name}={limit!r}" for name, limit in slo.items()]
    told = None if prices is None else prices.model_dump_json()
    workload = (input_tokens, output_tokens, region, spot, demand_tok_s, assurance)
    key = ("recommend", tuple(objectives), told, repr(space), repr(where), workload)
    return snapshot.remember(
        key,
        lambda: knowledge.decide(
            lambda models: recommend(
                objectives, prices=prices, data=snapshot.sound, space=space, where=where,
                model=knowledge.settings.model, models=models, prior=knowledge.settings.prior,
                input_tokens=input_tokens, output_tokens=output_tokens,
                region=region, spot=spot, demand_tok_s=demand_tok_s, assurance=assurance,
            )
        ),
    )  # fmt: skip


def plan_for(
    knowledge: Knowledge,
    space: Sequence[Mapping[str, object]] | pd.DataFrame,
    *,
    ask: int,
    target: str,
    target_error: float | None = None,
    load_s: float = 10.0,
    warmup: int = 1,
    repeats: int = 3,
) -> tuple[pd.DataFrame, Planner]:
    """What `fewmark plan` answers from what is known. Raises as it does."""
    snapshot = knowledge.now()
    # a planner teaches its model: it gets one of its own, as any other process would
    models = FittedModels(cache_folder())
    charges = Charges(load_s=load_s, warmup=warmup, repeats=repeats)
    return plan(
        space, data=snapshot.sound, model=knowledge.settings.model, prior=knowledge.settings.prior,
        charges=charges, models=models, ask=ask, target=target, target_error=target_error,
    )  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """A recommendation for people: the ranking, the choice in words, and what would change it."""

    words: str
    is_good: bool
    rows: list[dict[str, object]]
    n_candidates: int
    flips: list[str]
    next_words: str
    advice: tuple[Advice, ...]
    currency: str | None


def decided(
    knowledge: Knowledge,
    slo: Mapping[str, float],
    prices: Prices | None,
    options: Mapping[str, float],
    where: Mapping[str, str],
    *,
    most: int,
) -> Decision:
    """The recommendation and what would flip it; `options` by the names of `OPTIONS`. Raises as `recommend_for`."""
    assurance = options.get("assurance", ASSURANCE)
    answer = recommend_for(
        knowledge, slo, prices, where=where, input_tokens=options.get("input_tokens"),
        output_tokens=options.get("output_tokens"),
        demand_tok_s=options.get("demand_tok_s"), assurance=assurance,
    )  # fmt: skip
    found, table = answer.recommendation, answer.table
    rows = records(table.head(most))
    for row, at in zip(rows, table.index, strict=False):
        row["name"], row["is_chosen"] = _name(answer, at), at == found.chosen
    flips: list[str] = []
    if found.chosen is None:
        words = "Nothing here meets the objectives with the probability asked for."
    else:
        best = table.loc[found.chosen]
        words = f"Deploy {_name(answer, found.chosen)}."
        if slo:
            words += f" It meets every objective with a probability of {best['probability']:.0%}."
        if best["regret"] < 0.0005:
            words += " No other is expected to cost less (regret 0%)."
        elif best["regret"] == best["regret"]:
            words += f" It is expected to cost {best['regret']:.1%} more than the best choice in hindsight (regret)."
        flips = [*price_flip(answer, assurance), *_slo_flips(knowledge, answer, slo, assurance)]
    if found.next_measurement is None:
        next_words = "No single measurement is likely to change the answer."
    else:
        next_words = f"Measure {_name(answer, found.next_measurement)} next"
        if found.chosen is None:
            next_words += ": it may meet them."
        elif found.expected_saving > 0:
            next_words += f": it is expected to save {found.expected_saving:.1%} of the cost."
        else:
            next_words += ": without it, that candidate cannot be judged."
    return Decision(words, found.chosen is not None, rows, len(table), flips, next_words, found.advice, answer.currency)


def _name(answer: Answer, at: int) -> str:
    row = answer.cells.loc[at].to_dict()
    count = row.get("accelerator_count")
    many = f"{count:g}× " if isinstance(count, float) and count > 1 else ""
    where = f" on {many}{row['accelerator']}" if isinstance(row.get("accelerator"), str) else ""
    return f"{row.get('model')} · {row.get('engine')}{where}, {load_label(row)}"


def _slo_flips(knowledge: Knowledge, answer: Answer, slo: Mapping[str, float], assurance: float) -> list[str]:
    """For each objective, the limit from which on the choice no longer meets it with the probability asked for."""
    level = abs(2 * assurance - 1)
    if not 0.01 < level < 0.999:
        return []
    assert answer.recommendation.chosen is not None
    chosen = answer.cells.iloc[[answer.recommendation.chosen]].reset_index(drop=True)
    out = []
    for metric, limit in slo.items():
        table = knowledge.predict(chosen, metric, level).table
        higher = METRICS[metric].higher_is_better
        end = float(table["low" if higher == (assurance > 0.5) else "high"].iloc[0])
        if end > limit if higher else end < limit:  # unknown (NaN) is neither
            shown = quantity(metric, [limit, end])
            now, then = (show_value(shown.show(value)) for value in (limit, end))
            verb, side = ("Raising", "above") if higher else ("Lowering", "below")
            out.append(f"{verb} the limit of {shown.label} from {now} to {side} {then} rules this choice out.")
    return out
