"""Errors say what, got and hint, and survive the way between processes."""

import json

from fewmark.core import FewmarkError, InputError
from fewmark.core.metrics import METRICS, derive_metrics


def test_an_error_says_what_got_and_hint() -> None:
    error = InputError("batch_size must be a whole number", got=1.5, hint="use 1 or 2")
    assert str(error) == "batch_size must be a whole number\n  got:  1.5\n  hint: use 1 or 2"
    assert error.exit_code == 2
    assert isinstance(error, FewmarkError)


def test_a_long_value_is_shortened() -> None:
    assert len(str(InputError("no", got="x" * 10_000))) < 400


def test_an_error_can_cross_a_process_boundary() -> None:
    error = InputError("what", got={"a": 1}, hint="hint")
    rebuild, arguments = error.__reduce__()
    again = rebuild(*arguments)  # type: ignore[operator]
    assert (type(again), again.what, again.got, again.hint) == (InputError, "what", {"a": 1}, "hint")


def test_metric_names_carry_their_unit() -> None:
    for name, metric in METRICS.items():
        assert name.endswith(("_s", "_tok_s"))
        assert metric.name == name


def test_a_known_value_is_never_changed() -> None:
    known = {"e2e_latency_s": 2.0, "throughput_tok_s": 1.0, "total_throughput_tok_s": 3.0}
    derived = derive_metrics(known, input_tokens=10, output_tokens=10, batch_size=10)
    assert {name: derived[name] for name in known} == known
    assert json.dumps(derived)
