"""The HTML report in a real headless browser, opened from disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fewmark.core import Card
from fewmark.reporting import render_html

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("report")]  # the page is opened once, in one process
Open = Callable[[str], Any]
Probe = Callable[[str, str], str]
AFTER = "setTimeout(() => {{ {} }}, 3000);"
SAY = "document.body.setAttribute('data-probe', JSON.stringify({}));"


def probed(page: Any) -> str:
    found = re.search(r'data-probe="([^"]*)"', page.dom)
    assert found, page.console
    return found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


@pytest.fixture(scope="module")
def page(cards: list[Card], open_page: Open) -> Any:
    return open_page(render_html(cards, "A report"))


def test_the_charts_are_drawn_and_the_console_stays_silent(page: Any) -> None:
    assert page.console == []
    assert page.dom.count('class="main-svg"') >= 3
    assert len(re.findall(r'class="[^"]*\btrace\b[^"]*scatter', page.dom)) >= 4
    assert 'class="trace bars"' in page.dom


def test_one_chart_of_many_is_drawn_at_a_time(page: Any) -> None:
    assert len(re.findall(r'<option value="[0-9]+"', page.dom)) == 128
    # Each Plotly chart has at least two layers of SVG; 130 charts would have hundreds.
    assert page.dom.count('class="main-svg"') <= 9


def test_hostile_names_are_only_text(page: Any) -> None:
    parts = re.split(r"<script[ >]", page.dom)
    assert len(parts) == 4  # the data and two scripts: no name made another
    assert "<img" not in page.dom.split('<script type="application/json"')[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.dom
    assert "ünïcode ✓" in page.dom
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.dom, flags=re.DOTALL))
    assert "&lt;b&gt;bold&lt;/b&gt;" in drawn  # a name in the legend: shown, not made bold
    assert not re.search(r"font-weight: ?bold", drawn)


def test_durations_are_shown_in_milliseconds(page: Any) -> None:
    assert "TTFT (ms)" in page.dom
    assert "End-to-end latency (s)" in page.dom


def test_the_chooser_the_buttons_the_filter_and_the_table_work(
    cards: list[Card], open_page: Open, probe: Probe
) -> None:
    script = """
      const figure = document.querySelector("figure[data-chart]");
      const said = [];
      const caption = () => said.push(figure.querySelector("figcaption").textContent.split(" ").slice(0, 2).join(" "));
      const select = figure.querySelector("select[data-choice]");
      select.value = "5"; select.dispatchEvent(new Event("change")); caption();
      figure.querySelector("button[data-step='1']").click(); caption();
      figure.querySelector("button[data-step='-1']").click(); caption();
      const filter = figure.querySelector("input");
      filter.value = "deployment 77"; filter.dispatchEvent(new Event("input")); caption();
      const details = figure.querySelector("details");
      details.open = true;
      setTimeout(() => {
        said.push(details.querySelectorAll("tbody tr").length);
        said.push(details.querySelector("thead").textContent);
        said.push(figure.querySelectorAll(".plot svg.main-svg").length > 0);
        SAY
      }, 500);
    """.replace("SAY", SAY.format("said"))
    page = open_page(probe(render_html(cards, "A report"), AFTER.format(script)))
    assert page.console == []
    assert probed(page) == (
        '["deployment 5","deployment 6","deployment 5","deployment 77",5,"SeriesBatch sizeTTFT (ms)LowHighNote",true]'
    )


def test_hovering_shows_value_interval_and_provenance(cards: list[Card], open_page: Open, probe: Probe) -> None:
    script = """
      const plot = document.querySelector("figure[data-chart] .plot");
      Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: 0}]);
      SAY
    """.replace("SAY", SAY.format("plot.querySelector('.hoverlayer').textContent"))
    text = probed(open_page(probe(render_html(cards, "A report"), AFTER.format(script))))
    assert "TTFT (ms): 100" in text
    assert "interval: 90 to 110" in text
    assert "<script>alert(1)</script>" in text  # the label, as text


@pytest.mark.slow
def test_the_page_can_reach_nothing_and_the_console_would_tell(cards: list[Card], open_page: Open) -> None:
    html = render_html(cards[:1] + cards[3:], "A report")
    tampered = html.replace("<main ", '<img src="https://example.com/x.png"><main ', 1)
    assert any("Content Security Policy" in line for line in open_page(tampered).console)
    tampered = html.replace("<main ", "<script>document.title = 'owned'</script><main ", 1)
    page = open_page(tampered)
    assert any("Content Security Policy" in line for line in page.console)
    assert "<title>A report</title>" in page.dom
