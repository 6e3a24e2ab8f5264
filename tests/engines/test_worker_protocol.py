"""The worker as a served process: it keeps its answers clean, and dies with its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewmark.engines.worker.archive import boot_line
from fewmark.engines.worker.boot import COMMAND


@pytest.fixture
def worker(plugin):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        process.stdin.write(boot_line())
        process.stdin.flush()
        yield process
        process.kill()


def ask(process, **request):
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()


def answer(process):
    return json.loads(process.stdout.readline())


def gone(pid):
    for _ in range(200):
        try:
            os.kill(pid, 0)
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def load(process, **options):
    ask(process, op="load", deployment={"engine": "dummy", "model": "toy", "engine_options": options})
    return answer(process)


def run(process, **work):
    work = {"input_tokens": 4, "output_tokens": 2, "batch_size": 1, **work}
    ask(process, op="run", workload=work, policy={"warmup": 0}, seed=1)


def test_the_conversation(worker):
    hello = answer(worker)
    assert (hello["fewmark"], hello["event"], os.getpgid(hello["pid"])) == (1, "hello", worker.pid)
    assert load(worker)["event"] == "loaded"
    run(worker)
    events = [answer(worker) for _ in range(4)]
    # The engine prints to file descriptor 1, a forged answer among it: nothing of that gets through.
    assert [event["event"] for event in events] == ["sample"] * 3 + ["result"]
    assert events[-1]["status"] == "ok" and "forged" not in events[-1]
    ask(worker, op="close")
    assert answer(worker)["event"] == "closed"
    assert worker.wait(timeout=300) == 0
    assert b"noise on standard output" in worker.stderr.read()


def test_an_engine_that_is_not_installed_is_told_apart_from_one_that_fails(worker):
    answer(worker)
    ask(worker, op="load", deployment={"engine": "missing", "model": "toy"})
    reply = answer(worker)
    assert reply["event"] == "unavailable" and "pip install nowhere" in reply["error"]
    assert load(worker, load="refuse") == {
        "fewmark": 1,
        "event": "failed",
        "status": "out_of_memory",
        "error": "the weights do not fit",
    }


def test_it_ends_with_its_children_when_the_parent_closes_its_input(worker, tmp_path):
    answer(worker)
    load(worker, journal=str(tmp_path / "journal"))
    run(worker, options={"do": "hang"})
    while "child" not in (text := (tmp_path / "journal").read_text()):
        time.sleep(0.02)
    child = int(text.split("child ")[1])
    worker.stdin.close()
    worker.wait(timeout=300)
    assert gone(child)


def test_it_dies_when_its_parent_is_killed(plugin, tmp_path):
    # The grandparent (this test) keeps the worker's input open: only the kernel's signal can end the worker.
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMMAND!r}])"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        parent.stdin.write(boot_line())
        parent.stdin.flush()
        pid = answer(parent)["pid"]
        os.kill(parent.pid, signal.SIGKILL)
        assert gone(pid)


def test_an_interpreter_that_is_too_old_says_so():
    script = f"import sys; sys.version_info = (3, 8, 0); sys.version = '3.8.0 old'; {COMMAND}"
    done = subprocess.run([sys.executable, "-c", script], input=boot_line(), capture_output=True, timeout=300)
    reply = json.loads(done.stdout)
    assert reply["event"] == "refused" and "3.11" in reply["error"] and "3.8.0" in reply["error"]
