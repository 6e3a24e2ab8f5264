"""Cards to report on, hostile names among them, and a real headless browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fewmark.core import Advice, Card, Chart, Series, Table

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "<!--<script>",
    "\"quotes\" & 'apostrophes' <b>bold</b>",
    "ünïcode ✓ \u2028 日本語",
    "${7*7} {{7*7}} %{x} $\\alpha$",
)


@pytest.fixture(scope="session")
def cards() -> list[Card]:
    """A report's worth of cards in which every text is hostile."""
    deployments = tuple(
        Chart(
            f"deployment {number} {HOSTILE[number % len(HOSTILE)]}",
            "batch_size",
            "ttft_s",
            (
                Series(
                    HOSTILE[3], (1, 2, 4), (0.1, 0.2, 0.4), (0.09, None, 0.3), (0.11, None, 0.5), "line", HOSTILE[:3]
                ),
                Series(HOSTILE[3], (1, 4), (0.1, 0.4), style="points", labels=HOSTILE[3:5]),
            ),
            log_x=True,
            log_y=True,
            group=f"Deployment {HOSTILE[0]}",
        )
        for number in range(128)
    )
    bars = Chart(
        HOSTILE[1], HOSTILE[2], "wall_s", (Series(HOSTILE[0], HOSTILE, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), style="bars"),)
    )
    equal = Chart(
        "equal", "predicted_throughput_tok_s", "measured_throughput_tok_s",
        (Series("interpolated", (10.0, 200.0), (11.0, 190.0), (9.0, 150.0), (12.0, 250.0)),), True, True, True,
    )  # fmt: skip
    table = Table(
        HOSTILE[0], ("name", HOSTILE[3], "e2e_latency_s"), tuple((n, n, 0.5 * i) for i, n in enumerate(HOSTILE))
    )
    advice = Advice("a", HOSTILE[0], HOSTILE[1])
    return [
        Card("summary", HOSTILE[0], "\n\n".join(HOSTILE), tuple((n, n) for n in HOSTILE), (table,), (), (advice,)),
        Card("curves", "Curves", charts=deployments),
        Card("accuracy", "Accuracy", charts=(equal,)),
        Card("cost", "Cost", charts=(bars,)),
    ]


@dataclass(frozen=True)
class Page:
    """A page after its scripts ran: the document, and what the console said."""

    dom: str
    console: list[str]


@pytest.fixture(scope="session")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Page]:
    """Opens HTML from disk in a real browser without a network."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not browser:
        pytest.fail(f"no browser: install chromium (tried {', '.join(names)}), or set CHROMIUM to its path")

    def open_html(html: str) -> Page:
        folder = tmp_path_factory.mktemp("page")
        (folder / "page.html").write_text(html, encoding="utf-8")
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
                f"--user-data-dir={folder / 'profile'}", "--window-size=1280,2000", "--virtual-time-budget=10000",
                "--dump-dom", (folder / "page.html").as_uri(),
            ],
            capture_output=True, text=True, timeout=180, check=True,
        )  # fmt: skip
        shutil.rmtree(folder / "profile", ignore_errors=True)
        return Page(done.stdout, re.findall(r"^.*:CONSOLE.*$", done.stderr, flags=re.MULTILINE))

    return open_html


def without_policy(html: str, script: str) -> str:
    """The page with its policy taken out and a script of the test's own at its end."""
    html, n = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert n == 1
    return html.replace("</body>", f"<script>{script}</script></body>")


@pytest.fixture(scope="session")
def probe() -> Callable[[str, str], str]:
    """See `without_policy`."""
    return without_policy


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE
