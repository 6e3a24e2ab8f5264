"""`fewmark assess`: what a plan costs and how accurate it is; strategies side by side on recorded data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fewmark.core import Card, Chart, InputError, Series, Table
from fewmark.core.files import write_file
from fewmark.core.fractions import require_fraction
from fewmark.core.metrics import ALL_TARGETS
from fewmark.decide.cost import hourly_cost, power_w
from fewmark.decide.prices import load_prices
from fewmark.evaluation.meta_metrics import Charges
from fewmark.models.base import Model
from fewmark.models.registry import make_model, model_names
from fewmark.planning.assess import Assessment, Contender, assess, subjects
from fewmark.planning.plan_account import PlanAccount, account_for
from fewmark.planning.propose import make_planner
from fewmark.planning.strategies import make_strategy, strategy_names
from fewmark.reporting import RENDERERS
from fewmark.tables.repeats import measured_cells
from fewmark.tables.spellings import NOTES
from fewmark.verbs.plan import NO_MODEL, read_known
from fewmark.verbs.source import Tabular, read_cases, read_source

ACCURACIES: Final = (0.966, 0.98)  # of a contest between all; the first is the one that FMwork reports
ADAPTIVE: Final = "adaptive"


def assess_strategies(
    data: Tabular | None = None,
    *,
    store: str | None = None,
    strategies: Sequence[str] = ("all",),
    reference: str = "full",
    target: str = "throughput_tok_s",
    model: str = "auto",
    relatives: bool = True,
    accuracies: Sequence[float] = ACCURACIES,
    charges: Charges | None = None,
    screened: bool = True,
    random_state: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Assessment:
    """Replay strategies on the deployments of a table of measurements, each in turn the new one.

    Parameters
    ----------
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    strategies : sequence of str, default ("all",)
        Names of `fewmark.planning.strategies`; "all" is every one, and the adaptive one once more for each of
        `accuracies`, stopping by its own estimate.
    reference : str, default "full"
        The strategy whose cells are the reference.
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    model : str, default "auto"
        Who predicts what is not measured, for every strategy alike; "none" for nothing but smoothness.
    relatives : bool, default True
        Whether the other deployments' cells are known.
    accuracies : sequence of float
        Relative accuracies at which the adaptive strategy is to stop, fractions.
    charges : Charges, optional
        How running is charged: seconds to load a deployment, warm-up runs and repeats of a cell.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.
    progress : callable, optional
        Gets the name of each stage.

    Returns
    -------
    Assessment
        Cost and accuracy of each strategy on each deployment.

    Raises
    ------
    InputError
        If the request is wrong or the table holds nothing to replay.
    ModelError
        If there is no such model, or it cannot learn from the data.

    Notes
    -----
    The idea of costing a plan against a larger body of measurements is FMwork's (arXiv 2508.10251); the formulas are
    fewmark's own (see the page of meta-metrics).

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> found = fewmark.assess_strategies(table, strategies=["random", "powers-of-two"], model="none")
    >>> sorted(found.replays), len(found.subjects)
    (['powers-of-two', 'random'], 2)
    """
    if target not in ALL_TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    for accuracy in accuracies:
        require_fraction("an accuracy to reach", accuracy)
    if model != NO_MODEL and model not in model_names():
        raise InputError("no model by that name", got=model, hint=f"one of {', '.join(model_names())}, or none")
    contenders = _contenders(strategies, accuracies)
    make_strategy(reference)
    table = read_source(data, store=store, screened=screened)
    known = measured_cells(table, target)
    if known.empty:
        raise InputError(
            "there is nothing to assess: no cell with a measured value", got=f"{target} is not known of any row"
        )

    def make() -> Model:
        return make_model(model, target=target, random_state=random_state)

    found = subjects(
        known, target, None if model == NO_MODEL else make, relatives=relatives, reference=reference,
        random_state=random_state, progress=progress,
    )  # fmt: skip
    done = assess(
        found,
        contenders,
        target=target,
        relatives=relatives,
        charges=charges,
        random_state=random_state,
        progress=progress,
    )
    done.notes = tuple(table.attrs.get("notes", ()))
    return done


def assess_plan(
    space: str | Path,
    *,
    plan: str | Path | None = None,
    data: Tabular | None = None,
    store: str | None = None,
    prices: str | Path | None = None,
    target: str = "throughput_tok_s",
    model: str = "auto",
    charges: Charges | None = None,
    screened: bool = True,
    random_state: int = 0,
) -> PlanAccount:
    """The meta-metrics of one plan against measuring its whole space.

    Parameters
    ----------
    space : rows or path
        The cells in question, a canonical table; measured values in it are the reference that accuracy is scored
        against.
    plan : rows or path, optional
        Cells that are to be measured; by default what is measured of the space is the plan, and has run.
    data : rows, path or str, optional
        What is known: a data frame, a list of rows, a mapping of columns, a file that `import_files` reads, or a
        packaged dataset's name. By default, what the store holds.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    prices : path, optional
        A price file (YAML).
    target : str, default "throughput_tok_s"
        The metric, one of `fewmark.core.metrics.ALL_TARGETS`, in the unit of its name.
    model : str, default "auto"
        A name of `fewmark.models.registry`; "none" for nothing but smoothness.
    charges : Charges, optional
        How running is charged: seconds to load a deployment, warm-up runs and repeats of a cell.
    screened : bool, default True
        Whether rows that the screen excludes stay unseen, and corrections count.
    random_state : int, default 0
        Seed of everything random.

    Returns
    -------
    PlanAccount
        Time, money and energy of plan and whole space; forecast errors before and after.

    Raises
    ------
    InputError
        If the request is wrong.
    ModelError
        If there is no such model, or it cannot learn from the data.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> fewmark.assess_plan(table, data=table.iloc[::3], model="none").account.speed_up > 3
    True
    """
    known = read_known(data, store, screened=screened)
    cells = read_cases(space, known)
    fitted = None if model == NO_MODEL else make_model(model, target=target, random_state=random_state)
    planner = make_planner(known, cells, fitted, target=target, charges=charges, random_state=random_state)
    priced = None if prices is None else load_prices(prices)
    alone = planner.space.cells.assign(accelerator_count=1.0, tensor_parallel_size=1.0)
    account = account_for(
        planner,
        None if plan is None else read_cases(plan, known),
        reference=cells if len(measured_cells(cells, target)) else None,
        price_per_accelerator_hour=None if priced is None else hourly_cost(alone, priced),
        power_w=None if priced is None else power_w(planner.space.cells, priced),
    )
    notes = (*known.attrs.get("notes", ()), *cells.attrs.get(NOTES, ()))
    return replace(account, notes=tuple(dict.fromkeys(notes)))


def describe(found: Assessment, charges: Charges, reference: str) -> dict[str, object]:
    """The JSON of `fewmark assess`."""
    return {
        "reference": reference,
        "charges": {
            "load_s": charges.load_s,
            "warmup": charges.warmup,
            "repeats": charges.repeats,
        },
        **found.to_dict(),
        "notes": list(found.notes),
    }


def cards(found: Assessment) -> list[Card]:
    """The frontier as a figure and a table for a report."""
    drawn = [name for name, contender in found.contenders.items() if contender.target_error is None]
    stopped = [name for name in found.replays if name not in drawn]
    series = [
        Series(
            name,
            tuple(row["share_of_time"] for row in found.frontier(name)),
            tuple(row["median_ape"] for row in found.frontier(name)),
            style="line",
        )
        for name in drawn
    ]
    ends = {name: found.summary(name) for name in found.replays}
    if stopped:
        met = {name: end for name in stopped if (end := found.end(name)) is not None}
        shares = tuple(share for share, _ in met.values())
        errors = tuple(error for _, error in met.values())
        series.append(Series("stopped by its own estimate", shares, errors, labels=tuple(met)))
    columns = ("speed_up", "relative_accuracy", "relative_accuracy_mean", "p90_ape", "worst_ape", "n_cells", "right")
    n = len(found.subjects)
    return [
        Card(
            kind="assessment",
            title="What each strategy costs, and how accurate it is",
            text=f"Replayed on {n} deployment{'s' if n > 1 else ''}, "
            f"{'with' if found.relatives else 'without'} relatives; medians. What a strategy does not measure is "
            "predicted by the same model for all of them. A strategy that runs out of cells keeps its last error.",
            charts=(
                Chart(
                    "Error by time spent",
                    "share of the reference's time",
                    "median APE",
                    tuple(series),
                    log_x=True,
                ),
            ),
            tables=(
                Table(
                    "Where each one ended",
                    ("strategy", *columns),
                    tuple((name, *(end.get(column) for column in columns)) for name, end in ends.items()),
                ),
                Table(
                    "The frontier: nobody is better for less",
                    ("strategy", "share_of_time", "median_ape"),
                    tuple(tuple(point.values()) for point in found.pareto()),
                ),
            ),
        )
    ]


def write_report(found: Assessment, path: str | Path) -> None:
    """The cards as HTML, Markdown, JSON or CSV, by the suffix. Raises `InputError` if there is no such format."""
    render = RENDERERS.get(Path(path).suffix)
    if render is None:
        raise InputError("a report is written as " + ", ".join(RENDERERS), got=str(path))
    write_file(path, render(cards(found), "Strategies of measuring"))


def _contenders(strategies: Sequence[str], accuracies: Sequence[float]) -> list[Contender]:
    out: list[Contender] = []
    for text in strategies:
        names = strategy_names() if text == "all" else split_names(text)
        for name in names:
            make_strategy(name)
            out.append(Contender(name))
            # only a strategy that chooses by what it learns can be told to stop there
            if ADAPTIVE in re.split(r"[+(]", name):
                out += [Contender(name, round(1 - accuracy, 9)) for accuracy in accuracies]
    if not out:
        raise InputError("name at least one strategy", hint=f"all, or of {', '.join(strategy_names())}")
    return list(dict.fromkeys(out))


def split_names(text: str) -> list[str]:
    """Names separated by commas; commas inside parentheses belong to a name."""
    return [name.strip() for name in re.split(r",(?![^()]*\))", text) if name.strip()]
