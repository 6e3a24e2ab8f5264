"""Claims: one run measures a case; a run that is gone, or silent for too long, holds nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fewmark.core import Measurement
from fewmark.core.processes import process_identity
from fewmark.store import Store, claims, open_store

Make = Callable[[int], Measurement]
US, THEM = f"us {process_identity()}", f"them {process_identity()}"


def test_a_case_is_claimed_by_one_run(store: Store) -> None:
    since = store.latest()
    assert store.claim(["a"], US, since) == store.claim(["a"], US, since) == {"a"}
    assert not store.claim(["a"], THEM, since)
    assert store.claim(["b"], THEM, since)
    assert store.claimed(["a", "b", "c"], US) == {"b"}
    store.release(US)
    assert store.claimed(["a", "b"], "") == {"b"} and store.claim(["a"], THEM, since)


def test_what_was_measured_meanwhile_is_not_claimed(store: Store, make_measurement: Make) -> None:
    store.add([make_measurement(1)])
    since = store.latest()
    one, two = make_measurement(1).case.case_id, make_measurement(2).case.case_id
    store.add([make_measurement(2)])
    assert store.claim([one], US, since) and not store.claim([two], US, since)
    assert store.measured_since([one, two], since) == {two}


def test_a_lease_expires_unless_it_is_renewed(store: Store) -> None:
    for case, lease_s in (("a", -1.0), ("b", -1.0)):
        assert claims.claim(store._database, [case], US, 0, lease_s)
    assert store.claim(["a"], THEM, 0)
    store.renew(US)
    assert not store.claim(["b"], THEM, 0)


def test_claims_of_a_killed_process_end_at_once(durable_url: str) -> None:
    script = (
        "import os, sys; from fewmark.store import open_store; from fewmark.core.processes import process_identity\n"
        "store = open_store(sys.argv[1])\n"
        "assert store.claim(['a'], 'x ' + process_identity(), 0)\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, durable_url], timeout=120)
    with open_store(durable_url) as store:
        assert store.claimed(["a"], US) == set() and store.claim(["a"], US, 0)


def test_claims_of_another_machine_last_for_their_lease(store: Store) -> None:
    assert store.claim(["a"], "x elsewhere/pid:[1] 1 1", 0)
    assert not store.claim(["a"], US, 0)


@pytest.mark.parametrize("identity", ["", "x", "x y", "x y z", "one more word"])
def test_an_owner_that_nobody_knows_is_taken_to_live(tmp_path: Path, identity: str) -> None:
    identity = f"{process_identity()} " if identity == "one more word" else identity
    with open_store(tmp_path / "store.db") as store:
        assert store.claim(["a"], f"word {identity}", 0) and not store.claim(["a"], US, 0)
