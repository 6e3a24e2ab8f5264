"""Compare: two parts of what was measured (engines, versions, imports), or files, over their common cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile

from fewmark.core.errors import FewmarkError, InputError
from fewmark.core.metrics import TARGETS
from fewmark.web.api import Served
from fewmark.web.compared_uploads import ComparedUploads
from fewmark.web.pages.rendering import render

if TYPE_CHECKING:
    import pandas as pd

    from fewmark.verbs.compare import Compared
    from fewmark.web.knowledge import Knowledge, Snapshot

router = APIRouter()
SIDES: Final = ("a", "b")
COLUMNS: Final = ("engine_version", "engine", "precision", "accelerator", "accelerator_count", "model", "source")
MOST_VALUES: Final = 500
MOST_CELLS: Final = 200
MOST_TRIED: Final = 12  # pairs of values, until two have cells in common
MAX_TEXT: Final = 200


@router.get("/compare")
def compare(
    request: Request,
    service: Served,
    metric: Annotated[str, Query(max_length=MAX_TEXT)] = "",
    threshold: Annotated[float, Query(gt=0, lt=1)] = 0.1,
) -> HTMLResponse:
    """The page. What A and B are is in parameters named ``a.COLUMN`` and ``b.COLUMN``, uploads in ``a.upload``."""
    from fewmark.tables.spellings import one_spelling
    from fewmark.web.knowledge import records

    knowledge = service.knowledge()
    snapshot = knowledge.now()
    uploads = ComparedUploads(service.settings)
    asked = {name: value[:MAX_TEXT] for name, value in request.query_params.items() if value}
    keys = [asked.get(f"{side}.upload", "") for side in SIDES]
    found, problem = None, None
    labels = [service.settings.name] * 2
    choices: list[Mapping[str, list[str]]] = [{}, {}]
    where: list[dict[str, str]] = [{}, {}]
    is_empty = snapshot.table.empty and not all(keys)
    try:
        if not is_empty:
            read = [_read(knowledge, snapshot, uploads, key) for key in keys]
            labels = [uploads.label(key) if key else label for key, label in zip(keys, labels, strict=True)]
            choices = [_choices(one_spelling(table)) for table, _ in read]
            where = [{name: asked.get(f"{s}.{name}", "") for name in of} for s, of in zip(SIDES, choices, strict=True)]
            if not any(keys) and not any(any(one.values()) for one in where) and choices[0]:
                where = snapshot.remember(("compared first", metric), lambda: _first(read, where, metric, threshold))
            found = snapshot.remember(
                ("compare", repr(where), metric, threshold, *keys), lambda: _compared(read, where, metric, threshold)
            )
    except FewmarkError as error:
        problem = error.to_dict()
    return render(
        request, "compare", empty=is_empty, choices=choices, where=where, metric=metric, threshold=threshold,
        targets=snapshot.targets or list(TARGETS), found=found, problem=problem, keys=keys, labels=labels,
        cells=[] if found is None else records(_worst_first(found).head(MOST_CELLS)),
        columns={} if found is None else _columns(found),
        most=MOST_CELLS,
    )  # fmt: skip


@router.post("/compare")
async def upload(request: Request, service: Served) -> Response:
    """Files to be a side, A or B or both; nothing of them is stored. To the page that compares them."""
    limit = service.settings.limits.upload_files
    async with request.form(max_files=limit, max_fields=10) as form:
        keys = {side: str(form.get(f"{side}.upload") or "") for side in SIDES}
        for side in SIDES:
            files = [one for one in form.getlist(f"{side}.files") if isinstance(one, UploadFile) and one.filename]
            if files:
                given = [(one.filename or "", one.file) for one in files]
                keys[side] = await anyio.to_thread.run_sync(ComparedUploads(service.settings).keep, given)
    if not any(keys.values()):
        raise InputError("there is nothing to compare", hint="choose files for A, for B, or for both")
    address = f"/compare?{urlencode({f'{side}.upload': key for side, key in keys.items() if key})}"
    if "hx-request" in request.headers:
        return Response(headers={"hx-redirect": address})
    return RedirectResponse(address, status_code=303)


def _read(
    knowledge: Knowledge, snapshot: Snapshot, uploads: ComparedUploads, key: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of a side as `fewmark compare` reads them, and what there is to note. Raises as it does."""
    from fewmark.verbs.compare_sides import read_named
    from fewmark.verbs.source import AS_READ

    settings = knowledge.settings

    def read() -> tuple[pd.DataFrame, tuple[str, ...]]:
        notes: list[str] = []
        source = uploads.source(key) if key else settings.store or settings.data
        assert source is not None
        table = read_named(source, "an upload" if key else settings.name, notes)
        table.attrs[AS_READ] = True
        return table, tuple(note.replace(f"{uploads.folder}/", "") for note in notes)

    if key:
        uploads.paths(key)  # raises where they are gone
    return snapshot.remember(("compared rows", key), read)


