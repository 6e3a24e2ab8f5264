"""`fewmark report`: what was measured, what a model makes of it, and how far that can be trusted, in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import Advice, Card, InputError, Measurement, ModelError, Status
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.files import write_file
from fewmark.core.fractions import require_fraction
from fewmark.interop import is_complete
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.gp.threads import single_threaded
from fewmark.models.registry import make_model
from fewmark.reporting import RENDERERS, figures
from fewmark.runner.advice import result_advice
from fewmark.screening import Finding, apply, screen
from fewmark.tables.repeats import reduce_cells, with_doubt
from fewmark.tables.spellings import NOTES, one_spelling
from fewmark.verbs.cards.decision import decision_card, forecasts_chart
from fewmark.verbs.cards.engines import engines_card
from fewmark.verbs.cards.overview import cost_card, environment_card, faults_card, summary_card
from fewmark.verbs.prediction_cards import prediction_cards
from fewmark.verbs.recommend import recommend
from fewmark.verbs.report_source import checked_steps, read_report_source
from fewmark.verbs.source import AS_READ, Tabular, screen_notes

DEFAULT_MODEL: Final = "auto"
QUICK_MODEL: Final = "mechanistic"
MAX_DEFAULT_CELLS: Final = 500
"""The most cells of which a report fits `auto` six times, once for its curves and five times for its check."""


@single_threaded
def report(
    out: str | Path,
    *,
    store: str | None = None,
    data: Tabular | None = None,
    model: str | None = None,
    target: str | None = None,
    slo: Sequence[str] = (),
    prices: str | Path | None = None,
    svg: str | Path | None = None,
    confidence_level: float = 0.9,
    random_state: int = 0,
    prior: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Card]:
    """Write a report on a store's measurements, or on a file's, and return its cards.

    Parameters
    ----------
    out : path
        Its suffix says the format: .html, .md, .json or .csv.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    data : table or str, optional
        Instead of a store: rows or columns in memory, a file that `import_files` reads, or a packaged dataset's name.
    model : str, optional
        The model that predicts; by default `auto`, and `mechanistic` where there are more than `MAX_DEFAULT_CELLS`
        cells: the report says so.
    target : str, optional
        The metric; by default the first of `ALL_TARGETS` of which there is the most.
    slo : sequence of str, optional
        Objectives of the recommendation, as in `recommend`: ``["ttft_s=0.5"]``.
    prices : path, optional
        Price file of the recommendation; without, accelerators are counted.
    svg : path, optional
        A folder to write every figure to as well, one SVG file each.
    confidence_level : float, default 0.9
        Of the intervals, a fraction.
    random_state : int, default 0
        Seed of everything random.
    prior : bool, default True
        Whether public measurements of similar deployments join a small table. The report says so.
    cache : bool, default True
        Whether a model fitted on the same data before is used again (`fewmark.models.cache`).
    progress : callable, optional
        Gets the name of each stage.

    Returns
    -------
    list of Card
        What the report shows.

    Raises
    ------
    InputError, FormatError, StoreError, ModelError
        If the request, a file, the store or the model's name is wrong.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> datasets.example().head(8).to_csv("measured.csv", index=False)
    >>> cards = fewmark.report("report.md", data="measured.csv", model="mechanistic", cache=False)
    >>> [card.kind for card in cards][:2]
    ['summary', 'curves']
    """
    require_fraction("the confidence level", confidence_level)
    path = check_output(Path(out))
    if svg is not None:
        figures.require(Path(svg))
    progress("reading")
    source = read_report_source(store, data, target)
    target = source.target
    if model is not None:
        make_model(model, target=target)  # a wrong name is told before any work is done
    progress("screening")
    source = replace(source, frame=one_spelling(source.frame))
    findings = screen(source.frame)
    sound = with_doubt(apply(source.frame, findings))
    cells = reduce_cells(sound[(sound["status"] == Status.OK) & is_complete(sound)], target)
    cards = [_with_notes(summary_card(source.frame, target, source=source.name), source.frame, findings, data)]
    if warned := tuple(result_advice(source.measurements)):
        cards[0] = replace(cards[0], advice=(*cards[0].advice, *_merged(warned)))
    models = FittedModels(cache_folder() if cache else None)
    decision = None
    quick = model is None and len(cells) > MAX_DEFAULT_CELLS
    model = model or (QUICK_MODEL if quick else DEFAULT_MODEL)
    try:
        progress(f"fitting {model}")
        cards += prediction_cards(
            cells, sound, source, model, confidence_level, random_state, prior=prior, models=models
        )
        progress("deciding")
        decision = _decision(sound, slo, prices, model, random_state, prior=prior, models=models)
    except ModelError as error:
        advice = Advice("no-model", error.what, error.hint or "Measure more cells, or choose another model.")
        cards.append(
            Card("curves", "Predictions", f"The model '{model}' cannot learn from these data.", advice=(advice,))
        )
    if quick:
        advice = Advice(
            "quick-model",
            f"The model is '{QUICK_MODEL}', not '{DEFAULT_MODEL}' as elsewhere: that one would be fitted six times to "
            f"{len(cells):,} cells, which takes minutes.",
            f"--model {DEFAULT_MODEL} does it all the same.",
        )
        cards[1] = replace(cards[1], advice=(*cards[1].advice, advice))
    if decision is not None:
        cards.insert(1, decision)
    models.keep()
    if source.ledger is not None and source.ledger.n_predictions:
        cards.append(source.ledger.card())
    if (compared := engines_card(source.measurements)) is not None:
        cards.append(compared)
    bought = forecasts_chart(checked_steps(source))
    cost = cost_card(source.measurements)
    cards += [replace(cost, charts=(*bought, *cost.charts)), faults_card(source.frame, findings)]
    cards.append(environment_card(source.measurements))
    progress("writing")
    write_report(path, cards, report_title(source.name, source.measurements))
    if svg is not None:
        figures.write_svgs(cards, Path(svg))
    return cards


def _with_notes(card: Card, frame: pd.DataFrame, findings: Sequence[Finding], data: Tabular | None) -> Card:
    """The card, with what was left out or corrected, and which names were taken for which."""
    named = str(data) if isinstance(data, (str, Path)) else None
    notes = [*frame.attrs.get(NOTES, []), *screen_notes(findings, len(frame), named)]
    return replace(card, advice=(*card.advice, *(Advice("data", note, "") for note in notes)))


def _merged(warned: Sequence[Advice]) -> tuple[Advice, ...]:
    """Several warnings about the same measurements as one: how many of how many, and what to do."""
    if len(warned) < 2:
        return tuple(warned)
    hints = "; ".join(dict.fromkeys(one.hint for one in warned if one.hint))
    return (Advice("marks", "; ".join(one.message for one in warned) + ".", f"What to do: {hints}."),)


def check_output(path: Path) -> Path:
    """The path, if a report can be written there. Raises `InputError` if not."""
    if path.suffix.lower() not in RENDERERS:
        raise InputError("a report's suffix says its format", got=str(path), hint=f"one of {', '.join(RENDERERS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("cannot write the report there", got=str(path), hint="name a file in a folder that exists")
    return path


def report_title(name: str, measurements: Sequence[Measurement]) -> str:
    """What a report is about, a single deployment by its label or else the source, and the day of the last run."""
    deployments = {measurement.case.deployment for measurement in measurements}
    about = next(iter(deployments)).label if len(deployments) == 1 else name
    if about.startswith("the "):
        about = f"T{about[1:]}"
    days = sorted(str(m.measured_at)[:10] for m in measurements if m.measured_at)
    return f"{about} · {days[-1]}" if days else about


def write_report(path: Path, cards: Sequence[Card], title: str) -> None:
    """Write the cards in the format of the path's suffix; the file is complete or not there."""
    text = RENDERERS[path.suffix.lower()](cards, title)
    write_file(path, text)


def _decision(
    sound: pd.DataFrame,
    slo: Sequence[str],
    prices: str | Path | None,
    model: str,
    random_state: int,
    *,
    prior: bool,
    models: FittedModels,
) -> Card | None:
    """The recommendation; None where nothing was asked for and none can be made."""
    known = sound.copy(deep=False)
    known.attrs = {AS_READ: True}
    try:
        answer = recommend(slo, prices=prices, data=known, model=model, prior=prior, random_state=random_state,
                           models=models)  # fmt: skip
    except (InputError, ModelError):
        if slo or prices is not None:
            raise
        return None
    if answer.cells.drop(columns=list(LOAD_COLUMNS), errors="ignore").drop_duplicates().shape[0] < 2 and not slo:
        return None  # a single deployment leaves nothing to choose
    return decision_card(answer)
