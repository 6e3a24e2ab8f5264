"""Markdown, JSON and CSV, and how names and numbers are shown."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewmark.core import Advice, Card, Chart, Series, Table
from fewmark.reporting import RENDERERS, render_csv, render_json, render_markdown
from fewmark.reporting.display import quantity, show_value

CARD = Card(
    "k",
    "One | card",
    "Text with *stars*.",
    figures=(("median APE", "1.2%"),),
    tables=(Table("A table", ("name", "ttft_s"), (("a|b", 0.25), ("c", None))),),
    charts=(
        Chart(
            "A chart", "batch_size", "e2e_latency_s", (Series("s", (1, 2), (3.0, math.nan), (2.0, 1.0), (4.0, 5.0)),)
        ),
    ),
    advice=(Advice("noisy", "Noisy.", "Wait."),),
)


def test_json_is_complete_and_in_the_units_of_the_names() -> None:
    content = json.loads(render_json([CARD], "Title"))
    assert content["title"] == "Title"
    [card] = content["cards"]
    assert card["tables"][0]["rows"] == [["a|b", 0.25], ["c", None]]
    assert card["charts"][0]["series"][0]["y"] == [3.0, None]
    assert card["advice"] == [{"code": "noisy", "message": "Noisy.", "hint": "Wait."}]


def test_markdown_shows_everything_and_escapes_it() -> None:
    text = render_markdown([CARD], "<Title>")
    assert text.startswith("# \\<Title\\>\n")
    assert "## One \\| card" in text
    assert "| Name | TTFT (ms) |\n|:--|--:|\n| a\\|b | 250 |\n| c | – |" in text
    assert "| s | 1 | 3 | 2 | 4 |\n| s | 2 | – | 1 | 5 |" in text
    assert "> **Noisy.** Wait." in text


def test_csv_holds_every_known_value_in_the_unit_of_its_name() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv([CARD], "Title"))))
    values = {(row["part"], row["item"], row["row"], row["column"]): row["value"] for row in rows}
    assert values["table", "A table", "1", "ttft_s"] == "0.25"
    assert ("table", "A table", "2", "ttft_s") not in values
    assert values["chart", "A chart", "2", "high"] == "5.0"
    assert ("chart", "A chart", "2", "e2e_latency_s") not in values
    assert values["figure", "median APE", "", ""] == "1.2%"


@pytest.mark.parametrize("suffix", RENDERERS)
def test_every_format_takes_hostile_cards_and_none_at_all(suffix: str, cards: list[Card]) -> None:
    assert RENDERERS[suffix](cards, "t")
    assert RENDERERS[suffix]([], "t")


@pytest.mark.parametrize(
    ("name", "values", "label", "scale"),
    [
        ("ttft_s", [0.01, 0.4], "TTFT (ms)", 1000),
        ("ttft_s", [None, 3.0], "TTFT (s)", 1),
        ("ttft_s", [], "TTFT (s)", 1),
        ("e2e_latency_s", [0.2, 0.3, 400.0], "End-to-end latency (s)", 1),
        ("throughput_tok_s", [0.5], "Throughput (tok/s)", 1),
        ("predicted_tpot_s", [0.02], "Predicted TPOT (ms)", 1000),
        ("power_w", [300.0], "Power (W)", 1),
        ("ape_percent", [1.0], "APE (%)", 1),
        ("n_repeats", [3], "Repeats", 1),
        ("A Name", [0.1], "A Name", 1),
    ],
)
def test_names_are_shown_with_their_units(name: str, values: list[float | None], label: str, scale: float) -> None:
    shown = quantity(name, values)
    assert (shown.label, shown.scale) == (label, scale)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (True, "yes"), (1234567, "1,234,567"), (1234.5, "1,234"), (12.3456, "12.35"),
     (0.5, "0.5"), (0.00001234, "1.23e-05"), (0.0, "0"), (250.0, "250"), (99.9951, "100"), ("a", "a"), (-2.5, "-2.5")],
)  # fmt: skip
def test_numbers_are_shown_to_four_digits(value: Any, text: str) -> None:
    assert show_value(value) == text


@pytest.mark.slow
def test_every_chart_is_drawn_as_svg_and_nothing_hostile_is_read(cards: list[Card], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from fewmark.reporting.figures import write_svgs

    few = [replace(card, charts=card.charts[:3]) for card in cards]
    paths = write_svgs(few, tmp_path / "figures")
    assert len({*paths}) == len(paths) == sum(len(card.charts) for card in few)
    assert all(path.parent == tmp_path / "figures" and path.read_text().startswith("<?xml") for path in paths)
    assert "<script>" not in paths[0].read_text()
