"""The engine `openai` against a mock: what is measured, judged, kept, and what bad days make of a case."""

import json

import pytest

from fewmark.core import Deployment, FrozenMap, Status, Workload
from fewmark.engines.base import CaseFailure
from fewmark.engines.measuring.policy import Policy, measure

LOOP = Workload(16, 6, concurrency=3)


def at(server, **options):
    return Deployment("openai", "toy", engine_options={"url": server.url, **options})


def test_a_closed_loop_gives_every_metric_its_interval_and_the_servers_counts(running, loaded, policy):
    server = running("--ttft-ms", "10", "--gap-ms", "3")
    engine = loaded(at(server))
    outcome = measure(engine, LOOP, policy, seed=1)
    assert outcome.status is Status.OK, outcome.error
    known = outcome.samples[0].known()
    assert known["ttft_s"] >= 0.010 and known["tpot_s"] > 0 and known["output_tokens"] == 6
    assert known["e2e_latency_s"] >= 0.010 + 5 * 0.003
    assert known["throughput_tok_s"] == pytest.approx(6 * known["request_throughput_req_s"], rel=0.5)
    assert "ttft_p50_s" in known and "ttft_p99_s" not in known  # 46 requests have no p99, least of all their maximum
    (window,) = outcome.extra["windows"]
    assert window["valid"] and window["estimates"]["ttft_s"]["low"] < known["ttft_s"]
    assert window["estimates"]["ttft_p99_s"].keys() == {"low", "n", "n_effective"}
    counted = window["server"]["beside_the_client"]
    tokens = counted["output_tokens"]  # of 46 requests, or of a longer window on a busy machine
    assert tokens["client"] == tokens["server"] >= 46 * 6 and tokens["client"] % 6 == 0 and not tokens["flagged"]
    assert counted["requests"]["client"] == tokens["client"] / 6
    assert outcome.extra["costs"]["warm_up_s"] > 0
    assert json.loads(json.dumps(outcome.to_dict()))["extra"]["windows"][0]["client"]["workers"] == 1


@pytest.mark.slow
def test_prompts_are_fresh_in_every_window(running, loaded, policy):
    server = running()
    engine = loaded(at(server))
    for _ in range(2):
        assert measure(engine, LOOP, policy, seed=1).status is Status.OK
    firsts = [tuple(prompt[:4]) for prompt in server.prompts]
    assert len(set(firsts)) == len(firsts) > 92
    assert {len(prompt) for prompt in server.prompts} == {16, 32}  # 32: the greeting


def test_an_open_loop_keeps_its_rate(running, loaded, policy):
    engine = loaded(at(running("--ttft-ms", "1", "--gap-ms", "0.1")))
    asked = Workload(8, 2, request_rate=60, options=FrozenMap({"process": "constant"}))
    outcome = measure(engine, asked, policy, seed=1)
    assert outcome.status is Status.OK, outcome.error
    assert outcome.samples[0].known()["request_throughput_req_s"] == pytest.approx(60, rel=0.5)


def test_a_batch_is_all_of_its_requests_at_once(running, loaded):
    server = running("--ttft-ms", "20", "--gap-ms", "5")
    engine = loaded(at(server))
    outcome = measure(engine, Workload(8, 5, batch_size=4), Policy(min_repeats=1, max_repeats=1, warmup=0), seed=1)
    assert outcome.status is Status.OK, outcome.error
    (sample,) = outcome.samples
    assert sample.output_tokens == 5 and 0.020 <= sample.ttft_s < sample.e2e_latency_s
    assert server.n_seen == 1 + 4


@pytest.mark.slow
def test_goodput_is_of_the_first_tier_and_told_of_each(running, loaded, policy):
    engine = loaded(at(running()))
    tiers = ((("e2e_latency_s", 60.0),), (("ttft_s", 1e-6), ("tpot_s", 60.0)))
    outcome = measure(engine, LOOP, Policy(min_repeats=1, max_repeats=1, n_requests=46, slo=tiers), seed=1)
    window = (outcome.extra.get("windows") or outcome.extra["invalid_windows"])[0]
    assert [one["share"]["value"] for one in window["attainment"]] == [1.0, 0.0]
    known = outcome.samples[-1].known()
    assert known["goodput_req_s"] == pytest.approx(known["request_throughput_req_s"], rel=1e-5)


