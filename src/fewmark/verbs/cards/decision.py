"""The card of the decision: what to deploy, how sure that is, what would change it, and all candidates overlaid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Card, Chart, Series, Table
from fewmark.core.metrics import METRICS
from fewmark.decide.recommend import percent
from fewmark.reporting.display import quantity, show_value
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import accelerator_counts, load_label, load_of, sequences_of
from fewmark.tables.identity import deployment_codes
from fewmark.verbs.cards.labels import LABEL, with_labels
from fewmark.verbs.recommend import Answer

E2E: Final = "e2e_latency_s"
PER_ACCELERATOR: Final = "throughput_per_accelerator_tok_s"
TRADE: Final = "Latency against throughput, every candidate; up and to the left is better"
MOST_ROWS: Final = 10
MOST_GROUPS: Final = 6
MIN_STEPS: Final = 4  # forecasts that were checked, below which their errors make no curve
WINDOW: Final = 8
HIGHLIGHT: Final = "highlight"
PLAIN: Final = ("workload", "no-prices")  # advice that is a part of what was asked, and no warning
ELSEWHERE: Final = ("screened", "public-measurements")  # advice that other cards give


def decision_card(answer: Answer, *, assurance: float = 0.9) -> Card:
    """What a recommendation says, for people."""
    found, table = answer.recommendation, answer.table
    wanted = f"Under {' and '.join(map(str, answer.objectives))}" if answer.objectives else "Without any objective"
    name = found.names
    figures: list[tuple[str, str]] = []
    changes: list[str] = []
    if found.chosen is None:
        text = f"{wanted}, nothing here is known to do with a probability of {assurance:.0%}."
    else:
        best = table.loc[[found.chosen]].to_dict("records")[0]
        text = f"{wanted}, deploy {name[found.chosen]}."
        if answer.objectives:
            figures.append(("probability of meeting all", percent(best["probability"])))
        figures.append(("probability of being the cheapest", percent(best["p_best"])))
        if best["regret"] == best["regret"]:
            figures.append(("expected regret", f"{best['regret']:.1%}"))
        if answer.currency is not None:
            money = show_value(float(best["cost_per_mtok_all_in"]))
            figures.append((f"{answer.currency} a million output tokens", money))
        changes = [*price_flip(answer, assurance), *_limits(answer, best)]
    if found.next_measurement is None:
        changes.append("No single measurement is likely to change the answer.")
    else:
        worth = f", worth {found.expected_saving:.1%} of its cost" if found.expected_saving > 0 else ""
        changes.append(f"The measurement to make next: {name[found.next_measurement]}{worth}.")
    text += "".join(f" {_sentence(note.message)}" for note in found.advice if note.code in PLAIN)
    tables = [Table("What would change it", ("change",), tuple((line,) for line in changes))]
    tables.append(_ranking(answer))
    return Card(
        "decision", "Recommendation", text, tuple(figures), tuple(tables), _trade(answer),
        tuple(Advice(note.code, _sentence(note.message), _sentence(note.hint)) for note in found.advice
              if note.code not in (*PLAIN, *ELSEWHERE)),
    )  # fmt: skip


def price_flip(answer: Answer, assurance: float) -> list[str]:
    """The smallest change of a price at which another accelerator is chosen, as a sentence; none without a rival."""
    table, chosen = answer.recommendation.table, answer.recommendation.chosen
    assert chosen is not None
    sure = table[(table["probability"] >= assurance) & table["relative_cost"].notna()]
    accelerator = answer.cells["accelerator"].astype(str)
    other = sure[(accelerator.loc[sure.index] != accelerator.loc[chosen]).to_numpy()]
    if other.empty:
        return []
    rival = other.index[0]
    ratio = float(other["relative_cost"].iloc[0]) / float(table["relative_cost"][chosen])
    if not answer.currency:
        return [
            f"{accelerator.loc[rival]} is chosen where its hour costs less than {1 / ratio:.0%} of one of "
            f"{accelerator.loc[chosen]}."
        ]
    return [
        f"{accelerator.loc[rival]} is chosen if its price falls by {1 - 1 / ratio:.0%}, or that of "
        f"{accelerator.loc[chosen]} rises by {ratio - 1:.0%}."
    ]


def _limits(answer: Answer, best: Mapping[Hashable, object]) -> list[str]:
    """For each objective, how far the limit may be tightened before the choice is more likely than not to miss it."""
    out = []
    for objective in answer.objectives:
        value = float(str(best[objective.metric]))
        shown = quantity(objective.metric, [value, objective.limit])
        now, then = (show_value(shown.show(float(f"{each:.3g}"))) for each in (objective.limit, value))
        verb = "raised" if METRICS[objective.metric].higher_is_better else "lowered"
        out.append(f"{shown.label}: a limit {verb} from {now} to {then} is missed as likely as it is met.")
    return out


def _ranking(answer: Answer) -> Table:
    table = answer.table.head(MOST_ROWS)
    metrics = list(dict.fromkeys(["throughput_tok_s", *(objective.metric for objective in answer.objectives)]))
    money = "cost_per_mtok_all_in" if answer.currency is not None else "relative_cost"
    columns = ("candidate", "Meets all", "cheapest", "regret", *metrics, money.removesuffix("_all_in"))
    rows = []
    for at, row in zip(table.index, table.to_dict("records"), strict=True):
        regret = "–" if row["regret"] != row["regret"] else f"{row['regret']:.1%}"
        sure = (percent(row["probability"]), percent(row["p_best"]), regret)
        rows.append((answer.recommendation.names[at], *sure, *(_known(row[name]) for name in (*metrics, money))))
    more = len(answer.table) - len(rows)
    return Table("Candidates, best first" + (f" ({more:,} more)" if more else ""), columns, tuple(rows))


def _trade(answer: Answer) -> tuple[Chart, ...]:
    """Every candidate's throughput per accelerator against a latency, a line a deployment, with the objective."""
    cells, table = answer.cells, answer.recommendation.table.sort_index()
    slo = next((one for one in answer.objectives if one.metric.endswith("_s") and one.metric in table
                and not METRICS[one.metric].higher_is_better), None)  # fmt: skip
    metric = E2E if slo is None else slo.metric
    rate = table["throughput_tok_s"].to_numpy(float)
    x: FloatArray = (
        sequences_of(cells) * cells["output_tokens"].to_numpy(float) / rate
        if metric not in table
        else table[metric].to_numpy(float)
    )
    count = accelerator_counts(cells)
    y = rate / np.where(np.isnan(count), 1.0, count)
    known = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if known.sum() < 2:
        return ()
    rows = with_labels(cells).assign(x=x, y=y, load=load_of(cells), code=deployment_codes(cells))
    about = "accelerator" if "accelerator" in rows and rows["accelerator"].notna().any() else LABEL
    groups = rows[about].astype(object).where(rows[about].notna(), "unknown").astype(str)
    common = set(groups.value_counts().index[:MOST_GROUPS])
    rows = rows.assign(group=groups.where(groups.isin(common), "others")).loc[known].sort_values(["code", "load"])
    series: list[Series] = []
    for (group, _), part in rows.groupby(["group", "code"], sort=True):
        labels = tuple(f"{row[LABEL]}, {load_label(row)}" for row in part.to_dict("records"))
        series.append(Series(str(group), tuple(part["x"]), tuple(part["y"]), style="line", labels=labels))
    if slo is not None:
        series.append(Series(f"objective: {slo}", (slo.limit,) * 2, (float(rows["y"].min()), float(rows["y"].max())),
                             style="line"))  # fmt: skip
    chosen = answer.recommendation.chosen
    if chosen is not None and known[chosen]:
        what = (answer.recommendation.names[chosen],)
        name = "the cheapest that meets all" if answer.objectives else "the cheapest"
        series.append(Series(name, (float(x[chosen]),), (float(y[chosen]),), style=HIGHLIGHT, labels=what))
    return (Chart(TRADE, metric, PER_ACCELERATOR, tuple(series), log_x=True, log_y=True),)


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def _known(value: object) -> object:
    return None if isinstance(value, float) and pd.isna(value) else value


def forecasts_chart(steps: Sequence[tuple[float, float, str]]) -> tuple[Chart, ...]:
    """What the campaign bought: the error of each forecast over what had been spent when it was checked.

    `steps`: seconds spent so far, the absolute percentage error (%), and what was measured; in order.
    """
    if len(steps) < MIN_STEPS:
        return ()
    spent, errors = tuple(step[0] for step in steps), tuple(step[1] for step in steps)
    recent = tuple(float(np.median(errors[max(0, i + 1 - WINDOW) : i + 1])) for i in range(len(errors)))
    series = (
        Series("a forecast, checked", spent, errors, style="points", labels=tuple(step[2] for step in steps)),
        Series(f"median of the last {WINDOW}", spent, recent, style="line"),
    )
    return (Chart("What the campaign bought: forecasts' errors over the time spent", "spent_s", "ape_percent", series,
                  log_y=True),)  # fmt: skip
