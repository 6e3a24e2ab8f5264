"""The pages of the app, one file each. Their state is in their address."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from fewmark.web.pages import accuracy, campaigns, compare, data, decide, explore, live, plan, programs, report

router = APIRouter(include_in_schema=False)
for page in (explore, compare, decide, plan, live, data, accuracy, programs, campaigns, report):
    router.include_router(page.router)


@router.get("/")
async def start() -> RedirectResponse:
    """The first page."""
    return RedirectResponse("/explore", status_code=307)
