"""The HTML report as a document."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewmark.reporting
from fewmark.core import Card, Chart, Series, Table
from fewmark.reporting import render_html

LOADING = ("src", "srcset", "href", "action", "data", "poster", "formaction")


class Document(HTMLParser):
    """Elements with their attributes, and the text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != "script":
            self.texts.append((self.elements[-1][0], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def document(cards: list[Card]) -> Document:
    return Document(render_html(cards, "A report"))


def test_nothing_is_loaded_from_anywhere(cards: list[Card], document: Document) -> None:
    for _, attributes in document.elements:
        for name in LOADING:
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (name, value)
    html = render_html(cards, "A report")
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_only_the_scripts_written_here_may_run(cards: list[Card], document: Document) -> None:
    policy = next(a["content"] for a in document.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    running = re.findall(r"<script>(.*?)</script>", render_html(cards, "A report"), flags=re.DOTALL)
    assert allowed == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert "'unsafe-inline'" not in re.findall(r"script-src[^;]*", policy)[0]


def test_the_document_is_accessible(document: Document) -> None:
    assert document.all("html")[0]["lang"] == "en"
    headings = [tag for tag, _ in document.elements if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", "h2", "h2", "h2", "h2"]
    ids = [attrs["id"] for _, attrs in document.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in document.all("label"):
        assert attrs["for"] in ids
    for attrs in document.all("a"):
        assert str(attrs["href"]).removeprefix("#") in ids
    assert len(document.all("caption")) == len(document.all("table")) == 1
    assert all(attrs.get("scope") in ("col", "row") for attrs in document.all("th"))
    plots = [attrs for attrs in document.all("div") if attrs.get("class") == "plot"]
    assert len(plots) == 3
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in plots)
    assert len(document.all("details")) == len(plots)
    assert all(attrs.get("aria-label") for attrs in document.all("nav") + document.all("button"))


def test_hostile_names_make_no_element(document: Document, hostile: tuple[str, ...]) -> None:
    assert len(document.all("script")) == 3
    assert not document.all("img")
    assert not document.all("b")
    shown = " ".join(text for _, text in document.texts)
    for name in hostile:
        assert " ".join(name.split()) in " ".join(shown.split())


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_curves_stand_out_in_light_and_dark(cards: list[Card]) -> None:
    styles = re.findall(r"<style>(.*?)</style>", render_html(cards[:1], "A report"), flags=re.DOTALL)[0]
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root[^{ ]* \{(.*?)\}", styles, re.S)
    ]
    full = [scheme for scheme in schemes if "c0" in scheme]
    assert len(full) == 2
    for colours in full:
        for ink, ground in (
            ("ink", "surface"), ("ink", "tint"), ("soft", "surface"), ("soft", "tint"), ("soft", "ground"),
            ("accent", "surface"), ("accent", "ground"), ("warn", "warn-ground"),
        ):  # fmt: skip
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for number in range(8):
            assert _contrast(colours[f"c{number}"], colours["surface"]) >= 3, number


@settings(deadline=None, max_examples=25)  # each page carries megabytes of plotly.js
@given(text=st.text(max_size=60))
def test_any_text_comes_back_from_the_page_as_it_was(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    chart = Chart(text, "x", "y", (Series(text, (1, text), (1.0, 2.0), labels=(text, text)),))
    html = render_html([Card("k", "t", charts=(chart,))], "t")
    block = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html, flags=re.DOTALL)
    assert block
    [drawn] = json.loads(block[1])["chart-1"]
    assert drawn["title"] == drawn["series"][0]["name"] == drawn["series"][0]["labels"][1] == text
    assert drawn["series"][0]["x"] == [1, text]


def test_unknown_and_not_finite_values_are_shown_as_unknown() -> None:
    table = Table("t", ("name", "wall_s"), (("a", None), ("b", float("nan")), ("c", float("inf")), ("d", 12.0)))
    chart = Chart("c", "x", "y", (Series("s", (1, 2), (None, float("nan"))),))
    html = render_html([Card("k", "t", tables=(table,), charts=(chart,))], "t")
    assert html.count('<td class="number">–</td>') == 3
    assert '"y":[null,null]' in html


def test_what_is_vendored_is_what_its_list_says() -> None:
    vendored = Path(fewmark.reporting.__file__).parent / "vendor"
    listed = dict(reversed(line.split(maxsplit=1)) for line in (vendored / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {"plotly/LICENSE", "plotly/plotly-basic.min.js"}
    for name, digest in listed.items():
        assert hashlib.sha256((vendored / name).read_bytes()).hexdigest() == digest


def test_a_report_without_charts_carries_no_script() -> None:
    html = render_html([Card("k", "t", "text")], "t")
    assert "<script" not in html
    assert len(html) < 20_000
    assert render_html([], "nothing").count("<section") == 0


def test_many_values_are_packed_and_come_back_the_same() -> None:
    values = tuple(float(i) for i in range(30_000))
    charts = tuple(
        Chart(
            name,
            "x",
            "y",
            (Series("s", values, values),),
            group="Deployment",
            facets=(("Metric", "TTFT"), ("Model", name)),
        )
        for name in ("a", "b")
    )
    html = render_html([Card("k", "t", charts=charts)], "t")
    block = re.search(r'<script type="application/gzip" id="report-data">(.*?)</script>', html, flags=re.DOTALL)
    assert block
    data = json.loads(gzip.decompress(base64.b64decode(block[1])))
    assert [chart["facets"]["Model"] for chart in data["chart-1"]] == ["a", "b"]
    assert data["chart-1"][1]["series"][0]["y"][-1] == 29_999
    assert html.count("data-pick=") == 1
