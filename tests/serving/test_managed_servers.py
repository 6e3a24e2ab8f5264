"""Servers that a deployment starts: ready, logged, understood when they fail, stopped whole, restarted."""

import itertools
import os
import time
from pathlib import Path

import pytest

from fewmark.core import Deployment, Status, Workload
from fewmark.engines.base import CaseFailure
from fewmark.engines.measuring.policy import measure
from fewmark.engines.openai.engine import OpenAIEngine
from fewmark.engines.servers.kinds import SERVERS
from fewmark.engines.servers.managed import ManagedServer
from fewmark.engines.servers.options import read_server_options
from fewmark.engines.servers.reasons import is_port_taken, why_ended

LOOP = Workload(16, 6, concurrency=3)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_it_is_started_waited_for_measured_and_stopped_with_its_grandchildren(managed, loaded, policy, logs, tmp_path):
    child = tmp_path / "child"
    engine = loaded(managed("--ready-after-s", "0.5", "--child", str(child), ready="/health"))
    assert measure(engine, LOOP, policy, seed=1).status is Status.OK
    facts = engine.environment()
    assert facts["engine_version"] == "0.0.mock" and facts["server_start_s"] >= 0.5
    assert Path(facts["server_log"]).read_text() == "serving\n" and Path(facts["server_log"]).parent == logs
    pid, grandchild = engine._server._process.pid, int(child.read_text())
    assert is_running(pid) and is_running(grandchild)
    engine.close()
    deadline = time.monotonic() + 20
    while (is_running(pid) or is_running(grandchild)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid) and not is_running(grandchild)


def test_two_servers_have_a_port_each(managed, loaded):
    first, second = loaded(managed()), loaded(managed())
    assert first._where().url != second._where().url


@pytest.mark.parametrize(
    ("says", "status"),
    [
        (
            "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization",
            "out_of_memory",
        ),
        ("api_server.py: error: unrecognized arguments: --max-num-seq 4", "unsupported"),
        ("RuntimeError: something else broke", "crashed"),
    ],
)
def test_why_it_does_not_start_is_read_from_its_log(managed, says, status):
    deployment = Deployment("openai", "toy", engine_options={**managed().engine_options})
    command = deployment.engine_options["command"] + f" --fail '{says}'"
    with pytest.raises(CaseFailure) as failure:
        OpenAIEngine().load(Deployment("openai", "toy", engine_options={"command": command}))
    assert failure.value.status == status and says in failure.value.reason and "exit code 1" in failure.value.reason


def test_one_that_is_never_ready_is_given_up_and_stopped(managed):
    engine = OpenAIEngine()
    with pytest.raises(CaseFailure, match=r"not ready after 0\.3 s"):
        engine.load(managed("--ready-after-s", "600", ready="/health", start_timeout_s=0.3))
    assert not engine._server.is_alive


def test_one_that_dies_is_a_crash_with_its_last_words_and_is_started_again(managed, loaded, policy, tmp_path):
    engine = loaded(managed("--die-after", "20", "--once", str(tmp_path / "once")))
    outcome = measure(engine, LOOP, policy, seed=1)
    assert outcome.status is Status.CRASHED and "the engine died" in outcome.error and "exit code 9" in outcome.error
    assert measure(engine, LOOP, policy, seed=1).status is Status.OK
    assert engine._server.n_starts == 2


def test_one_that_dies_whenever_it_was_started_is_not_started_for_ever(managed, loaded, policy):
    engine = loaded(managed("--die-after", "1"))  # the greeting is answered, and nothing after it
    statuses = [measure(engine, LOOP, policy, seed=n).status for n in range(6)]
    assert statuses == [Status.CRASHED] * 6 and engine._server.n_starts <= 5


def test_one_that_hangs_is_stopped_and_started_again_for_the_next_case(managed, loaded, policy):
    from dataclasses import replace

    engine = loaded(managed("--hang-after", "1"))
    outcome = measure(engine, LOOP, replace(policy, time_limit_s=2.0), seed=1)
    assert outcome.status is Status.TIMEOUT, outcome.error
    assert not engine._server.is_alive
    engine._require_server()
    assert engine._server.is_alive and engine._server.n_starts == 2


@pytest.mark.parametrize("kind", SERVERS)
def test_what_a_deployment_says_becomes_options_of_its_server(kind, tmp_path):
    options = {
        "server": kind, "python": "/opt/python", "program": "/opt/program", "arg.max-num-seqs": 64, "arg.-np": 4,
        "arg.enforce-eager": True, "arg.quiet": False, "arg.lora": ["a", "b"], "env.SOME_VARIABLE": "1",
    }  # fmt: skip
    deployment = Deployment("openai", "llama-tiny", precision="bf16", tensor_parallel_size=2, engine_options=options)
    key = "k" if SERVERS[kind].key_variable else None
    server = ManagedServer(deployment, options, read_server_options(options), tmp_path, key, str)
    words = server._command()
    assert words[0] in ("/opt/python", "/opt/program") and "{" not in " ".join(words)
    pairs = list(itertools.pairwise(words))
    assert ("--max-num-seqs", "64") in pairs and ("-np", "4") in pairs and "--quiet" not in words
    assert words[words.index("--lora") + 1 :][:2] == ["a", "b"] and "--enforce-eager" in words
    environment = server._environment()
    assert environment["SOME_VARIABLE"] == "1" and "k" not in words
    if (variable := SERVERS[kind].key_variable) is not None:
        assert environment[variable] == "k"
    if (flag := SERVERS[kind].flags.get("tensor_parallel_size")) is not None:
        assert (flag, "2") in pairs
    assert server.model.is_random and any(tmp_path.iterdir())
    assert (tmp_path / "model.safetensors").exists() == (SERVERS[kind].weights == "folder")


def test_words_of_logs_are_understood():
    for line in (
        "ValueError: To serve at least one request with the models's max seq len (4096), 2.0 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (1.0 GiB).",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory",
    ):
        assert why_ended(f"INFO: start\n{line}\nINFO: bye", "ended").status is Status.OUT_OF_MEMORY
    for line in ("error: invalid argument: --paralell", "No such option: --dtyp", "error: unknown argument: -nq"):
        found = why_ended(f"usage: …\n{line}", "ended")
        assert found.status is Status.UNSUPPORTED and line in found.reason
    assert why_ended("", "was ended by SIGKILL").reason == "the server was ended by SIGKILL: it said nothing"
    traceback = "OSError: no route\n  await self.app(scope, receive, send_no_error)\n  INFO: 200 OK"
    assert why_ended(traceback, "ended").reason == "the server ended: OSError: no route"
    assert is_port_taken("OSError: [Errno 98] Address already in use")


@pytest.mark.slow
@pytest.mark.engine
def test_a_random_model_is_written_as_a_folder_that_transformers_reads(tmp_path):
    transformers = pytest.importorskip("transformers")
    from fewmark.engines.checkpoints.folder import write_folder
    from fewmark.engines.checkpoints.shapes import SHAPES

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    fields = {**SHAPES["llama-tiny"], "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 500}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        folder.mkdir()
        write_folder(folder, fields, precision)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert str(model.dtype).endswith({"fp32": "float32", "bf16": "bfloat16"}[precision])
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        text = tokenizer.decode(range(3, 500))
        assert tokenizer(text)["input_ids"] == list(range(3, 500))
