"""The application: the API, the pages, what guards them, and what is said of errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import fewmark
from fewmark.core.errors import FewmarkError, StoreError
from fewmark.web import api
from fewmark.web.guard import Guard
from fewmark.web.observed import Observed
from fewmark.web.pages import router as pages
from fewmark.web.pages.rendering import render_error
from fewmark.web.remembered import Remembered
from fewmark.web.service import Service
from fewmark.web.settings import Settings

STATIC: Final = Path(__file__).parent / "static"
MAX_PROBLEMS: Final = 5
DESCRIPTION: Final = (
    "What an LLM inference system does at configurations that nobody measured, with honest intervals; what to deploy, "
    "and what to measure next. Units are in the names (s, tok/s, req/s); unknown is null."
)


def create_app(settings: Settings) -> ASGIApp:
    """The guarded application."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="fewmark",
        version=fewmark.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(api.router)
    app.include_router(pages)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(FewmarkError, _tell_error)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(HTTPException, _tell_http)
    observed = Observed(app)
    app.add_api_route("/metrics", observed.exposition, include_in_schema=False)
    app.state.observed = observed
    return Guard(Remembered(observed, service), settings)


def _refusal(request: Request, status: int, problem: dict[str, str | None]) -> Response:
    """The problem as JSON, or as a page to who looks at pages."""
    path = request.url.path
    if path.startswith(("/v1/", "/static/")) or path == "/metrics":
        return JSONResponse({"error": problem}, status_code=status)
    is_part = "hx-request" in request.headers
    # htmx shows what succeeded; the problem is the content then
    return HTMLResponse(render_error(request, problem, is_part), status_code=200 if is_part else status)


async def _tell_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FewmarkError)
    return _refusal(request, 503 if isinstance(error, StoreError) else 400, error.to_dict())


async def _tell_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:MAX_PROBLEMS]]
    problem = FewmarkError("the request does not fit its schema", got="; ".join(told), hint="see /v1/openapi.json")
    return _refusal(request, 422, problem.to_dict())


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _refusal(request, error.status_code, {"what": str(error.detail), "got": request.url.path, "hint": None})
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
