"""API: what programs can ask, from the same description that they read."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fewmark.web.pages.rendering import render

router = APIRouter()


@router.get("/programs")
def programs(request: Request) -> HTMLResponse:
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
    return render(request, "programs", routes=routes, host=request.headers["host"])
