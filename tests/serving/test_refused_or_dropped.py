"""What servers refuse, drop in silence or cut short, each as a server known for it does, and what becomes of a case."""

import pytest

from fewmark.core import Deployment, Status, Workload
from fewmark.engines.base import CaseFailure, Effort
from fewmark.engines.measuring.policy import measure
from fewmark.engines.openai.abandoned import wait_until_idle
from fewmark.engines.openai.engine import OpenAIEngine

LOOP = Workload(16, 6, concurrency=3)


def at(server, **options):
    return Deployment("openai", "toy", engine_options={"url": server.url, **options})


def test_a_stream_without_done_is_whole(running, loaded, policy):
    """As transformers serve ends its streams."""
    outcome = measure(loaded(at(running("--no-done"))), LOOP, policy, seed=1)
    assert outcome.status is Status.OK and outcome.samples[0].known()["n_failed"] == 0, outcome.error


def test_ids_and_ignore_eos_that_are_refused_are_not_sent_again(running, loaded, policy, words_file):
    """As transformers serve refuses them: 400 and 422."""
    server = running("--refuse", "ids,ignore_eos")
    engine = loaded(at(server, tokenizer=str(words_file)))
    assert measure(engine, LOOP, policy, seed=1).status is Status.OK
    assert engine.environment()["prompts"] == "text" and not engine.environment()["ignore_eos"]
    refused = [prompt for prompt in server.prompts if isinstance(prompt, list)]
    assert len(refused) <= 2  # the greetings that taught it


@pytest.mark.parametrize("option", [{"prompts": "ids"}, {"ignore_eos": True}])
def test_what_is_asked_for_by_name_and_refused_fails_with_the_servers_words(running, option, words_file):
    server = running("--refuse", "ids,ignore_eos")
    with pytest.raises(CaseFailure, match=r"prompt must be a string|Unexpected fields") as failure:
        OpenAIEngine().load(at(server, tokenizer=str(words_file), **option))
    assert failure.value.status is Status.UNSUPPORTED


@pytest.mark.parametrize("name", ["n", "best_of"])
def test_several_answers_to_a_request_are_refused_before_anything_is_sent(running, name):
    """transformers serve drops `n` in silence, llama-server counts the first answer's tokens alone."""
    server = running()
    with pytest.raises(CaseFailure, match="several answers") as failure:
        OpenAIEngine().load(at(server, extra_body={name: 2}))
    assert failure.value.status is Status.UNSUPPORTED and server.n_seen == 0


@pytest.mark.parametrize("tells", ["models", "props"])
def test_what_has_no_room_is_refused_where_the_server_tells_of_its_room(running, loaded, tells):
    """vLLM tells it of each model, llama-server of each slot."""
    server = running("--room", "40", "--tells", tells)
    engine = loaded(at(server))
    engine.check(Workload(30, 10, concurrency=1))
    with pytest.raises(CaseFailure, match="exceed the context of 40 tokens"):
        engine.check(Workload(30, 11, concurrency=1))


def test_answers_cut_to_the_room_left_are_no_result(running, loaded, policy):
    """vLLM lowers max_tokens to the room left, llama-server stops at its slot's end: 200 both, and no other sign."""
    outcome = measure(loaded(at(running("--room", "40"))), Workload(36, 8, concurrency=3), policy, seed=1)
    assert outcome.status is Status.INVALID and "cut them to the room that it had left" in outcome.error
    (window,) = outcome.extra["invalid_windows"]  # longer windows would be cut as well
    assert outcome.samples[-1].output_tokens == 4 and window["requests"]["short"] > 0


def test_a_batch_cut_to_the_room_left_is_no_result(running, loaded, policy):
    outcome = measure(loaded(at(running("--room", "40"))), Workload(36, 8, batch_size=2), policy, seed=1)
    assert outcome.status is Status.INVALID and "short" in outcome.error


SLOW = ("--deaf", "--ttft-ms", "0", "--gap-ms", "50")
EFFORT = Effort(window_s=0.2, limit_s=0.4)


def test_the_next_window_waits_for_what_the_server_still_generates(running, loaded):
    """Generation that goes on when its client has gone, on a server whose gauges tell."""
    server = running(*SLOW)
    engine = loaded(at(server))
    with pytest.raises(CaseFailure, match="timeout"):
        engine.window(Workload(8, 60, concurrency=2), EFFORT, seed=1)  # 3 s each, given up before
    assert server.n_active == 2
    window = engine.window(Workload(8, 2, concurrency=1), Effort(n_requests=2), seed=2)
    assert window.costs["settle_s"] > 0 and server.n_active == 0


def test_a_server_of_ours_without_gauges_is_started_anew(managed, loaded):
    engine = loaded(managed("--no-metrics"))
    engine._n_abandoned = 1
    window = engine.window(Workload(8, 2, concurrency=1), Effort(n_requests=2), seed=1)
    assert engine._server.n_starts == 2 and window.costs["settle_s"] >= 0
    assert "settle_s" not in engine.window(Workload(8, 2, concurrency=1), Effort(n_requests=2), seed=2).costs


def test_waiting_for_an_idle_server_is_bounded():
    greeted = []
    assert wait_until_idle(lambda: None, lambda: greeted.append(1)) is None
    assert wait_until_idle(lambda: 0.0, lambda: greeted.append(1)) is True and not greeted
    assert wait_until_idle(lambda: 1.0, lambda: greeted.append(1), limit_s=0.0) is False
