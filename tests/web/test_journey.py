"""From a file to a report in a real browser, as somebody would: imported, explored, decided on, planned, measured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
PATIENCE_MS = 120_000
WIDTHS = (1280, 800, 360)
SUITE = """
title: A toy on this machine
deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.05}}]
cells: [{grid: {input_tokens: 8, output_tokens: [2, 4, 8], batch_size: [1, 2, 4, 8]}}]
settings: {max_repeats: 1, warmup: 0}
"""


class Journey:
    """A page at which one looks at three widths after each step; what is wrong is kept."""

    def __init__(self, page: Any, shots: Path) -> None:
        self.page, self.shots, self.faults = page, shots, []

    def look(self, name: str) -> None:
        """Screenshots, nothing wider than the screen, and no serious fault for anybody."""
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.wait_for_timeout(400)  # charts follow the width a moment later
            self.page.screenshot(path=str(self.shots / f"{name}-{width}.png"), full_page=True)
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                self.faults.append(f"{name} at {width}: {wide} wide")
        self.page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        self.faults += [
            f"{name}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})


@pytest.fixture(params=["light", "dark"])
def journey(request: Any, tmp_path: Path) -> Iterator[Journey]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.fail(f"no browser: install chromium (tried {', '.join(names)}), or set CHROMIUM to its path")
    # where to look at them after a run
    shots = Path(os.environ.get("FEWMARK_SCREENSHOTS", tmp_path / "shots")) / request.param
    shots.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(color_scheme=request.param, bypass_csp=True, accept_downloads=True)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        made = Journey(page, shots)
        page.on("pageerror", lambda error: made.faults.append(str(error)))
        page.on("console", lambda said: made.faults.append(said.text) if said.type == "error" else None)
        yield made
        browser.close()


def test_from_a_file_to_a_report(journey: Journey, start: Any, until: Any, table: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(SUITE)
    server = start("--allow-runs", "--suite", "toy.yaml")
    page = journey.page

    page.goto(f"{server.url}/data")
    page.set_input_files("#files", str(table))
    page.get_by_role("button", name="Import").click()
    page.wait_for_selector("text=36 new measurements")
    journey.look("1-data")

    page.get_by_role("link", name="Explore").click()
    page.wait_for_selector("#view canvas")
    page.wait_for_selector("#view .badge.interpolated", state="attached")
    journey.look("2-explore")

    page.get_by_role("link", name="Compare").click()
    page.wait_for_selector("#view .verdict, #view .problem")
    journey.look("3-compare")

    page.get_by_role("link", name="Decide").click()
    page.wait_for_selector(".verdict.good")
    page.fill("#slo-ttft_s", "0.04")
    page.locator("#slo-ttft_s").press("Tab")
    page.wait_for_selector("text=It meets every objective")
    journey.look("4-decide")

    page.get_by_role("link", name="Plan").click()
    page.locator("#others input").first.check()
    page.wait_for_selector("text=Cells to measure, best first")
    page.locator("#view details summary").first.click()
    journey.look("5-plan")
    page.locator("#suites summary").click()
    page.locator("#suites select").first.select_option("toy")
    page.locator("#suites input[name=budget]").fill("1h")
    page.locator("#suites input[name=price_per_h]").fill("2.5")
    page.locator("#suites button").click()
    page.wait_for_url("**/live?campaign=*")
    page.wait_for_selector("td.cell.ok")
    journey.look("6-live-running")
    page.wait_for_selector("text=It has ended")
    assert page.locator("td.cell.ok").count() == 12
    journey.look("7-live-ended")

    page.get_by_role("link", name="Accuracy").click()
    page.wait_for_selector("#view table")
    journey.look("8-accuracy")

    page.get_by_role("link", name="Report").click()
    page.wait_for_selector("text=The report is ready")
    journey.look("9-report")
    with page.expect_download() as download:
        page.get_by_role("link", name="HTML").click()
    report = journey.shots / "report.html"
    download.value.save_as(report)
    page.goto(report.as_uri())
    page.wait_for_selector("figure .plot svg, figure .plot canvas", state="attached")
    journey.look("report")
    page.pdf(path=str(journey.shots / "report.pdf"), format="A4", print_background=True)
    assert journey.faults == []
