"""Prompts have exactly the tokens that were asked for, share what is named alike, and nothing else."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.core.errors import InputError
from fewmark.load.mixes import Segment
from fewmark.load.prompts import TextPrompts, TokenIdPrompts, load_tokenizer, overhead_from_usage


def fresh(number: int, tokens: int) -> list[Segment]:
    return [Segment(f"request/{number}", tokens)]


def common_start(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_token_ids_are_exact(lengths):
    prompt = TokenIdPrompts(salt="s").make([Segment(str(i), n) for i, n in enumerate(lengths)])
    assert prompt.tokens == sum(lengths) == len(prompt.ids or [])
    assert prompt.text is None


def test_no_two_prompts_begin_with_the_same_token():
    maker = TokenIdPrompts(range(100, 600), salt="a")
    firsts = [(maker.make(fresh(i, 8)).ids or [])[0] for i in range(500)]
    assert len(set(firsts)) == 500
    beginnings = {tuple((maker.make(fresh(i, 8)).ids or [])[:3]) for i in range(3000)}
    assert len(beginnings) == 3000


def test_another_run_has_other_prompts_and_the_same_salt_the_same():
    first, second = TokenIdPrompts(), TokenIdPrompts()
    assert first.salt != second.salt
    assert first.make(fresh(0, 64)) != second.make(fresh(0, 64))
    assert TokenIdPrompts(salt=first.salt).make(fresh(0, 64)) == first.make(fresh(0, 64))


def test_a_named_prefix_is_shared_and_ends_where_it_ends():
    maker = TokenIdPrompts(salt="x")
    a = maker.make([Segment("prefix/0", 50), Segment("request/1", 20)]).ids or []
    b = maker.make([Segment("prefix/0", 50), Segment("request/2", 20)]).ids or []
    assert 50 <= common_start(a, b) < 53


def test_text_is_exact_by_the_tokenizer(tokenizer_file: Path):
    maker = TextPrompts(tokenizer_file, salt="t")
    rng = random.Random(2)
    for number in range(60):
        tokens = rng.choice([2, 3, 4, 17, 128, 1000, 5000])
        prompt = maker.make(fresh(number, tokens))
        assert prompt.tokens == tokens
        ids = load_tokenizer(tokenizer_file).encode(prompt.text or "").ids
        assert len(ids) == tokens


def test_text_keeps_the_named_beginning_over_the_turns_of_a_conversation(tokenizer_file: Path):
    maker = TextPrompts(tokenizer_file.parent, salt="t")
    turns = [Segment("prefix/0", 40), Segment("user/0", 30), Segment("answer/0", 25, "assistant"), Segment("user/1", 9)]
    short, long = maker.make(turns[:2]), maker.make(turns)
    assert (short.tokens, long.tokens) == (70, 104)
    encode = load_tokenizer(tokenizer_file).encode
    # all that the first turn sent, but for the words that stand for the tokenizer's own tokens
    assert common_start(encode(short.text or "").ids, encode(long.text or "").ids) >= 69


def test_texts_begin_with_different_words(tokenizer_file: Path):
    maker = TextPrompts(tokenizer_file, salt="t")
    beginnings = {tuple((maker.make(fresh(i, 20)).text or "").split()[:3]) for i in range(500)}
    assert len(beginnings) == 500


def test_a_templates_overhead_is_learned_from_usage_and_taken_off(tokenizer_file: Path):
    plain = TextPrompts(tokenizer_file, salt="t").make(fresh(0, 128))
    overhead = overhead_from_usage(plain, 137)
    assert overhead == 9
    maker = TextPrompts(tokenizer_file, salt="t", overhead_tokens=overhead)
    assert maker.count(maker.make(fresh(0, 128)).text or "") == 119


def test_a_prompt_shorter_than_the_template_is_refused(tokenizer_file: Path):
    with pytest.raises(InputError, match="at least"):
        TextPrompts(tokenizer_file, overhead_tokens=10).make(fresh(0, 5))


def test_random_ids_decoded_would_not_have_kept_their_number(tokenizer_file: Path):
    tokenizer = load_tokenizer(tokenizer_file)
    rng = random.Random(0)
    same = 0
    for _ in range(50):
        text = tokenizer.decode(rng.choices(range(3, tokenizer.get_vocab_size()), k=128))
        same += len(tokenizer.encode(text, add_special_tokens=False).ids) == 128
    assert same < 25


def test_what_is_no_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        TextPrompts(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        TextPrompts(tmp_path)


def test_a_tokenizer_without_whole_words_is_refused(tmp_path: Path):
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[])).save(str(path))
    with pytest.raises(InputError, match="fewer than"):
        TextPrompts(path)


@pytest.mark.parametrize("segments", [[], [Segment("a", 0)], [Segment("a", 4), Segment("b", -1)]])
def test_empty_prompts_are_refused(segments):
    with pytest.raises(InputError):
        TokenIdPrompts().make(segments)


@pytest.mark.parametrize("ids", [range(3), [*range(-1, 100)]])
def test_too_few_or_negative_ids_are_refused(ids):
    with pytest.raises(InputError):
        TokenIdPrompts(ids)