def _compared(
    read: Sequence[tuple[pd.DataFrame, tuple[str, ...]]],
    where: Sequence[Mapping[str, str]],
    metric: str,
    threshold: float,
) -> Compared:
    from fewmark.verbs.compare import compare as compare_verb

    (a, notes_a), (b, notes_b) = read
    chosen = [{name: value for name, value in one.items() if value} for one in where]
    found = compare_verb(a, b, metric=metric or None, threshold=threshold, where_a=chosen[0], where_b=chosen[1])
    return replace(found, notes=(*found.notes, *dict.fromkeys((*notes_a, *notes_b))))


def _first(
    read: Sequence[tuple[pd.DataFrame, tuple[str, ...]]],
    where: Sequence[Mapping[str, str]],
    metric: str,
    threshold: float,
) -> list[dict[str, str]]:
    """What to compare at first: the commonest two values of a column that have cells in common, else any two."""
    from fewmark.tables.spellings import one_spelling

    choices = _choices(one_spelling(read[0][0]))
    tried = [(name, pair) for name, values in choices.items() for pair in combinations(values[:3], 2)]
    filled = [[{**one, name: value} for one, value in zip(where, pair, strict=True)] for name, pair in tried]
    for each in filled[:MOST_TRIED]:
        try:
            _ = _compared(read, each, metric, threshold)
        except FewmarkError:
            continue
        return each
    return filled[0]


def _columns(found: Compared) -> dict[str, str]:
    """The columns of the cells to show and their titles: what varies of the identity, values, ratio, and verdict."""
    from fewmark.reporting.display import quantity
    from fewmark.tables.identity import is_identity

    cells = found.cells
    varying = [n for n in map(str, cells) if is_identity(n) and (len(cells) == 1 or cells[n].map(str).nunique() > 1)]
    label = quantity(found.metric, ()).label
    values = {
        "ratio": "B / A",
        "low": "From",
        "high": "To",
        f"{found.metric}.a": f"A: {label}",
        f"{found.metric}.b": f"B: {label}",
    }
    ends = {"n_a": "Runs of A", "n_b": "Runs of B"}
    titles = {"verdict": "Verdict"} | values | ends | {name: quantity(name, ()).label for name in varying}
    return {name: title for name, title in titles.items() if name in cells}


def _worst_first(found: Compared) -> pd.DataFrame:
    if found.cells.empty:
        return found.cells
    return found.cells.sort_values("ratio", ascending=found.higher_is_better, kind="stable")


def _choices(table: pd.DataFrame) -> Mapping[str, list[str]]:
    """The columns with several values, and these, the commonest first."""
    out = {}
    for name in COLUMNS:
        if name not in table:
            continue
        values = table[name].dropna().map(lambda cell: f"{cell:g}" if isinstance(cell, (int, float)) else str(cell))
        counts = values.value_counts()
        if 1 < len(counts) <= MOST_VALUES:
            out[name] = [str(value) for value in counts.index]
    return out
