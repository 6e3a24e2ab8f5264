"""llama-server, started by a deployment with random weights, under the load client: `make test-engines`."""

import json
import urllib.request

import pytest

from fewmark.core import Deployment, Status, Workload
from fewmark.engines.environments.install import install_engine
from fewmark.engines.measuring.policy import measure

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(2100)]
OPTIONS = {"server": "llama-server", "arg.-np": 8, "arg.-c": 2048, "arg.-t": 1, "arg.--no-ui": True}


@pytest.fixture
def engine(loaded):
    install_engine("llama.cpp")
    return loaded(Deployment("openai", "llama-tiny", precision="fp32", engine_options=OPTIONS))


def test_no_request_is_lost_though_it_closes_each_connection(engine, policy):
    """It announces `Keep-Alive: timeout=5, max=100` and closes after each streamed answer."""
    for streams in 1, 4, 8:
        outcome = measure(engine, Workload(64, 32, concurrency=streams), policy, seed=1)
        windows = outcome.extra.get("windows") or outcome.extra["invalid_windows"]
        for window in windows:
            assert window["requests"]["failed"] == window["requests"]["short"] == 0, (outcome.error, window["requests"])
            beside = window["server"]["beside_the_client"]
            for metric in "output_tokens", "input_tokens":
                assert beside[metric]["client"] == beside[metric]["server"] > 0
            assert beside["itl_s"]["server"] > 0
        assert outcome.status is Status.OK, outcome.error


def test_its_model_takes_text_as_well(engine):
    words = engine.environment()["server_command"]
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}"
    data = json.dumps({"prompt": "two words of t12", "max_tokens": 3, "ignore_eos": True}).encode()
    head = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/completions", data, head), timeout=60) as answer:
        usage = json.load(answer)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (16, 3)  # <s>, five spaces, nine letters, t12
