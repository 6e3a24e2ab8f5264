"""A throwaway PostgreSQL server on loopback, from the binaries that the wheel `pgserver` carries.

The wheel's own start-up code is not used: as root it adds a user to the system and opens up folders. Here a server
that is started by root runs as `nobody`, from a copy that `nobody` can read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Runs a program as another user, and takes it down (SIGQUIT: at once) when whoever started it dies.
LAUNCHER = """
import ctypes, os, sys
user, group, program, *rest = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
ctypes.CDLL(None).prctl(1, 3)
os.execv(program, [program, *rest])
"""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
}


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """A server for as long as the block lasts: its URL without a database's name."""
    folder = Path(tempfile.mkdtemp(prefix="fewmark-postgres-"))
    try:
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        folder.chmod(0o755)
        programs = _programs(folder)
        data = folder / "data"
        data.mkdir()
        os.chown(data, user.pw_uid, user.pw_gid)
        launch = [sys.executable, "-c", LAUNCHER, str(user.pw_uid), str(user.pw_gid)]
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
        done = subprocess.run(
            [*launch, *initdb, "--encoding=UTF8", "--locale=C"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")
        process, port = _start([*launch, str(programs / "postgres"), "-D", str(data)], folder)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: clients are cut off
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path) -> Path:
    spec = importlib.util.find_spec("pgserver")  # found, not imported
    assert spec is not None and spec.submodule_search_locations, "the tests need the wheel pgserver"
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    base = folder / "programs"
    for part in ("bin/initdb", "bin/postgres", "lib", "share"):
        source, target = package / "pginstall" / part, base / "pgserver" / "pginstall" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    libraries = package.parent / "pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, base / "pgserver.libs")
    for path in (base, *base.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
    return base / "pgserver" / "pginstall" / "bin"


def _start(command: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "log"
    for _ in range(5):  # a free port may be taken before the server gets it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": port}.items()]
        with log.open("ab") as stream:
            process = subprocess.Popen([*command, *options], cwd=folder, stdout=stream, stderr=stream)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if "ready to accept connections" in log.read_text(errors="replace"):
                return process, port
            time.sleep(0.05)
        process.kill()
        process.wait()
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text(errors='replace')}")