@pytest.mark.slow
def test_an_invalid_window_is_kept_and_made_up_for_but_not_for_ever(running, loaded):
    engine = loaded(at(running("--ttft-ms", "1", "--gap-ms", "0.1")))
    strict = Policy(min_repeats=1, max_repeats=1, n_requests=18, validity=(("lateness_s", 60.0), ("idle_share", 1.0)))
    # Valid from 40 requests in the window on, of 18, 36 and 72.
    outcome = measure(engine, Workload(8, 2, concurrency=1), strict, seed=1)
    held = outcome.extra["invalid_windows"]
    assert outcome.status is Status.OK and len(outcome.samples) == 1, outcome.error
    assert len(held) == 2 and "too_few_requests" in {reason["code"] for reason in held[0]["reasons"]}
    assert held[1]["requests"]["ok"] == 36 and held[0]["estimates"]["ttft_s"]["value"] > 0
    never = Policy(min_repeats=1, max_repeats=1, n_requests=5, validity=(("lateness_s", 60.0), ("idle_share", 1.0)))
    outcome = measure(engine, Workload(8, 2, concurrency=1), never, seed=1)
    assert outcome.status is Status.INVALID and "at least 40" in outcome.error
    assert len(outcome.extra["invalid_windows"]) == 3 and len(outcome.samples) == 1  # the data are kept


def test_short_answers_are_no_reason_to_try_longer(running, loaded, policy):
    server = running("--short", "2")
    engine = loaded(Deployment("openai", "other", engine_options={"url": server.url}))
    outcome = measure(engine, LOOP, policy, seed=1)
    assert outcome.status is Status.INVALID and "fewer tokens than asked" in outcome.error
    (window,) = outcome.extra["invalid_windows"]
    told = {reason["code"]: reason["message"] for reason in window["reasons"]}
    assert "one model alone, 'toy'" in told["other_model"] and "'other'" in told["other_model"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--status", "400", "--says", "prompt is too long", "--good", "1"], Status.UNSUPPORTED, "prompt is too long"),
        (["--status", "500", "--says", "CUDA out of memory", "--good", "1"], Status.OUT_OF_MEMORY, "out of memory"),
        (["--status", "429", "--says", "slow down", "--good", "1"], Status.INVALID, "slow down"),
        (["--status", "500", "--says", "oops", "--good", "20"], Status.INVALID, "failed (at most 1%): HTTP 500: oops"),
        (["--status", "401", "--says", "bad key", "--good", "1"], Status.UNSUPPORTED, "engine_options.key_env"),
    ],
)
def test_refusals_end_as_a_status_with_what_the_server_said(running, loaded, policy, words, status, says):
    engine = loaded(at(running(*words)))
    outcome = measure(engine, LOOP, policy, seed=1)
    assert outcome.status is status and says in outcome.error, outcome.error


def test_a_server_that_hangs_is_a_timeout_within_the_limit(running, loaded):
    engine = loaded(at(running("--hang-after", "10")))
    outcome = measure(engine, LOOP, Policy(min_repeats=1, max_repeats=1, time_limit_s=3.0), seed=1)
    assert outcome.status in (Status.TIMEOUT, Status.INVALID) and outcome.wall_s < 60, outcome.error


def test_nobody_there_is_a_failure_to_load():
    from fewmark.engines.openai.engine import OpenAIEngine

    with pytest.raises(CaseFailure) as failure:
        OpenAIEngine().load(Deployment("openai", "toy", engine_options={"url": "http://127.0.0.1:1"}))
    assert failure.value.status is Status.CRASHED and "refused at http://127.0.0.1:1:" in failure.value.reason


