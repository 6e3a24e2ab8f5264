"""Bodies say what was asked for, on either route; send times go to requests and first turns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from fewmark.core.errors import InputError
from fewmark.load.lengths import FixedLength
from fewmark.load.mixes import RequestClass, RequestMix, RequestSpec, Segment
from fewmark.load.plans import BodyOptions, make_plans
from fewmark.load.prompts import TextPrompts, TokenIdPrompts

IDS = TokenIdPrompts(salt="p")


def bodies(mix: RequestMix, prompts, options: BodyOptions, n: int = 3):
    return [json.loads(plan.body) for plan in itertools.islice(make_plans(mix.requests(), prompts, options), n)]


def test_a_completion_is_sent_as_ids_with_an_exact_length():
    (plan,) = itertools.islice(make_plans(RequestMix.of(16, 4).requests(), IDS, BodyOptions("m")), 1)
    body = json.loads(plan.body)
    assert len(body.pop("prompt")) == 16
    assert body == {
        "model": "m",
        "max_tokens": 4,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (plan.path, plan.input_tokens, plan.output_tokens, plan.planned_send_s) == ("/v1/completions", 16, 4, None)


def test_a_chat_has_a_message_for_each_turn(tokenizer_file: Path):
    mix = RequestMix((RequestClass(FixedLength(20), FixedLength(5), shared_prefix_share=0.5, turns=FixedLength(2)),))
    prompts = TextPrompts(tokenizer_file, salt="c")
    options = BodyOptions("m", route="chat", stream=False, ignore_eos=False, max_tokens_field="max_completion_tokens")
    first, second = bodies(mix, prompts, options, 2)
    assert [m["role"] for m in first["messages"]] == ["user"]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0]["content"].startswith(first["messages"][0]["content"])
    assert first["max_completion_tokens"] == 5
    assert not {"stream", "stream_options", "ignore_eos", "max_tokens"} & first.keys()


def test_a_requests_own_model_and_fields_go_first():
    mix = RequestMix((RequestClass(FixedLength(4), FixedLength(1), model="lora", extra_body={"top_k": 1, "seed": 2}),))
    body = bodies(mix, IDS, BodyOptions("base", extra_body={"top_k": 9, "temperature": 1}), 1)[0]
    assert (body["model"], body["top_k"], body["seed"], body["temperature"]) == ("lora", 1, 2, 1)


def test_send_times_go_to_requests_and_end_the_plans():
    plans = list(make_plans(RequestMix.of(4, 1).requests(), IDS, BodyOptions("m"), [0.0, 0.5, 0.75]))
    assert [p.planned_send_s for p in plans] == [0.0, 0.5, 0.75]


def test_only_first_turns_have_a_send_time():
    mix = RequestMix((RequestClass(FixedLength(4), FixedLength(1), turns=FixedLength(3), think_s=1.0),))
    plans = list(make_plans(mix.requests(), IDS, BodyOptions("m"), [0.0, 0.5]))
    assert [p.planned_send_s for p in plans] == [0.0, None, None, 0.5, None, None]
    assert [p.think_s > 0 for p in plans] == [False, True, True] * 2


def test_a_trace_keeps_its_own_times():
    specs = [RequestSpec(i, (Segment(f"r/{i}", 3),), 1, time_s=t) for i, t in enumerate([0.0, 2.5])]
    assert [p.planned_send_s for p in make_plans(specs, IDS, BodyOptions("m"))] == [0.0, 2.5]


def test_what_cannot_be_a_body_is_refused():
    with pytest.raises(InputError, match="token ids"):
        bodies(RequestMix.of(4, 1), IDS, BodyOptions("m", route="chat"))
    with pytest.raises(InputError, match="JSON"):
        bodies(RequestMix.of(4, 1), IDS, BodyOptions("m", extra_body={"x": float("nan")}))
    with pytest.raises(InputError, match="route"):
        BodyOptions("m", route="embeddings")
