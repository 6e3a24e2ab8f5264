"""A damaged store is one message that says what to do; what can still be read of it is saved."""

import json
import random
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fewmark.cli import main
from fewmark.core import Measurement, Status, StoreError
from fewmark.store import Annotation, check_store, open_store, salvage_store
from fewmark.store.database import parse_url

Make = Callable[[int], Measurement]
N_ROWS = 40


@pytest.fixture
def path(tmp_path: Path, make_measurement: Make) -> Path:
    found = tmp_path / "store.db"
    with open_store(found) as store:
        store.add(make_measurement(number) for number in range(N_ROWS))
        store.annotate([Annotation(make_measurement(3).measurement_id, "retracted", "exclude", "why")])
    return found


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys=OFF")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_a_new_store_is_its_owners_alone_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path) as store:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        store.latest()
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())
    path.chmod(0o640)
    open_store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("value", ["-1.0", "9e999", "1e300", "'text'", "x'ff00'"])
def test_one_absurd_value_stops_nobody_who_reads_the_rest(path: Path, value: str) -> None:
    change(path, f"UPDATE measurements SET e2e_latency_s = {value} WHERE number = 5")
    with open_store(path) as store:
        table = store.table()
        assert [s for s in table["status"] if s == "invalid"] == ["invalid"] and len(table["status"]) == N_ROWS
        assert all(isinstance(v, float) for v in table["e2e_latency_s"])
        assert len(list(store.measurements())) == N_ROWS


def test_an_absurd_body_is_an_invalid_measurement(path: Path) -> None:
    connection = sqlite3.connect(path)
    body = json.loads(connection.execute("SELECT body FROM measurements WHERE number = 5").fetchone()[0])
    for change_to in ({"samples": [{"e2e_latency_s": "a"}]}, {"samples": 5}, {"cost": {"wall_s": -1}}, {"status": 7}):
        connection.execute("UPDATE measurements SET body = ? WHERE number = 5", [json.dumps({**body, **change_to})])
        connection.commit()
        with open_store(path) as store:
            found = list(store.measurements())
        assert len(found) == N_ROWS and found[4].status is Status.INVALID and "stored" in str(found[4].error)
    connection.close()


DAMAGE = {
    "a body that is no JSON": "UPDATE measurements SET body = '{' WHERE number = 5",
    "a body without its case": "UPDATE measurements SET body = '{}' WHERE number = 5",
    "a text that is none": "UPDATE measurements SET body = CAST(x'ff' AS TEXT) WHERE number = 5",
    "an environment that is none": "UPDATE environments SET body = '['",
    "an environment that is gone": "DELETE FROM environments",
    "an environment of no name": "UPDATE measurements SET environment_id = '' WHERE number = 5",
    "a deployment that is gone": "DELETE FROM deployments",
    "a table that is gone": "DROP TABLE measurements",
    "a column that is gone": "ALTER TABLE measurements RENAME COLUMN body TO other",
    "an emptied table of migrations": "DELETE FROM fewmark_migrations",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_error_that_names_the_way_out(path: Path, kind: str) -> None:
    change(path, DAMAGE[kind])

    def read() -> None:
        with open_store(path) as store:
            list(store.measurements())
            store.table()

    with pytest.raises(StoreError) as caught:
        read()
    assert "fewmark store" in str(caught.value)
    found = check_store(path)
    assert found.n_faults or kind == "a deployment that is gone"  # every body holds its deployment


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if "table that" not in kind and "column" not in kind])
def test_everything_but_the_damage_is_saved(path: Path, tmp_path: Path, kind: str, make_measurement: Make) -> None:
    change(path, DAMAGE[kind])
    before = path.read_bytes()
    with open_store(tmp_path / "new.db") as new:
        found = salvage_store(path, new)
        saved = {m.case for m in new.measurements()}
        marks = [mark.reason for mark in new.annotations()]
    lost = N_ROWS - len(saved)
    assert lost == (1 if kind.startswith(("a body", "a text")) else 0) and marks in (["why"], [])
    assert found.n_read["measurements"] == len(saved) and path.read_bytes() == before


@pytest.mark.slow
def test_pages_that_are_overwritten_cost_what_is_on_them(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    rng = random.Random(4)
    for number in range(12):
        content = bytearray(whole)
        page = rng.randrange(1, len(whole) // 4096) * 4096
        content[page : page + 4096] = rng.randbytes(4096)
        damaged = tmp_path / f"{number}.db"
        damaged.write_bytes(content)
        try:
            with open_store(tmp_path / f"new{number}.db") as new:
                salvage_store(damaged, new)
                assert new.count() <= N_ROWS
        except StoreError as error:
            assert "sqlite3 FILE .recover" in str(error)
        try:
            with open_store(damaged) as store:
                store.table()
                list(store.measurements())
        except StoreError:
            pass


def test_the_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", "--store", str(path)]) == 0
    change(path, DAMAGE["a body that is no JSON"])
    assert main(["store", "check", "--store", str(path)]) == 1
    assert "measurements 5" in capsys.readouterr().out
    new = str(tmp_path / "new.db")
    assert main(["store", "salvage", new, "--store", str(path)]) == 1
    assert main(["store", "check", "--store", new]) == 0
    assert main(["store", "salvage", new, "--store", str(path)]) == 2
    for place in (tmp_path / "missing.db", tmp_path):
        assert main(["store", "check", "--store", str(place)]) == 2


@pytest.mark.parametrize(
    "url", ["a\0b.db", "sqlite:///a\0b.db", "postgresql://u@h/a\0b", "x" * 300 + ".db", "/dev/zero"]
)
def test_a_place_that_is_none(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError):
        open_store(url)


def test_a_wait_for_postgresql_has_an_end_and_says_which(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch, make_measurement: Make
) -> None:
    import psycopg

    monkeypatch.setattr("fewmark.store.database.LOCK_TIMEOUT_S", 1)
    url = postgres()
    with open_store(url) as store, psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [0x6665776D61726B])
        with pytest.raises(StoreError, match="lock timeout") as caught:
            store.add([make_measurement(1)])
        assert "another writer" in str(caught.value)
        other.rollback()
        assert store.add([make_measurement(1)]) == 1


def test_a_connection_that_postgresql_ended_is_opened_again(
    postgres: Callable[[], str], make_measurement: Make
) -> None:
    import psycopg

    url = postgres()
    with open_store(url) as store, psycopg.connect(url, autocommit=True) as other:
        store.add([make_measurement(1)])
        mine = "pid <> pg_backend_pid() AND datname = current_database()"
        other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        assert store.add([make_measurement(2)]) == 1 and store.count() == 2


def test_a_password_is_in_no_error() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://user:geheimnis@127.0.0.1:1/x")
    assert "geheimnis" not in str(caught.value) and "geheimnis" not in repr(parse_url("postgresql://u:geheimnis@h/x"))
