"""Servers' counters are read by their whole names and set beside the client's numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewmark.core.errors import FormatError
from fewmark.load.server_metrics import compare_with_server, parse_exposition

from .made import closed_run

RUN = closed_run(4, 100)  # 100 requests, 1,100 tokens, 10,000 prompt tokens; TTFT 0.1, 0.02 a token
EPOCH = 1.79e9


def vllm(requests=0, ttft=0.0, tokens=0, prompt=0, hits=0, preempted=0, itl=0.0) -> str:
    labels = 'engine="0",model_name="a \\"b\\" {c}"'
    return f"""# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{{labels}}} {tokens}.0
vllm:generation_tokens_created{{{labels}}} {EPOCH}
vllm:prompt_tokens_total{{{labels}}} {prompt / 2}
vllm:prompt_tokens_total{{engine="1"}} {prompt / 2}
vllm:prompt_tokens_by_source_total{{{labels},source="x"}} 777
vllm:request_success_total{{{labels},finished_reason="length"}} {requests}
vllm:request_success_total{{{labels},finished_reason="abort"}} 0
vllm:request_success_created{{{labels},finished_reason="length"}} {EPOCH}
vllm:prefix_cache_hits_total{{{labels}}} {hits}
vllm:num_preemptions_total{{{labels}}} {preempted}
vllm:time_to_first_token_seconds_bucket{{{labels},le="+Inf"}} {requests}
vllm:time_to_first_token_seconds_sum{{{labels}}} {ttft * requests}
vllm:time_to_first_token_seconds_count{{{labels}}} {requests}
vllm:time_to_first_token_seconds_created{{{labels}}} {EPOCH}
vllm:inter_token_latency_seconds_sum{{{labels}}} {itl * requests * 10} 1790000000000
vllm:inter_token_latency_seconds_count{{{labels}}} {requests * 10} # {{trace_id="x"}} 0.1
vllm:kv_cache_usage_perc NaN
"""


BEFORE = parse_exposition(vllm(requests=7, ttft=9.0, tokens=50, prompt=70))


def after(**changes):
    """What the server would say had it seen what the client saw, but for `changes`."""
    seen = {"requests": 100, "ttft": 0.099, "tokens": 1100, "prompt": 10_000, "itl": 0.02} | changes
    later = parse_exposition(vllm(**seen))
    return {name: value + BEFORE.get(name, 0.0) for name, value in later.items()}


def compare(run=RUN, **changes):
    return compare_with_server(BEFORE, after(**changes), run)


def test_samples_are_summed_over_labels_under_their_whole_name():
    samples = parse_exposition(vllm(prompt=10, tokens=3))
    assert samples["vllm:prompt_tokens_total"] == 10
    assert samples["vllm:generation_tokens_total"] == 3
    assert samples["vllm:generation_tokens_created"] == EPOCH
    assert "vllm:kv_cache_usage_perc" not in samples
    assert not any(name.endswith("_bucket") for name in samples)


def test_a_server_that_agrees_is_not_flagged():
    report = compare()
    assert report.server == "vllm"
    assert report.flagged == ()
    assert report.notes == ()
    by_metric = {c.metric: c for c in report.comparisons}
    assert set(by_metric) == {"requests", "output_tokens", "input_tokens", "ttft_s", "itl_s"}
    assert by_metric["ttft_s"].difference == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"tokens": 1200}, "output_tokens"),
        ({"prompt": 10_100}, "input_tokens"),
        ({"requests": 101}, "requests"),
        ({"ttft": 0.08}, "ttft_s"),
        ({"itl": 0.025}, "itl_s"),
    ],
)
def test_what_differs_is_flagged(change, metric):
    flagged = compare(**change).flagged
    assert metric in {c.metric for c in flagged}
    assert all(c.note for c in flagged)


def test_cache_hits_and_preemptions_are_told():
    report = compare(hits=512, preempted=3)
    assert (report.cached_tokens, report.preemptions) == (512, 3)
    assert any("prefix cache" in note for note in report.notes)
    assert any("again" in note for note in report.notes)
    meant = compare_with_server(BEFORE, after(hits=512), RUN, shared_prefixes=True)
    assert meant.notes == ()


def test_a_server_that_was_started_anew_is_told():
    report = compare_with_server(after(), BEFORE, RUN)
    assert any("started anew" in note for note in report.notes)
    assert report.comparisons == ()


def test_llama_servers_prompt_tokens_leave_out_the_cached_ones():
    text = "llamacpp:prompt_tokens_total 9000\nllamacpp:prompt_tokens_cached_total 1000\n"
    text += "llamacpp:tokens_predicted_total 1100\nllamacpp:tokens_predicted_seconds_total 20.0\n"
    report = compare_with_server({}, parse_exposition(text), RUN)
    assert report.server == "llama-server"
    assert {c.metric: c.server for c in report.comparisons} == {
        "output_tokens": 1100,
        "input_tokens": 10_000,
        "itl_s": pytest.approx(0.02),  # of 11 tokens there are 10 gaps
    }
    assert report.flagged == ()


@pytest.mark.parametrize("colon", [":", "_"])
def test_sglang_has_two_spellings(colon):
    name = f"sglang{colon}"
    text = "".join(f'{name}prompt_tokens_total{{is_streaming="{s}"}} {n}\n' for s, n in (("true", 4000), ("no", 6000)))
    text += f"{name}generation_tokens_total 1100\n{name}num_requests_total 100\n{name}num_retracted_reqs 48\n"
    report = compare_with_server({}, parse_exposition(text), RUN)
    assert report.server == "sglang"
    assert report.flagged == ()
    assert len(report.comparisons) == 3


def test_metrics_of_no_known_server_are_no_report():
    report = compare_with_server({}, {"tgi_request_count": 3.0}, RUN)
    assert report.server is None
    assert report.notes


def test_what_the_client_does_not_know_is_not_compared():
    unknown = replace(RUN, records=tuple(replace(r, completion_tokens=None) for r in RUN.records))
    assert "output_tokens" not in {c.metric for c in compare(unknown).comparisons}


@pytest.mark.parametrize("text", ["", "<html>no</html>", "# only comments\n"])
def test_what_is_no_exposition_is_refused(text):
    with pytest.raises(FormatError):
        parse_exposition(text)
