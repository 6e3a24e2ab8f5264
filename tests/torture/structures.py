"""Structures that hypothesis makes: workers' messages, measurements, and what is done to a store, in whatever order."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guard import announce
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from inputs import measurements
from tally import Clock, Tally

from fewmark.core import FewmarkError, Measurement, Status
from fewmark.engines.measuring.policy import Outcome
from fewmark.interop import from_measurements
from fewmark.runner.worker.messages import MARK, message_of
from fewmark.store import Annotation, Store, open_store, salvage_store

EXAMPLES = 200  # of one round
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 10**400, 1e308, 2**63]))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), st.sampled_from(["ok", "\ud800", "\0"]))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
times = st.one_of(st.floats(1e-6, 1e4), values)
samples = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("e2e_latency_s", "ttft_s", "tpot_s", "throughput_tok_s", "power_w"), times),
        "output_tokens": st.one_of(st.integers(0, 10_000), values),
        "token_times_s": st.one_of(st.lists(times, max_size=6), values),
        "new": values,
    },
)
results = st.fixed_dictionaries(
    {"event": st.one_of(st.just("result"), values)},
    optional={
        "status": st.one_of(st.sampled_from(list(map(str, Status))), values),
        "samples": st.one_of(st.lists(samples, max_size=4), values),
        **dict.fromkeys(("wall_s", "energy_j"), times),
        **dict.fromkeys(("flags", "error", "extra", "provenance", "projection", "environment"), values),
    },
)


def a_message(message: dict[str, Any]) -> None:
    """Any message is a measurement, which every later step takes, or one error."""
    try:
        text = json.dumps(message).encode()
    except ValueError:
        return
    answer = message_of(MARK + b"1, " + text[1:])
    try:
        found = Outcome.from_dict(answer).to_measurement(measurements()[0].case, startup_s=0.5, environment={"a": 1})
    except FewmarkError:
        return
    again = Measurement.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again == found and again.measurement_id == found.measurement_id
    from_measurements([found])
    with open_store(":memory:") as store:
        store.add([found])
        assert list(store.measurements()) == [found]
        store.table()


OPERATIONS = ("add", "add again", "retract", "take back", "claim", "release", "salvage", "read")
steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 19)), max_size=25)


def a_history(done: list[tuple[str, int]]) -> None:
    """Whatever is done to a store, in whatever order: what was added is there, once, and what holds of it is known."""
    held = measurements()
    with tempfile.TemporaryDirectory() as name:
        store = open_store(Path(name) / "s.db")
        added: dict[str, Measurement] = {}
        retracted: set[str] = set()
        try:
            for number, (what, at) in enumerate(done):
                one = held[at]
                key = one.measurement_id
                if what.startswith("add"):
                    assert store.add([one]) == (key not in added)
                    added[key] = one
                elif what in ("retract", "take back") and key in added:
                    action = "exclude" if what == "retract" else "clear"
                    store.annotate([Annotation(key, "retracted", action, f"why {number}")])
                    (retracted.add if action == "exclude" else retracted.discard)(key)
                elif what == "claim":
                    assert store.claim(one.case.case_id, "me", store.latest()) or key in added
                elif what == "release":
                    store.release("me")
                elif what == "salvage":
                    store = _salvaged(store, Path(name), number)
                assert {m.measurement_id for m in store.measurements()} == set(added)
                assert set(store.withdrawn()) == retracted
        finally:
            store.close()


def _salvaged(store: Store, folder: Path, number: int) -> Store:
    """The store that takes another one's place, with all that it held."""
    store.close()
    old = max(folder.glob("s*.db"), key=lambda path: path.stat().st_mtime_ns)
    new = open_store(folder / f"s{number}.db")
    salvage_store(old, new)
    return new


def run(start: int, seconds: float) -> list[Tally]:
    """Each property for half of the time, with one seed after the other."""
    return [
        tried("structure: a worker's message", a_message, results, start, Clock(seconds / 2)),
        tried("structure: a store's history", a_history, steps, start, Clock(seconds / 2)),
    ]


def tried(what: str, holds: Callable[[Any], None], strategy: st.SearchStrategy[Any], first: int, clock: Clock) -> Tally:
    """Rounds of examples until the time is over; one that fails is made as small as it can be."""
    tally, number = Tally(what), first
    while clock:
        announce(f"{what}: seed {number}")
        try:
            examples(holds, strategy, number, clock, tally)()
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", []))
            tally.fault(error, f"seed {number}: {' '.join(notes.split())[:500]}")
        number += 1
    return tally


def examples(
    holds: Callable[[Any], None], strategy: st.SearchStrategy[Any], number: int, clock: Clock, tally: Tally
) -> Callable[[], None]:
    """One round of examples, by their seed."""
    failing: list[bool] = []

    @seed(number)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), print_blob=False,
    )  # fmt: skip
    @given(strategy)
    def one(value: Any) -> None:
        if not clock and not failing:
            return
        tally.tried += 1
        began = time.process_time()
        try:
            holds(value)
        except Exception:
            failing.append(True)  # from now on it is made smaller, however late it is
            raise
        tally.took(time.process_time() - began)

    return one
