"""What comes from outside is bounded, steers no terminal and gives no secret away."""

import json
import tracemalloc

import numpy as np
import pytest

from fewmark.core import InputError
from fewmark.core.text import MASK, brief, masked, printable, without_secrets


@pytest.mark.parametrize(
    "value",
    ["x" * 10**7, [0] * 10**6, {str(n): n for n in range(10**5)}, 10**5000],
    ids=["text", "list", "dict", "int"],
)
def test_an_error_never_prints_the_whole_of_what_it_got(value: object) -> None:
    tracemalloc.start()
    text = str(InputError("no", got=value))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(text) < 400 and peak < 2**21


def test_what_and_hint_are_bounded_too() -> None:
    assert len(str(InputError("x" * 10**6, hint="y" * 10**6))) < 10_000


def test_a_value_that_cannot_be_shown_is_named() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Hostile" in brief(Hostile())
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(brief(deep)) < 100


def test_control_characters_do_not_reach_a_terminal() -> None:
    hostile = "a\x1b[2J\x07\x9b31m\x7f\r\u202eb\ud800"
    shown = printable(hostile)
    assert shown.isprintable() and "\x1b" not in shown
    assert json.loads(f'"{shown}"') == hostile
    assert printable("line\n\ttab · é 模型") == "line\n\ttab · é 模型"
    assert "\x1b" not in str(InputError("w\x1b", got="g\x1b", hint="h\x1b"))


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY=abcd1234efgh",
        "sk-abcdefghijklmnopqrstuv",
        "hf_abcdefghijklmnopqrstuv",
        "Authorization: Bearer abcd1234efgh",
        "postgresql://user:abcd1234efgh@host/db",
        "{'password': 'abcd1234efgh'}",
        "ghp_abcd1234efghijklmnopqrst",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abcd1234efgh",
    ],
)
def test_what_looks_like_a_key_is_masked(text: str) -> None:
    shown = without_secrets(f"before {text} after")
    assert MASK in shown and "abcd1234" not in shown and "ijkl" not in shown
    assert shown.startswith("before ") and shown.endswith(" after")
    assert without_secrets(shown) == shown


def test_ordinary_words_are_left_alone() -> None:
    text = "max_tokens=4096, output_tokens: 12, key: batch_size, http://host:8000/v1, skip-the-line-of-requests-here"
    assert without_secrets(text) == text


def test_a_json_value_is_masked_by_its_names_as_well() -> None:
    value = {"env": {"HF_TOKEN": "abc", "PATH": "/bin"}, "argv": ["--api-key=abcdefgh"], "tokens": 7}
    assert masked(value) == {"env": {"HF_TOKEN": MASK, "PATH": "/bin"}, "argv": [f"--api-key={MASK}"], "tokens": 7}


def test_an_array_librarys_numbers_are_shown_as_numbers() -> None:
    assert brief({"batch_size": np.float64(8.0), "rows": [np.int64(3)]}) == "{'batch_size': 8.0, 'rows': [3]}"


def test_what_a_variable_holds_as_a_secret_is_masked_wherever_it_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct horse")
    monkeypatch.setenv("LICENCE", "battery staple")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "a correct horse, a battery staple"
    assert without_secrets(text) == f"a {MASK}, a battery staple"
    monkeypatch.setenv("FEWMARK_SECRETS", "OTHER, LICENCE")
    assert without_secrets(text) == f"a {MASK}, a {MASK}"
