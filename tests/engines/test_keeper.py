"""However a worker ends, nothing of it runs on and nothing of it stays on the disk."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewmark.engines.worker.archive import boot_line, write_archive
from fewmark.engines.worker.boot import COMMAND
from fewmark.engines.worker.keeper import descendants
from fewmark.engines.worker.scratch import PREFIX, make_scratch, remove_if_free, remove_stale, temporary_folder

WORK = {"input_tokens": 4, "output_tokens": 2, "batch_size": 1}


def running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def noted(path, kind):
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split(" ", 1)[1] for line in lines if line.startswith(kind + " ")]


class Worker:
    """A served worker with a deployment loaded that has put files everywhere and lets processes escape."""

    def __init__(self, folder, lease_s=None):
        self.journal, self.temporary, self.elsewhere = folder / "journal", folder / "tmp", folder / "disk"
        self.temporary.mkdir(exist_ok=True)
        self.elsewhere.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(self.temporary)}, start_new_session=True,
        )  # fmt: skip
        self.send(boot_line(lease_s))
        self.pid = json.loads(self.process.stdout.readline())["pid"]
        options = {"journal": str(self.journal), "load": "escape", "fill": True, "elsewhere": str(self.elsewhere)}
        self.send({"op": "load", "deployment": {"engine": "dummy", "model": "toy", "engine_options": options}})
        assert json.loads(self.process.stdout.readline())["event"] == "loaded"
        wait_for(lambda: len(descendants(self.pid)) == 2)
        self.family = [self.pid, *descendants(self.pid)]
        self.folders = noted(self.journal, "folder")[-3:]
        assert len(self.folders) == 3 and all(map(os.path.isdir, self.folders))

    def send(self, request):
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def end(self):
        for pid in self.family:
            if running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


@pytest.fixture
def worker(plugin, tmp_path):
    started = []

    def start(**options):
        started.append(Worker(tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def close(worker):
    worker.send({"op": "close"})


def crash(worker):
    os.kill(worker.pid, signal.SIGKILL)


def hang_up(worker):
    worker.process.stdin.close()


def terminate(worker):
    worker.process.terminate()


@pytest.mark.parametrize("how", [close, crash, hang_up, terminate])
def test_nothing_of_a_worker_is_left(worker, how):
    one = worker()
    how(one)
    code = one.process.wait(timeout=30)
    assert code == {close: 0, crash: -signal.SIGKILL}.get(how, 128 + signal.SIGTERM)
    assert not any(map(running, one.family))
    assert not list(one.temporary.iterdir()) and not list(one.elsewhere.iterdir())


def test_what_a_killed_keeper_leaves_goes_with_the_next_worker(worker):
    one = worker()
    one.process.kill()
    wait_for(lambda: not running(one.pid))  # the worker itself dies with it
    assert all(map(os.path.isdir, one.folders)) and any(map(running, one.family))
    another = worker()
    assert not any(map(os.path.isdir, one.folders))
    wait_for(lambda: not any(map(running, one.family)))
    close(another)
    another.process.wait(timeout=30)
    assert not list(one.temporary.iterdir()) and not list(one.elsewhere.iterdir())


def test_behind_a_prefix_a_worker_ends_when_its_parent_is_silent(worker):
    one = worker(lease_s=1.0)
    for _ in range(8):  # signs of life
        time.sleep(0.25)
        one.send(b"\n")
    assert one.process.poll() is None
    one.process.wait(timeout=30)  # its input stays open
    assert not any(map(running, one.family)) and not list(one.temporary.iterdir())


def test_without_a_lease_silence_is_no_reason_to_end(worker):
    one = worker()
    time.sleep(1.5)
    assert one.process.poll() is None


def test_a_batch_leaves_nothing_either(plugin, tmp_path):
    archive = write_archive(tmp_path / "worker.zip")
    (tmp_path / "tmp").mkdir()
    options = {"journal": str(tmp_path / "journal"), "fill": True, "load": "escape"}
    deployment = {"engine": "dummy", "model": "toy", "engine_options": options}
    hanging = {"deployment": deployment, "workload": {**WORK, "options": {"do": "hang"}}}
    (tmp_path / "cases").write_text(json.dumps(hanging) + "\n")
    process = subprocess.Popen(
        [sys.executable, str(archive), "--path", str(plugin), "--cases", tmp_path / "cases", "--out", tmp_path / "out"],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: len(noted(tmp_path / "journal", "child")) == 2)
    wait_for(lambda: len(descendants(process.pid)) >= 4)
    family = descendants(process.pid)
    process.terminate()
    process.wait(timeout=30)
    assert not any(map(running, family)) and not list((tmp_path / "tmp").iterdir())


def test_a_folder_that_is_held_or_is_not_ours_is_never_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    held = make_scratch()
    foreign = tmp_path / f"{PREFIX}foreign"
    foreign.mkdir(mode=0o755)
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(tmp_path)
    remove_stale()
    remove_if_free(tmp_path)
    assert held.is_dir() and foreign.is_dir() and link.is_symlink()


def test_only_folders_of_ours_are_removed_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    precious = tmp_path / "precious"
    precious.mkdir()
    stale = tmp_path / f"{PREFIX}stale"
    stale.mkdir(mode=0o700)
    monkeypatch.setenv("FEWMARK_SCRATCH", str(stale))
    ours = temporary_folder("offload", tmp_path)
    with (stale / "elsewhere").open("a") as listed:
        listed.write(f"{precious}\n")
    remove_stale()
    assert precious.is_dir() and not ours.exists() and not stale.exists()
