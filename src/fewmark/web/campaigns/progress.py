"""A campaign as the page Live shows it: how far it is, its cells, its errors, what it costs, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from fewmark.core import Case, Status
from fewmark.core.errors import FewmarkError
from fewmark.web.campaigns.control import Campaigns
from fewmark.web.campaigns.folder import STEPS, STOPPED, CampaignFolder, State
from fewmark.web.knowledge import Knowledge
from fewmark.web.progress import Progress, progress_of

MOST_ROWS: Final = 150  # of the map of cells
HOUR_S: Final = 3600.0


@dataclass(frozen=True)
class MapRow:
    """One deployment at one pair of lengths: for each load, the state of its cell and its value (None: none yet)."""

    name: str
    lengths: str
    cells: Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class ShownCampaign:
    """One campaign for people. `may_go_on`: it was stopped or killed; `money` is in the unit of the price given."""

    name: str
    title: str
    state: State
    words: str
    advice: Sequence[str]
    problem: Mapping[str, str | None] | None
    n_cells: int
    n_measured: int
    spent_s: float
    budget: str | None
    money: float | None
    forecast_error: float | None
    target_error: float | None
    progress: Progress
    loads: Sequence[str]
    rows: Sequence[MapRow]
    n_rows: int
    may_go_on: bool


def version_of(campaigns: Campaigns, campaign: CampaignFolder | None, latest: int) -> str:
    """Another text whenever there is something new to show."""
    if campaign is None:
        return str(latest)
    steps = campaign.path / STEPS
    size = steps.stat().st_size if steps.exists() else 0
    return f"{campaign.name} {campaigns.state(campaign)} {size} {latest} {len(campaigns.all())}"


def shown_campaign(
    knowledge: Knowledge, campaigns: Campaigns, campaign: CampaignFolder, *, most_cells: int
) -> ShownCampaign:
    """Everything to show of one."""
    asked, end, state = campaign.request, campaign.end(), campaigns.state(campaign)
    problem: Mapping[str, str | None] | None = None
    cases: tuple[Case, ...] = ()
    title = PurePath(asked.suite).stem
    try:
        suite = campaign.suite
        cases, title = suite.cases, suite.title or suite.name
    except FewmarkError as error:
        problem = error.to_dict()
    steps = [one for one in campaign.steps() if one.get("spent_s")]
    forecast = [(float(one["spent_s"] or 0.0), float(one["median_ape"])) for one in steps if one["median_ape"]]
    progress = progress_of(
        knowledge, asked.target, most_cells=most_cells, case_ids=[case.case_id for case in cases],
        forecast=[point for point in forecast if point[1] <= 1],
    )  # fmt: skip
    words, advice = _words(state, end), _texts(None if end is None else end.get("advice"))
    if problem is None and end is not None and isinstance(told := end.get("problem"), Mapping):
        problem = {str(key): None if value is None else str(value) for key, value in told.items()}
    loads, rows = _map(cases, progress.ended)
    measured = sum(status == Status.OK for status, _ in progress.ended.values())
    return ShownCampaign(
        campaign.name, title, state, words, advice, problem, len(cases), measured, progress.spent_s, asked.budget,
        None if asked.price_per_h is None else asked.price_per_h * progress.spent_s / HOUR_S,
        forecast[-1][1] if forecast else None, asked.target_error, progress, loads, rows[:MOST_ROWS], len(rows),
        may_go_on=state == "broken" or (end or {}).get("ended") == STOPPED,
    )  # fmt: skip


def _words(state: State, end: Mapping[str, object] | None) -> str:
    if state == "running":
        return "It is running."
    if state == "broken":
        return "It was killed, or the machine went down. Each cell that was finished is in the store."
    words = str((end or {}).get("words", ""))
    return f"It has ended: {words}." if words else "It could not go on."


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _map(cases: Sequence[Case], ended: Mapping[str, tuple[str, float | None]]) -> tuple[list[str], list[MapRow]]:
    """The cells by deployment and lengths, over the loads in their order."""
    labels = {(case.workload.load_kind, case.workload.load): case.workload.load_label for case in cases}
    loads = sorted(labels)
    waiting: tuple[str, float | None] = ("", None)
    found: dict[tuple[str, str], dict[tuple[str, float], tuple[str, float | None]]] = {}
    for case in cases:
        work = case.workload
        key = (case.deployment.label, f"{work.input_tokens:g}→{work.output_tokens:g}")
        found.setdefault(key, {})[(work.load_kind, work.load)] = ended.get(case.case_id, waiting)
    missing: tuple[str, float | None] = ("none", None)
    rows = [MapRow(*key, [cells.get(load, missing) for load in loads]) for key, cells in found.items()]
    return [labels[load] for load in loads], rows
