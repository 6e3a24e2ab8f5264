"""Templates: everything shown is escaped; a request of htmx gets the part of the page that changes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import fewmark

PAGES: Final = (
    ("explore", "Explore"),
    ("compare", "Compare"),
    ("decide", "Decide"),
    ("plan", "Plan"),
    ("live", "Live"),
    ("data", "Data"),
    ("accuracy", "Accuracy"),
    ("report", "Report"),
    ("programs", "API"),
)
STATIC: Final = Path(__file__).parent.parent / "static"
# what messages say of commands, where a page says it as well
SCREEN: Final = re.compile(
    r"fewmark screen(?: --data \S+)? (shows them|says why)(?:, --no-screen takes all as they are)?"
)
WORD: Final = re.compile(r"[a-z]+(?![^\s,;:)])")
UNSAFE: Final = "<>&\u2028\u2029"


def render(request: Request, page: str, **context: object) -> HTMLResponse:
    """A page, or its part for htmx (``PAGE_part.html.j2``)."""
    name = f"{page}_part" if "hx-request" in request.headers else page
    return HTMLResponse(_template(request, f"{name}.html.j2", page=page, **context))


def render_error(request: Request, problem: Mapping[str, str | None], is_part: bool) -> str:
    """A problem in words."""
    template = "error_part.html.j2" if is_part else "error.html.j2"
    page = request.url.path.strip("/").split("/")[0]
    return _template(request, template, page=page, problem=problem)


def _template(request: Request, name: str, *, page: str, **context: object) -> str:
    settings = request.app.state.service.settings
    titles = dict(PAGES)
    title = titles.get(page, "fewmark")
    template = environment().get_template(name)
    return template.render(pages=PAGES, address=_address(request), title=title, settings=settings, page=page, **context)


def _address(request: Request) -> str:
    """The page's own address, without the host."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates and what they call."""
    made = Environment(
        loader=PackageLoader("fewmark.web"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals.update(version=fewmark.__version__, static=static)
    made.filters.update(island=island, percent=percent, number=number, label=label, sentence=sentence)
    return made


@lru_cache(maxsize=64)
def static(name: str) -> str:
    """The address of a file of ours; another content is another address, so that browsers may keep it."""
    return f"/static/{name}?v={sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def island(value: object) -> Markup:
    """A value as JSON that HTML cannot mistake for anything else."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in UNSAFE:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # every character that could end the element is written as its escape


def percent(value: float | None, digits: int = 0) -> str:
    """A fraction for people; a dash where it is unknown."""
    return "–" if value is None or value != value else f"{value:.{digits}%}"


def number(value: object) -> str:
    """A number for people."""
    from fewmark.reporting.display import show_value

    return show_value(value)


def sentence(text: str) -> str:
    """A message as a sentence; what it says of commands, said of pages."""
    text = SCREEN.sub(r"the page Data \1", text)
    text = text.replace(" (--length-tolerance)", "").replace(". the page", ". The page").strip()
    if WORD.match(text):  # a metric's or a file's name stays as it is
        text = text[0].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?", ")")) or not text else ".")


def label(name: str) -> str:
    """A metric's or a column's name for people."""
    from fewmark.reporting.display import quantity

    return quantity(name, ()).label
