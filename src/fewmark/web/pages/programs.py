"""API: what programs can ask, from the same description that they read."""

from __future__ import annotations

import json
import shlex
from pprint import pformat

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fewmark.web.api import Served
from fewmark.web.pages.rendering import render
from fewmark.web.service import Service

router = APIRouter()


@router.get("/programs")
def programs(request: Request, service: Served) -> HTMLResponse:
    """The page."""
    description = request.app.openapi()
    routes = [
        {
            "path": path,
            "method": method.upper(),
            "summary": about["summary"],
            "description": about["description"].replace("`", ""),
        }
        for path, methods in description["paths"].items()
        for method, about in methods.items()
    ]
    example = _example(service)
    shell = shlex.quote(json.dumps(example, ensure_ascii=False, indent=1))
    python = pformat(example["cases"], width=88, sort_dicts=False)
    return render(
        request, "programs", routes=routes, host=request.headers["host"], shell=shell, python=python,
        target=example["target"],
    )  # fmt: skip


def _example(service: Service) -> dict[str, object]:
    """A question that can be asked here: a cell that was measured, at a load between."""
    from fewmark.core.columns import LOAD_COLUMNS
    from fewmark.tables.identity import cell_columns
    from fewmark.web.knowledge import records

    snapshot = service.knowledge().now()
    if not snapshot.targets:
        case = {"model": "meta-llama/Llama-3.1-8B-Instruct", "engine": "vllm", "accelerator": "H100",
                "input_tokens": 512, "output_tokens": 128, "concurrency": 16}  # fmt: skip
        return {"target": "throughput_tok_s", "cases": [case]}
    cells = snapshot.cells(snapshot.targets[0])
    known = {name: value for name, value in records(cells[cell_columns(cells)].head(1))[0].items() if value is not None}
    case = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in known.items()}
    load = next(name for name in LOAD_COLUMNS if name in case)
    return {"target": snapshot.targets[0], "cases": [case | {load: 12}]}
