"""`fewmark recommend`: what to deploy, at which setting, under which objectives, at what price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core import Advice, InputError, ModelError
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.fractions import require_fraction
from fewmark.decide.cost import hourly_cost, power_w, replicas, require_demand, token_costs
from fewmark.decide.prices import Prices, load_prices
from fewmark.decide.recommend import Recommendation, percent
from fewmark.decide.recommend import recommend as rank
from fewmark.decide.slo import Distribution, Objective, distribution, parse_objectives
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.feasibility import feasibility
from fewmark.models.gp.threads import single_threaded
from fewmark.models.registry import make_model
from fewmark.planning.space import Space
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import accelerator_counts, load_kind_of, sequences_of
from fewmark.tables.identity import deployment_codes, is_identity
from fewmark.tables.precision import log_sd
from fewmark.tables.repeats import contested, measured_cells
from fewmark.tables.spellings import NOTES
from fewmark.verbs.compare_sides import rows_with
from fewmark.verbs.learning import Learner
from fewmark.verbs.source import Tabular, read_cases, read_source

RATE = "throughput_tok_s"
SHOWN = 10  # candidates in a repr


@dataclass(frozen=True, repr=False)
class Answer:
    """A recommendation and its money: `cells` are the candidates, `currency` the unit (None: accelerators count)."""

    recommendation: Recommendation
    cells: pd.DataFrame
    costs: pd.DataFrame
    currency: str | None
    objectives: tuple[Objective, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The candidates, best first: their columns, what they cost, how sure it is."""
        order = self.recommendation.table.index
        names = [name for name in map(str, self.cells) if is_identity(name) and self.cells[name].notna().any()]
        shown = self.cells.loc[order, names]
        return pd.concat([shown, self.recommendation.table, self.costs.loc[order]], axis=1)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        both = replace(self.recommendation, table=self.table)
        return {"currency": self.currency, **both.to_dict()}

    def __repr__(self) -> str:
        table, chosen = self.table, self.recommendation.chosen
        shown = table[[name for name in table if table[name].notna().any()]].head(SHOWN)
        if chosen is None:
            head = "Answer: no candidate meets the objectives with the assurance asked for"
        else:
            sure = f"meets all with {percent(table['probability'].loc[chosen])}"
            money = "" if self.currency is None else f", costs in {self.currency}"
            head = f"Answer: {self.recommendation.names[chosen]}, {sure}{money}"
        rest = f"\n… and {len(table) - SHOWN} more in .table" if len(table) > SHOWN else ""
        return f"{head}\n{shown.to_string(float_format=lambda value: f'{value:.4g}')}{rest}"


