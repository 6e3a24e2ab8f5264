"""Tokenizers of the three common kinds, trained here on made-up words."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

KINDS = ("byte-level", "metaspace", "unigram")


def corpus() -> list[str]:
    rng = random.Random(5)
    syllables = ["ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "vu", "ze", "th", "ing", "er", "al"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(600)]
    return [" ".join(rng.choices(words, weights=[1 / (i + 3) for i in range(600)], k=40)) for _ in range(400)]


@pytest.fixture(scope="session", params=KINDS)
def tokenizer_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<unk>", "<s>", "</s>"]
    if request.param == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer: trainers.UnigramTrainer | trainers.BpeTrainer = trainers.UnigramTrainer(
            vocab_size=700, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        byte_level = request.param == "byte-level"
        tokenizer.pre_tokenizer = (
            pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
        )
        tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=900,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
            show_progress=False,
        )
    tokenizer.train_from_iterator(corpus(), trainer)
    if request.param != "unigram":  # these two add a BOS, as many served models do
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    tokenizer.save(str(path))
    return path
