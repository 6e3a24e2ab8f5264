"""Whatever a worker says, and whenever it dies, costs one case at most, as `crashed` or `invalid`, and nothing else."""

import json
import sys
from pathlib import Path

import pytest

from fewmark.core import Case, Deployment, EngineError, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, RunSettings
from fewmark.runner.deployment import measure_deployment
from fewmark.runner.worker import process, streams
from fewmark.runner.worker.process import WorkerProcess

# A worker that is killed at any step may leave pipes to the garbage collector, which says so.
UNCLOSED = "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
pytestmark = pytest.mark.filterwarnings(UNCLOSED)

CASES = [Case(Deployment("dummy", "toy"), Workload(4, 2, batch_size=b)) for b in (1, 2)]
HELLO = {"fewmark": 1, "event": "hello", "pid": 0, "environment": {}}
LOADED = {"fewmark": 1, "event": "loaded", "environment": {}}
SAMPLE = {"e2e_latency_s": 1.0, "output_tokens": 2}
GOOD = {"fewmark": 1, "event": "result", "status": "ok", "samples": [SAMPLE], "wall_s": 1.0}
CLOSED = {"fewmark": 1, "event": "closed"}


WORKER = """#!{python} -IS
import os, sys
for name in {names}:
    sys.stdin.buffer.readline()  # a shell's read takes the boot line byte by byte, for seconds
    sys.stdout.buffer.write(open(name, "rb").read())
    sys.stdout.buffer.flush()
os.execv("/bin/sh", ["sh", "-c", {ending}])
"""


@pytest.fixture
def says(tmp_path):
    """A command that answers the boot line and each request with the next text, then ends."""

    def make(*texts, ending="exit 0"):
        names = [str(tmp_path / f"{number}") for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            Path(name).write_text(text if isinstance(text, str) else json.dumps(text) + "\n")
        script = tmp_path / "worker"
        script.write_text(WORKER.format(python=sys.executable, names=names, ending=repr(ending)))
        script.chmod(0o755)
        return RunSettings(
            Policy(warmup=0, max_repeats=3), timeout_s=20, load_timeout_s=20, launch=Launch(python=str(script))
        )

    return make


def measured(cases, settings):
    return [result.measurement for result in measure_deployment(cases, settings, {})]


BEFORE_HELLO = [
    "",
    "a banner\n",
    '{"fewmark": 1}\n',
    '{"fewmark": 1, "event": "hello"}\n',
    '{"fewmark": 1, "event": "hello", "environment": [], "pid": 1}\n',
    '{"fewmark": 1, "event": "hello", "environment": {"x": Infinity}}\n',
    '{"fewmark": 1, "event": 5}\n',
    '{"fewmark": [' * 5000 + "\n",
    '{"fewmark": 2, "event": "hello"}\n',
    '{"fewmark": 1, "event": "refused", "error": {"a": 1}}\n',
]


@pytest.mark.parametrize("text", BEFORE_HELLO, ids=range(len(BEFORE_HELLO)))
def test_a_worker_that_never_says_hello_is_one_error_for_its_deployment(says, text):
    with pytest.raises(EngineError):
        measured(CASES, says(text, ending="exit 3"))


LOADING = [
    {"fewmark": 1, "event": "loaded"},
    {"fewmark": 1, "event": "loaded", "environment": "none"},
    {"fewmark": 1, "event": "failed"},
    {"fewmark": 1, "event": "failed", "status": "ok", "error": "fine"},
    {"fewmark": 1, "event": "failed", "status": [], "error": 1},
    {"fewmark": 1, "event": "result", **GOOD},
    {"fewmark": 1, "event": "closed"},
    '{"fewmark": 1, "event": "loaded", "environment": ' + "[" * 3000 + "\n",
    '{"fewmark": 1, "event": \n',
]


@pytest.mark.parametrize("answer", LOADING, ids=range(len(LOADING)))
def test_an_answer_to_loading_that_is_none_makes_the_cases_invalid(says, answer):
    found = measured(CASES, says(HELLO, answer))
    assert [m.status for m in found] == [Status.INVALID] * 2
    assert all("malformed answer" in m.error and len(m.error) < 1000 for m in found)


RESULTS = [
    {"fewmark": 1, "event": "result"},
    {"fewmark": 1, "event": "loaded"},
    {**GOOD, "samples": []},
    {**GOOD, "samples": [{}]},
    {**GOOD, "samples": [{"e2e_latency_s": "1"}]},
    {**GOOD, "samples": [{"e2e_latency_s": -1}]},
    {**GOOD, "samples": [{"e2e_latency_s": 1, "ttft_s": 2}]},
    {**GOOD, "samples": [{"e2e_latency_s": 1, "output_tokens": 1}]},
    {**GOOD, "samples": [{"e2e_latency_s": 1e200}]},
    {**GOOD, "samples": {"a": 1}},
    {**GOOD, "wall_s": "long"},
    {**GOOD, "extra": 3},
    {**GOOD, "flags": [None]},
    {**GOOD, "status": "fine"},
    {**GOOD, "number": 7},
    json.dumps(GOOD).replace("1.0", "NaN") + "\n",
    json.dumps(GOOD).replace("1.0", "9" * 401) + "\n",
    '{"fewmark": 1, "event": "result", "samples": ' + "[" * 100_000 + "\n",
    '{"fewmark": 1, "event": "result", "status"\n',
]


@pytest.mark.parametrize("answer", RESULTS, ids=range(len(RESULTS)))
def test_a_result_that_is_none_is_invalid_and_the_engine_is_started_anew(says, answer):
    found = measured(CASES, says(HELLO, LOADED, answer))
    assert [m.status for m in found] == [Status.INVALID] * 2  # each case had a worker of its own
    assert all(m.error and len(m.error) < 1500 for m in found)
    assert all(json.loads(json.dumps(m.to_dict(), allow_nan=False)) for m in found)


@pytest.mark.slow
def test_a_worker_that_dies_at_each_step_costs_the_case_at_hand(says):
    assert [m.status for m in measured(CASES, says(HELLO, ending="kill -9 $$"))] == [Status.CRASHED] * 2
    found = measured(CASES, says(HELLO, LOADED, GOOD, ending="kill -9 $$"))
    # Whether its end is seen before the next case is asked for, or by it, is a matter of chance.
    assert [m.status for m in found] in ([Status.OK, Status.OK], [Status.OK, Status.CRASHED])


def test_a_line_without_an_end_fills_no_memory(says, monkeypatch):
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 100_000)
    endless = '{"fewmark": 1, "event": "result", "error": "' + "x" * 1_000_000 + '"}\n'
    found = measured(CASES[:1], says(HELLO, LOADED, endless))
    assert [m.status for m in found] == [Status.INVALID]


