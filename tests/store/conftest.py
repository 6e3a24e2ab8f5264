from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from fewmark.core import Measurement
from fewmark.store import Store, open_store

HERE = Path(__file__).parent


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"store_tests_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes databases, each empty, on one PostgreSQL server a session: call it for a URL."""
    numbers = itertools.count(1)
    with _load("postgres_server").running_server() as server:
        engine = sa.create_engine(
            server.replace("postgresql://", "postgresql+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT"
        )

        def new_database() -> str:
            name = f"test_{next(numbers)}"
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return f"{server}/{name}"

        yield new_database
        engine.dispose()


@pytest.fixture(params=["sqlite file", "sqlite memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store of each kind can be opened."""
    if request.param == "sqlite memory":
        return ":memory:"
    return _durable_url(request, tmp_path)


@pytest.fixture(params=["sqlite file", "postgresql"])
def durable_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store of each kind that outlives its process can be opened."""
    return _durable_url(request, tmp_path)


def _durable_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite file":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres")()  # type: ignore[no-any-return]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store of each kind."""
    with open_store(url) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., Measurement]:
    """The measurement of a number, as the writer process makes it."""
    return _load("writer").measurement  # type: ignore[no-any-return]


@pytest.fixture
def start_writer() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `writer.py` as a process: url, first, last, step, seed."""
    processes = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "writer.py"), *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, too; tests' own folders are private."""
    with tempfile.TemporaryDirectory(prefix="fewmark-store-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def no_privileges() -> Iterator[None]:
    """Root may write anywhere; the test does not run with root's rights."""
    if os.geteuid() != 0:
        yield
        return
    open_store(":memory:").close()  # what is imported late must be imported while it can be read
    nobody = pwd.getpwnam("nobody")
    os.setegid(nobody.pw_gid)
    os.seteuid(nobody.pw_uid)
    yield
    os.seteuid(0)
    os.setegid(0)