def test_what_a_chat_template_adds_is_learned_and_taken_off(running, loaded, policy, words_file):
    server = running()
    engine = loaded(at(server, route="chat", tokenizer=str(words_file)))
    outcome = measure(engine, LOOP, policy, seed=1)
    assert outcome.status is Status.OK, outcome.error
    assert engine.environment()["prompt_overhead_tokens"] == 3
    assert set(outcome.samples[0].requests.input_tokens) == {16}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give the url"),
        ({"url": "http://x", "server": "vllm"}, "one of them"),
        ({"url": "http://x", "colour": 1}, "unknown engine option 'colour'"),
        ({"url": "http://x", "api_key": "secret"}, "no place in a deployment"),
        ({"url": "ftp://x"}, "http://host:port"),
        ({"url": "http://x", "route": "images"}, "route must be"),
        ({"url": "http://x", "key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
        ({"server": "nginx"}, "no server 'nginx' is known"),
        ({"server": "vllm", "env.HF_TOKEN": "hf_secret"}, "no place in a deployment"),
        ({"command": "  "}, "empty"),
        ({"command": "/no/such/program --port {port}"}, "cannot be started"),
    ],
)
def test_wrong_options_are_a_failure_that_says_which(options, says):
    from fewmark.engines.openai.engine import OpenAIEngine

    with pytest.raises(CaseFailure) as failure:
        OpenAIEngine().load(Deployment("openai", "toy", engine_options=options))
    assert failure.value.status is Status.UNSUPPORTED and says in failure.value.reason


@pytest.mark.parametrize(
    ("workload", "says"),
    [
        (Workload(8, 4, concurrency=1, options={"colour": 1}), "no workload option colour"),
        (Workload(8, 4, concurrency=1, options={"burstiness": 2.0}), "give a request_rate"),
        (Workload(8.5, 4, concurrency=1), "input_lengths"),
        (Workload(8, 4, request_rate=1, options={"process": "sometimes"}), "unknown arrival process"),
        (Workload(8, 4, batch_size=2, options={"turns": 2}), "static batch"),
    ],
)
def test_wrong_workloads_are_refused_before_anything_is_sent(running, loaded, workload, says):
    engine = loaded(at(running()))
    with pytest.raises(CaseFailure, match=says):
        engine.check(workload)


def test_a_mix_of_lengths_turns_and_prefixes_is_sent(running, loaded, policy):
    server = running()
    engine = loaded(at(server))
    mixed = {"input_lengths": "8-24", "output_lengths": "2-6", "shared_prefix_share": 0.5, "turns": 2}
    outcome = measure(engine, Workload(16, 4, concurrency=3, options=mixed), policy, seed=1)
    assert outcome.status is Status.OK, outcome.error
    lengths = {len(prompt) for prompt in server.prompts}
    assert len(lengths) > 8 and 2 < outcome.samples[0].output_tokens < 6


@pytest.mark.parametrize("load", [{"concurrency": 3}, {"request_rate": 50.0}])
def test_a_trace_is_replayed_for_the_model_that_is_measured(running, loaded, policy, tmp_path, load):
    server = running()
    engine = loaded(at(server))
    rows = [f"{i / 10},GPT-4,{10 + i % 3},{3 + i % 2},0,API log" for i in range(120)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", *rows]))
    outcome = measure(engine, Workload(11, 3.5, **load, options={"trace": str(path)}), policy, seed=1)
    assert outcome.status is Status.OK, outcome.error
    assert {len(prompt) for prompt in server.prompts} >= {10, 11, 12}
    assert outcome.samples[0].output_tokens == pytest.approx(3.5, abs=0.2)
    with pytest.raises(CaseFailure, match=r"input_tokens: 11, output_tokens: 3\.5"):
        engine.check(Workload(64, 16, concurrency=1, options={"trace": str(path)}))
    with pytest.raises(CaseFailure, match="own lengths"):
        engine.check(Workload(11, 3.5, concurrency=1, options={"trace": str(path), "turns": 2}))


@pytest.mark.slow
def test_beyond_a_rate_that_was_too_much_nothing_is_sent(running, loaded, policy):
    server = running("--slots", "1", "--ttft-ms", "40", "--gap-ms", "1")
    engine = loaded(at(server))
    outcome = measure(engine, Workload(8, 2, request_rate=100), policy, seed=1)
    assert outcome.status is Status.INVALID and "over-saturated" in outcome.error
    n_seen = server.n_seen
    beyond = measure(engine, Workload(8, 2, request_rate=200), policy, seed=1)
    assert beyond.status is Status.INVALID and "not sent" in beyond.error and server.n_seen == n_seen
