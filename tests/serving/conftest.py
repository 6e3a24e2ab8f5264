"""Mock servers as processes and in this one; engines that are closed after the test."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fewmark.core import Deployment, FrozenMap
from fewmark.engines.checkpoints.folder import write_folder
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.measuring.policy import Policy
from fewmark.engines.openai.engine import OpenAIEngine
from fewmark.runner import RunSettings
from fewmark.store import open_store

MOCK = Path(__file__).with_name("mock_server.py")
# No verdict of a test depends on how busy the machine is.
PATIENT = (("lateness_s", 60.0), ("idle_share", 1.0), ("min_turns", 0.0), ("worker_cpu_share", 9.0))


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers' logs go."""
    monkeypatch.setenv("FEWMARK_SERVER_LOGS", str(tmp_path / "logs"))
    return tmp_path / "logs"


@pytest.fixture
def policy() -> Policy:
    """One short window of 44 requests."""
    return Policy(min_repeats=1, max_repeats=1, n_requests=46, validity=PATIENT)


@pytest.fixture
def settings(policy: Policy) -> RunSettings:
    return RunSettings(policy=policy, timeout_s=120, load_timeout_s=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    with open_store(tmp_path / "store.db") as opened:
        yield opened


def command(*words: str) -> str:
    return " ".join(["{python}", str(MOCK), "--port", "{port}", *words])


@pytest.fixture
def managed() -> Callable[..., Deployment]:
    """A deployment that starts the mock with these words."""

    def make(*words: str, **options: Any) -> Deployment:
        return Deployment("openai", "toy", engine_options=FrozenMap({"command": command(*words), **options}))

    return make


@pytest.fixture
def loaded() -> Iterator[Callable[[Deployment], OpenAIEngine]]:
    made: list[OpenAIEngine] = []

    def load(deployment: Deployment) -> OpenAIEngine:
        engine = OpenAIEngine()
        made.append(engine)
        engine.load(deployment)
        return engine

    yield load
    for engine in made:
        engine.close()


@pytest.fixture
def words_file(tmp_path: Path) -> Path:
    """The folder of a tokenizer that knows words."""
    pytest.importorskip("tokenizers")
    return write_folder(tmp_path, SHAPES["llama-tiny"], "fp32", weights=False)


@pytest.fixture(scope="session")
def mock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mock_server", MOCK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mock_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def running(mock: ModuleType) -> Iterator[Callable[..., Any]]:
    """Start the mock in this process; its server, with `url`."""
    servers: list[Any] = []

    def start(*words: str) -> Any:
        server = mock.Server(mock.parse(list(words)))
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