@single_threaded
def recommend(
    slo: str | Sequence[str] | Mapping[str, float] = (),
    *,
    prices: str | Path | Prices | None = None,
    data: Tabular | None = None,
    store: str | None = None,
    space: Tabular | None = None,
    where: Mapping[str, str] | None = None,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
    model: str = "auto",
    region: str | None = None,
    spot: bool = False,
    demand_tok_s: float | None = None,
    assurance: float = 0.9,
    screened: bool = True,
    random_state: int = 0,
    prior: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] = lambda text: None,
    models: FittedModels | None = None,
) -> Answer:
    """Rank deployments and their settings by what they cost under objectives.

    Parameters
    ----------
    slo : mapping of str to float, or sequence of str
        Objectives: a metric's limit, ``{"ttft_s": 0.5}`` or ``["ttft_s=0.5"]``, seconds or the unit of the name.
    prices : path or Prices, optional
        Prices (YAML); without, accelerators take money's place.
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    space : rows or path, optional
        The candidates, a canonical table; by default every deployment that is known at every load that is known.
    where : mapping of str to str, optional
        Only candidates with these values, by column: ``{"model": "meta-llama/Llama-3.1-8B-Instruct"}``. Whatever is
        known of other deployments still teaches the model.
    input_tokens, output_tokens : float, optional
        The workload; by default the lengths that most deployments were measured at.
    model : str, default "auto"
        A name of `fewmark.models.registry`.
    region : str, optional
        Only prices of this region count.
    spot : bool, default False
        Whether spot prices count, too.
    demand_tok_s : float, optional
        Output tokens per second to serve, for the number of replicas.
    assurance : float, default 0.9
        The probability of meeting all objectives that is asked of a choice, a fraction.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table.
    cache : bool, default True
        Whether a model fitted on the same data before is used again (`fewmark.models.cache`).
    progress : callable, optional
        Gets the name of each stage.
    models : FittedModels, optional
        Where fitted models are kept, in place of `cache`.

    Returns
    -------
    Answer
        `table`, the candidates, best first; `recommendation.chosen`, the position of the choice, or None.

    Raises
    ------
    InputError
        If the request is wrong.
    ModelError
        If what it asks for cannot be known from the data.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> answer = fewmark.recommend({"ttft_s": 0.5}, data=table, model="mechanistic", prior=False)
    >>> answer.table[["accelerator", "batch_size"]].head(1).to_dict("records")
    [{'accelerator': 'H100', 'batch_size': 64.0}]
    """
    objectives = parse_objectives(slo)
    require_fraction("the assurance", assurance)
    if demand_tok_s is not None:
        require_demand(demand_tok_s)  # before anything is fitted
    priced = load_prices(prices) if isinstance(prices, (str, Path)) else prices
    progress("reading")
    known = read_source(data, store=store, screened=screened)
    rates = measured_cells(known, RATE)
    if rates.empty:
        raise InputError(
            "nothing is known: no cell with a throughput",
            got=f"{len(known)} rows{' that the screen let pass' if screened else ''}",
            hint=next(iter(known.attrs.get("notes", [])), "run or import measurements; fewmark screen shows faults"),
        )
    advice = _advice_on_data(known.attrs.get("notes", []))
    if space is not None:
        asked = rows_with(read_cases(space, known), where or {}, "the space")
        advice += _advice_on_data(asked.attrs.get(NOTES, []))
        cells = Space.from_table(asked).cells
    else:
        cells = _candidates(rows_with(rates, where or {}, "what is known"), input_tokens, output_tokens, advice)
    for objective in objectives:
        if measured_cells(known, objective.metric, related=make_model(model).uses_metrics).empty:
            raise InputError(
                f"{objective.metric} was never measured here, so nothing can be said of {objective}",
                hint="measure it (a streaming engine or one-token runs), or use another objective",
            )
    hourly = _hourly(cells, priced, region, spot, advice)
    models = models or FittedModels(cache_folder() if cache else None)
    learner = Learner(known, model, models, random_state, prior)
    progress(f"fitting {model} to {len(known):,} rows: {RATE}")
    throughput, provenance, n_public = _believe(learner, RATE, cells)
    assert throughput.measured is not None
    beliefs = []
    for objective in objectives:
        if objective.metric != RATE:
            progress(f"fitting {model} to {len(known):,} rows: {objective.metric}")
        belief = throughput if objective.metric == RATE else _believe(learner, objective.metric, cells)[0]
        beliefs.append((objective, belief))
    models.keep()
    progress(f"ranking {len(cells):,} candidates")
    found = rank(
        cells, throughput, hourly, beliefs, throughput.measured,
        feasible=feasibility(cells, known), assurance=assurance, random_state=random_state,
    )  # fmt: skip
    costs = _costs(cells, throughput, hourly, beliefs, priced, demand_tok_s)
    costs.loc[found.table[RATE].reindex(costs.index).isna()] = np.nan  # what cannot run costs nothing that is known
    found = replace(found, table=found.table.assign(provenance=provenance[found.table.index]))
    if n_public:
        text = f"{n_public} public measurements were added to the measured ones"
        advice.append(Advice("public-measurements", text, "--no-prior leaves them out"))
    return Answer(
        replace(found, advice=(*advice, *found.advice)), cells, costs,
        priced.currency if priced is not None else None, tuple(objectives),
    )  # fmt: skip


def _advice_on_data(notes: Sequence[str]) -> list[Advice]:
    """What the screen did to the measurements, and which names were taken for which."""
    screened = [note for note in notes if " rows " in note]
    names = [note for note in notes if " rows " not in note]
    out = [Advice("screened", note, "look at them before you decide") for note in screened]
    if names:
        out.append(Advice("names", "; ".join(names), "a file of facts with your own aliases: FEWMARK_FACTS"))
    return out


