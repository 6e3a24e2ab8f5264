"""A small table of two deployments, servers on it, and names that hold markup."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pandas as pd
import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from fewmark.web.settings import Settings

HOSTILE = "<script>alert(1)</script>\"'&"
MODELS = ("small-7b", HOSTILE)
Serve = Callable[..., "TestClient"]
PLUGIN = Path(__file__).parents[1] / "runner" / "plugin"
PATIENCE_S = 120.0


def rows() -> list[dict[str, Any]]:
    """Saturating throughput over batch sizes, for two models and three pairs of lengths."""
    out = []
    for number, model in enumerate(MODELS):
        for input_tokens, output_tokens in ((128, 128), (512, 128), (512, 512)):
            for batch_size in (1, 2, 4, 8, 16, 32):
                rate = (400 - 150 * number) * batch_size / (8 + batch_size) * (1 - 0.0002 * input_tokens)
                out.append(
                    {
                        "engine": "vllm", "model": model, "accelerator": "A100-80GB" if number else "H100",
                        "accelerator_count": 1, "input_tokens": input_tokens, "output_tokens": output_tokens,
                        "batch_size": batch_size, "ttft_s": 0.02 + 1e-5 * input_tokens * batch_size,
                        "throughput_tok_s": rate, "n_repeats": 3, "status": "ok",
                    }
                )  # fmt: skip
    return out


@pytest.fixture
def measured() -> list[dict[str, Any]]:
    """The table's rows."""
    return rows()


@pytest.fixture(scope="session")
def hostile() -> str:
    """A name that holds markup."""
    return HOSTILE


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as a file."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pd.DataFrame(rows()).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def case() -> dict[str, Any]:
    """A cell that was not measured."""
    return {
        "engine": "vllm", "model": "small-7b", "accelerator": "H100", "accelerator_count": 1,
        "input_tokens": 256, "output_tokens": 128, "batch_size": 12,
    }  # fmt: skip


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Starts applications for tests to ask; a cheap model predicts."""
    from starlette.testclient import TestClient

    from fewmark.web.app import create_app
    from fewmark.web.settings import Settings

    with ExitStack() as stack:

        def start(**options: Any) -> TestClient:
            settings: Settings = Settings(**{"model": "loglog", "prior": False, **options})
            client = TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def shown(serve: Serve, table: Path) -> TestClient:
    """A server on the file."""
    return serve(data=str(table))


@pytest.fixture
def stored(serve: Serve, tmp_path: Path) -> TestClient:
    """A server on an empty store."""
    return serve(store=f"sqlite:///{tmp_path / 'web.db'}")


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FEWMARK_CACHE": "off"}
        command = [sys.executable, "-m", "fewmark", "serve", "s.db", "--port", "0", "--model", "loglog", "--no-prior"]
        self.process = subprocess.Popen(
            [*command, *options], cwd=folder, env=environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], PATIENCE_S)[0]
        found = re.search(rb"http://\S+", self.process.stderr.readline())
        assert found
        self.url = found[0].decode().rstrip("/")

    def get(self, path: str) -> str:
        with urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: bytes, kind: str = "application/x-www-form-urlencoded") -> tuple[str, str]:
        with urlopen(Request(self.url + path, body, {"content-type": kind}), timeout=PATIENCE_S) as answer:
            return answer.url, answer.read().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers on one store, and ends them and what they left running."""
    started: list[Served] = []

    def make(*options: str) -> Served:
        started.append(Served(tmp_path, *options))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.kill()
    for path in (tmp_path / "s.db.serve" / "campaigns").glob("*/process.txt"):
        with suppress(OSError, ValueError):
            os.kill(int(path.read_text().split()[-2]), signal.SIGTERM)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], Any], str], Any]:
    """Waits for what becomes true in the end, and gives it."""

    def wait(true: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := true():
                return found
            time.sleep(0.1)
        raise AssertionError(f"never: {what}")

    return wait
