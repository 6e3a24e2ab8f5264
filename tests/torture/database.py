"""A PostgreSQL whose connections, backends and server are killed in the middle of runs: one message, nothing lost."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from guard import announce
from kills import LAST_S, N_CASES, SUITE, start, stored
from processes import end, family, told, wait_until_gone
from tally import Clock, Tally

HERE = Path(__file__).parent
WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from inputs import measurements
from fewmark.core import StoreError
from fewmark.store import open_store
held, number, since = measurements(), 0, None
while True:
    try:
        with open_store(sys.argv[1]) as store:
            while True:
                store.add([replace(held[number % len(held)], row=number)])
                print(number, flush=True)
                number += 1
    except StoreError as error:
        print("error", str(error).replace(chr(10), " "), flush=True)
"""


class Server:
    """A PostgreSQL server on loopback that can be killed and started again on what it has written."""

    def __init__(self) -> None:
        self.tools = _tools()
        self.folder = Path(tempfile.mkdtemp(prefix="fewmark-postgres-"))
        self.folder.chmod(0o755)
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.programs = self.tools._programs(self.folder)
        self.data = self.folder / "data"
        self.data.mkdir()
        os.chown(self.data, user.pw_uid, user.pw_gid)
        self.launch = [sys.executable, "-c", self.tools.LAUNCHER, str(user.pw_uid), str(user.pw_gid)]
        initdb = [str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run(
            [*self.launch, *initdb, "--encoding=UTF8", "--locale=C"], cwd=self.folder, check=True, capture_output=True
        )
        command = [*self.launch, str(self.programs / "postgres"), "-D", str(self.data)]
        self.process, self.port = self.tools._start(command, self.folder)
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}"

    def execute(self, statement: str) -> list[sa.Row[tuple[object, ...]]]:
        """The rows of a statement, on a connection of its own, outside of a transaction."""
        engine = sa.create_engine(
            self.url.replace("postgresql", "postgresql+psycopg") + "/postgres", isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                result = connection.exec_driver_sql(statement)
                return list(result) if result.returns_rows else []
        finally:
            engine.dispose()

    def backends(self) -> list[int]:
        """The processes that serve somebody else."""
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            rows = self.execute("SELECT pid FROM pg_stat_activity WHERE datname LIKE 'torture%%'")
            return [int(str(row[0])) for row in rows]
        return []

    def restart(self) -> None:
        """Start again, on the same port and files, once what was killed has let go of them."""
        self.process.wait()
        options = {**self.tools.SETTINGS, "port": self.port}
        command = [*self.launch, str(self.programs / "postgres"), "-D", str(self.data)]
        command += [f"-c{name}={value}" for name, value in options.items()]
        deadline = time.monotonic() + LAST_S
        while time.monotonic() < deadline:
            with (self.folder / "log").open("ab") as stream:
                self.process = subprocess.Popen(command, cwd=self.folder, stdout=stream, stderr=stream)
            while self.process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    self.execute("SELECT 1")
                    return
                time.sleep(0.05)
            time.sleep(0.2)
        raise RuntimeError(
            "PostgreSQL does not start again: " + (self.folder / "log").read_text(errors="replace")[-500:]
        )

    def close(self) -> None:
        """End it, and remove what it has written."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(seed: int, seconds: float) -> list[Tally]:
    """Kills while a writer writes, and while a suite runs."""
    tally = Tally("kill (connection, backend or server of PostgreSQL)")
    if importlib.util.find_spec("pgserver") is None or importlib.util.find_spec("psycopg") is None:
        tally.skipped = "PostgreSQL (the wheels pgserver and psycopg) is not installed"
        return [tally]
    rng, clock, server = random.Random(seed), Clock(seconds), Server()
    try:
        number = 0
        while clock or not number:
            number += 1
            server.execute(f"CREATE DATABASE torture{number}")
            turn = (while_written, while_run)[number % 2]
            try:
                turn(rng, server, f"{server.url}/torture{number}", tally)
            except Exception as error:
                tally.fault(error, f"round {number} of seed {seed}")
            if server.process.poll() is not None:
                server.restart()
            server.execute(f"DROP DATABASE IF EXISTS torture{number} WITH (FORCE)")
    finally:
        server.close()
    return [tally]


def disturb(rng: random.Random, server: Server, tally: Tally) -> str:
    """One kill; the server is started again, some time later, where it is gone."""
    way = rng.choice(
        ["connection", "backend SIGKILL", "backend SIGTERM", "server SIGKILL", "server SIGQUIT", "server SIGINT"]
    )
    if way == "connection":
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'torture%%'")
    elif way.startswith("backend"):
        for pid in server.backends()[:1]:
            with contextlib.suppress(OSError):
                os.kill(pid, getattr(signal, way.split()[1]))
    else:
        server.process.send_signal(getattr(signal, way.split()[1]))
        time.sleep(rng.choice([0, rng.uniform(0, 3), rng.uniform(3, 8)]))
        server.restart()
    tally.tried += 1
    tally.ways.add(way)
    return way


def while_written(rng: random.Random, server: Server, url: str, tally: Tally) -> None:
    """What a writer was told to be saved is there, whatever happens to the server; each error is one of the tree."""
    command = [sys.executable, "-c", WRITER, url, str(HERE)]
    ways: list[str] = []
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdout=said, stderr=subprocess.PIPE) as writer:
            for _ in range(rng.randint(2, 6)):
                time.sleep(rng.uniform(0.2, 2))
                announce(f"database: a writer, {ways}")
                ways.append(disturb(rng, server, tally))
            time.sleep(rng.uniform(0, 1))
            writer.kill()
            assert writer.stderr is not None
            complaint = writer.stderr.read().decode(errors="replace")
        if "Traceback" in complaint:
            tally.fail(f"a writer fell over: {complaint[-400:]}; done: {ways}")
        said.seek(0)
        saved = [int(line) for line in said.read().split(b"\n") if line.isdigit()]
    held = rows_of(url)
    if missing := set(saved) - held:
        tally.fail(f"{len(missing)} of {len(saved)} that were saved are lost; done: {ways}")


def rows_of(url: str) -> set[int]:
    """The numbers that the writer has given its measurements."""
    from fewmark.store import open_store

    with open_store(url) as store:
        return {m.row for m in store.measurements() if m.row is not None}


def while_run(rng: random.Random, server: Server, url: str, tally: Tally) -> None:
    """A run goes on or ends with one message; what it had measured stays, and the next run measures the rest."""
    word, ways = f"{os.getpid()}-database-{tally.tried}", list[str]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        (folder / "suite.yaml").write_text(SUITE)
        for last in (False, True):
            said = folder / "said"
            run = start(folder, word, url, stderr=said)
            for _ in range(0 if last else rng.randint(1, 4)):
                time.sleep(rng.uniform(0.2, 3))
                if run.poll() is not None:
                    break
                announce(f"database: a run, {ways}")
                ways.append(disturb(rng, server, tally))
            try:
                code = run.wait(LAST_S)
            except subprocess.TimeoutExpired:
                tally.fail(f"a run does not end: {told([run.pid])}; done: {ways}")
                run.kill()
                code = run.wait(LAST_S)
            text = said.read_text(errors="replace")
            if code not in (0, 1, 2) or "Traceback" in text or text.count("error:") > 1:
                tally.fail(f"a run ends with {code}: {text[-400:]}; done: {ways}")
            held = stored(url)
            if twice := [case for case, count in held.items() if count > 1]:
                tally.fail(f"measured twice: {len(twice)} cases; done: {ways}")
            if last and (code != 0 or len(held) != N_CASES):
                tally.fail(f"the next run ends with {code} and {len(held)} of {N_CASES} cases: {text[-300:]}; {ways}")
        if left := wait_until_gone(lambda: family(word)):
            tally.fail(f"processes run on: {told(left)}; done: {ways}")
            end(left)


def _tools() -> ModuleType:
    spec = importlib.util.spec_from_file_location("postgres_server", HERE.parent / "store" / "postgres_server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
