"""Cards as HTML, Markdown, JSON and CSV. Computes nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fewmark.core.cards import Card
from fewmark.reporting.html import render_html
from fewmark.reporting.text import render_csv, render_json, render_markdown

RENDERERS: Final[Mapping[str, Callable[[Sequence[Card], str], str]]] = {
    ".html": render_html,
    ".md": render_markdown,
    ".json": render_json,
    ".csv": render_csv,
}

__all__ = ["RENDERERS", "render_csv", "render_html", "render_json", "render_markdown"]
