"""Data: files that are dropped, what each was taken for, and what the screen says of everything that is known."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile

from fewmark.core.errors import FewmarkError, InputError
from fewmark.web.api import Served
from fewmark.web.pages.rendering import render
from fewmark.web.service import Service

router = APIRouter()
PAGE_ROWS: Final = 100
MOST_FINDINGS: Final = 1_000


@router.get("/data")
def data(
    request: Request,
    service: Served,
    rule: Annotated[str, Query(max_length=100)] = "",
    at: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> HTMLResponse:
    """The page."""
    return render(request, "data", imported=None, problem=None, **_screened(service, rule, at))


@router.post("/data")
async def upload(request: Request, service: Served) -> HTMLResponse:
    """Files into the store; what each was taken for."""
    imported, problem = None, None
    limit = service.settings.limits.upload_files
    try:
        if not service.settings.is_writable:
            raise InputError("this server shows a file, and takes nothing in", hint="fewmark serve STORE")
        async with request.form(max_files=limit, max_fields=10) as form:
            files = [item for item in form.getlist("files") if isinstance(item, UploadFile) and item.filename]
            imported = await anyio.to_thread.run_sync(_import, service, files)
    except FewmarkError as error:
        problem = error.to_dict()
    shown = await anyio.to_thread.run_sync(_screened, service, "", 0)
    return render(request, "data", imported=imported, problem=problem, **shown)


def _import(service: Service, files: list[UploadFile]) -> dict[str, object]:
    from fewmark.web.inbox import upload_folder
    from fewmark.web.intake import import_uploads, safe_name, uploaded

    if not files:
        raise InputError("there is nothing to import", hint="choose files, or drop them on the page")

    def fill(folder: Path) -> None:
        for number, file in enumerate(files):
            place = folder / str(number)  # two files of one name are two files
            place.mkdir()
            with (place / safe_name(file.filename or "", number)).open("wb") as stream:
                shutil.copyfileobj(file.file, stream)
                os.fsync(stream.fileno())

    with upload_folder(service.uploads, fill) as folder:
        paths = uploaded(folder)
        found = import_uploads(service.knowledge(), paths, folder)
    shown = {str(path): path.name for path in paths}

    def named(path: object) -> str:
        text = str(path)
        known = next((given for given in shown if text.startswith(given)), None)
        return shown[known] + text[len(known) :] if known is not None else text

    return {
        "files": [
            {
                "name": named(file.path), "format": file.format, "n_rows": file.n_rows, "n_added": file.n_added,
                "n_predictions": file.n_predictions, "n_flagged": len(file.findings), "n_left_out": len(file.left_out),
                "notes": file.notes, "unknown": list(file.unknown_columns),
            }
            for file in found
        ],
        "passed_over": {named(name): _without(folder, why) for name, why in found.passed_over.items()},
        "n_added": sum(file.n_added for file in found),
    }  # fmt: skip


def _without(folder: Path, text: str) -> str:
    return text.replace(f"{folder}/", "")


def _screened(service: Service, rule: str, at: int) -> dict[str, object]:
    """What the screen says of everything."""
    from fewmark.screening import RULES
    from fewmark.web.knowledge import records

    snapshot = service.knowledge().now()
    meanings = {one.name: one.description for one in RULES}
    counts = Counter((finding.rule, finding.action) for finding in snapshot.findings)
    wanted = [finding for finding in snapshot.findings if not rule or finding.rule == rule]
    rows = snapshot.table.iloc[at : at + PAGE_ROWS]
    if len(rows):
        rows = rows[[name for name in rows if rows[name].notna().any() and not str(name).endswith("_id")]]
    return {
        "recovered": service.recovered,
        "n_rows": len(snapshot.table),
        "n_sound": len(snapshot.sound),
        "n_deployments": len(snapshot.deployments.items),
        "rules": [
            {"rule": key[0], "action": key[1], "n": n, "what": meanings.get(key[0], "")}
            for key, n in counts.most_common()
        ],
        "findings": [finding.to_dict() for finding in wanted[:MOST_FINDINGS]],
        "n_findings": len(wanted),
        "rule": rule,
        "rows": records(rows),
        "at": at,
        "page_rows": PAGE_ROWS,
    }