def test_a_flood_of_samples_is_bounded(says):
    flood = (json.dumps({"fewmark": 1, "event": "sample", "sample": SAMPLE}) + "\n") * 5000
    found = measured(CASES[:1], says(HELLO, LOADED, flood))
    assert found[0].status is Status.CRASHED and len(found[0].samples) == 3


def test_the_log_is_bounded_printable_and_without_secrets(says):
    ending = r"""yes 'words of a log' | head -c 10000000 >&2
printf 'bad \033[31m news HF_TOKEN=hf_abcdefghijklmnopqrst' >&2
exit 3"""
    settings = says(HELLO, LOADED, "", ending=ending)
    found = measured(CASES[:1], settings)
    error = found[0].error
    assert found[0].status is Status.CRASHED and "bad \\u001b[31m news" in error
    assert len(error) < 3000 and "abcdefgh" not in error


def test_a_worker_that_is_killed_while_it_starts_is_told_apart(says):
    settings = says("", ending="echo 'torch.OutOfMemoryError: CUDA out of memory' >&2; kill -9 $$")
    with pytest.raises(process.WorkerGoneError) as gone:
        WorkerProcess(settings.launch, start_timeout_s=20)
    assert gone.value.status is Status.OUT_OF_MEMORY


def test_secrets_in_an_environment_are_masked(says):
    told = {"variables": {"HF_TOKEN": "hf_abcdefghijklmnopqrst", "PATH": "/bin"}}
    found = measured(CASES[:1], says({**HELLO, "environment": told}, LOADED, GOOD, CLOSED))
    assert found[0].status is Status.OK
    assert found[0].environment["host"] == {"variables": {"HF_TOKEN": "***", "PATH": "/bin"}}