def _candidates(
    rates: pd.DataFrame, input_tokens: float | None, output_tokens: float | None, advice: list[Advice]
) -> pd.DataFrame:
    """Every known deployment at every known load (of its kind), at one pair of lengths."""
    rows = rates
    for name, wanted in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if wanted is not None and not (np.isfinite(wanted) and wanted > 0):
            raise InputError(f"{name} must be a positive number", got=wanted)
    pair = (input_tokens, output_tokens)
    if None in pair:
        fits = np.ones(len(rows), dtype=bool)
        for name, wanted in zip(("input_tokens", "output_tokens"), pair, strict=True):
            fits &= (rows[name] == wanted).to_numpy() if wanted is not None else True
        if not fits.any():
            raise InputError("no cell of these lengths is known", got=pair, hint="give both --input and --output")
        counts = rows.loc[fits].assign(d=deployment_codes(rows)[fits]).groupby(["input_tokens", "output_tokens"])["d"]
        n_deployments = counts.nunique()
        common_input, common_output = n_deployments.index[int(n_deployments.to_numpy().argmax())]
        pair = (float(common_input), float(common_output))
        advice.append(
            Advice(
                "workload",
                f"for {pair[0]:g} tokens in and {pair[1]:g} out: the lengths that most deployments were measured at",
                "say --input and --output for others",
            )
        )
    code = deployment_codes(rows)
    tables = []
    kinds = load_kind_of(rows)
    for one in np.unique(code):
        for kind, column in enumerate(LOAD_COLUMNS):
            mine = (code == one) & (kinds == kind)
            if mine.any():
                loads = np.unique(rows.loc[kinds == kind, column].to_numpy(dtype=float))
                reach = rows.loc[mine, column].max()
                chosen = loads[loads <= 2 * reach]  # beyond twice what was tried, a prediction is a guess
                first = rows.loc[mine].iloc[[0] * len(chosen)].copy()
                first[column] = chosen
                tables.append(first)
    out: pd.DataFrame = pd.concat(tables, ignore_index=True)
    out["input_tokens"], out["output_tokens"] = pair
    return out[[name for name in map(str, out) if is_identity(name)]]


def _believe(learner: Learner, target: str, cells: pd.DataFrame) -> tuple[Distribution, NDArray[np.object_], int]:
    """What is believed of a metric at the candidates (n,), where that comes from, and how many public cells joined."""
    try:
        fitted, rows, values = learner.fit(target)
    except ModelError as error:
        raise ModelError(f"{target} cannot be predicted from what is known", got=error.what, hint=error.hint) from None
    space = Space.from_table(cells)
    where = space.locate(rows)
    measured = np.full(len(cells), np.nan)
    # a median of repeats that contradict one another is nothing sure, to a model that learned it so
    sure = (where >= 0) & ((log_sd(rows) == 0) | (not fitted.uses_metrics))
    measured[where[sure]] = values[sure]
    apart = contested(learner.table, target)
    ends = np.full((len(cells), 2), np.nan)
    if len(apart):
        here = space.locate(apart)
        ends[here[here >= 0]] = apart.loc[here >= 0, ["low", "high"]].to_numpy(float)
        measured[here[here >= 0]] = np.nan
    provenance = np.where(np.isfinite(measured), "measured", fitted.provenance(cells)).astype(object)
    return distribution(fitted, cells, measured, ends), provenance, fitted.n_public_cells_


def _hourly(
    cells: pd.DataFrame, prices: Prices | None, region: str | None, spot: bool, advice: list[Advice]
) -> FloatArray:
    if prices is None:
        if region or spot:
            raise InputError("a region or spot prices need a price file", hint="give --prices")
        advice.append(
            Advice("no-prices", "no prices were given: ranked by accelerators, not by money", "give --prices FILE")
        )
        return accelerator_counts(cells)
    hourly = hourly_cost(cells, prices, region=region, spot=spot)
    if not np.isfinite(hourly).any():
        raise InputError(
            "no candidate has a price",
            got=", ".join(sorted({str(name) for name in cells["accelerator"]})),
            hint=f"the file prices {', '.join(sorted({price.name for price in prices.accelerators}))}",
        )
    without = sorted({str(name) for name in cells.loc[~np.isfinite(hourly), "accelerator"]})
    if without:
        advice.append(
            Advice(
                "unpriced",
                f"without a price or a number of accelerators, so not ranked: {', '.join(without)}",
                "add them to the price file",
            )
        )
    return hourly


def _costs(
    cells: pd.DataFrame,
    throughput: Distribution,
    hourly: FloatArray,
    beliefs: Sequence[tuple[Objective, Distribution]],
    prices: Prices | None,
    demand_tok_s: float | None,
) -> pd.DataFrame:
    value = throughput.median
    e2e = sequences_of(cells) * cells["output_tokens"].to_numpy(dtype=float) / value
    ttft = next(
        (belief.median for objective, belief in beliefs if objective.metric == "ttft_s"), np.full(len(cells), np.nan)
    )
    share = np.clip(ttft / e2e, 0.0, 1.0)
    out = token_costs(
        cells, value, hourly if prices is not None else np.full(len(cells), np.nan), share, power_w(cells, prices)
    )
    if demand_tok_s is not None:
        out["replicas"] = replicas(demand_tok_s, value)
        # the low end of the throughput asks for more replicas, the high end for fewer
        out["replicas_high"] = replicas(demand_tok_s, throughput.quantile(0.05))
        out["fleet_cost_per_hour"] = out["replicas"] * hourly if prices is not None else np.nan
    return out
