"""The app as people use it, in a real browser: drawn, steered, uploaded to; without serious faults for anybody."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
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
PAGES = ("explore", "compare", "decide", "plan", "live", "data", "accuracy", "programs")


@pytest.fixture(scope="module")
def address(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a store that holds the table."""
    import uvicorn

    from fewmark.verbs.import_files import import_files
    from fewmark.web.app import create_app
    from fewmark.web.settings import Settings

    store = f"sqlite:///{tmp_path_factory.mktemp('browser') / 'web.db'}"
    import_files([table], store=store)
    app = create_app(Settings(store=store, model="loglog", prior=False))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.fail(f"no browser: install chromium (tried {', '.join(names)}), or set CHROMIUM to its path")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page on which nothing goes wrong silently."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, bypass_csp=False)
    made = context.new_page()
    made.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    made.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(address) else None)
    yield made
    context.close()
    assert wrong == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition; the policy of the pages does not let Playwright wait for it there."""
    for _ in range(PATIENCE_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {condition}")


def ready(page: Any) -> None:
    """Until no model is learning any more."""
    until(page, "!document.querySelector('#view [hx-trigger^=load]')")


def test_deployments_are_chosen_and_the_address_follows(page: Any) -> None:
    page.goto("/explore")
    ready(page)
    page.wait_for_selector("#view canvas")
    assert page.locator("#chosen input:checked").count() == 2
    page.locator("#chosen input").first.uncheck()
    until(page, "document.querySelectorAll('#chosen input:checked').length === 1")
    until(page, "new URLSearchParams(location.search).getAll('d').length === 1")
    page.select_option("#y", "ttft_s")
    until(page, "document.querySelector('figcaption').textContent.startsWith('TTFT')")
    page.reload()
    ready(page)
    assert page.locator("figcaption").text_content().startswith("TTFT")
    assert page.locator("#chosen input:checked").count() == 1
    page.fill("#q", "no such deployment")
    until(page, "document.getElementById('others').textContent.includes('No other deployment')")
    assert page.evaluate("document.activeElement.id") == "q"


def test_pointing_at_a_chart_says_where_a_number_comes_from(page: Any) -> None:
    page.goto("/explore")
    ready(page)
    over = page.locator("#view .u-over")
    box = over.bounding_box()
    for share in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * share / 20, box["y"] + box["height"] * (1 - share / 20))
        if page.locator(".tip:not([hidden])").count():
            break
    text = page.locator(".tip").text_content()
    assert "Throughput" in text
    assert any(word in text for word in ("measured", "interpolated", "extrapolated"))


def test_an_objective_changes_the_decision(page: Any) -> None:
    page.goto("/decide")
    page.wait_for_selector(".verdict.good")
    page.fill("#slo-ttft_s", "0.000001")
    page.locator("#slo-ttft_s").press("Tab")
    page.wait_for_selector(".verdict.bad")
    until(page, "location.search.includes('slo.ttft_s=0.000001')")


def test_a_file_is_taken_in(page: Any, table: Path) -> None:
    page.goto("/data")
    page.set_input_files("#files", str(table))
    page.get_by_role("button", name="Import").click()
    page.wait_for_selector("text=What each file was taken for")
    assert "0 new measurements" in page.locator(".verdict").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_nothing_overflows(page: Any, browser: Any, address: str, scheme: str) -> None:
    # axe is brought in by the test: the policy of the pages would not let it
    context = browser.new_context(base_url=address, bypass_csp=True, color_scheme=scheme)
    faults = []
    try:
        for name in PAGES:
            checked = context.new_page()
            checked.set_default_timeout(PATIENCE_MS)
            checked.goto(f"/{name}")
            ready(checked)
            for width in (1280, 800, 360):
                checked.set_viewport_size({"width": width, "height": 900})
                checked.wait_for_timeout(300)  # charts follow the width a moment later
                wide = checked.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    faults.append(f"{name} at {width}: {wide} wide")
            checked.add_script_tag(path=str(AXE))
            found = checked.evaluate("axe.run(document, {resultTypes: ['violations']})")
            faults += [
                f"{name}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
                for fault in found["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
            checked.close()
    finally:
        context.close()
    assert faults == []
