"""What a store says when it cannot be had: one clear error with advice, and the file untouched."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from fewmark.core import Measurement, StoreError
from fewmark.store import open_store, schema
from fewmark.store.database import Database, parse_url
from fewmark.store.migrations import MIGRATIONS, Migration, migrate

Make = Callable[..., Measurement]
VERSION_1 = Path(__file__).parent / "fixtures" / "version_1.sql"
VERSION_4 = Path(__file__).parent / "fixtures" / "version_4.sql"


def refusal(url: str | Path, *, create: bool = True) -> StoreError:
    with pytest.raises(StoreError) as caught:
        open_store(url, create=create)
    assert caught.value.hint
    return caught.value


def test_a_plain_path_a_url_and_the_environment_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_measurement: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", str(tmp_path / "a.db"))
    with open_store() as store:
        store.add([make_measurement(1)])
    for url in ("a.db", tmp_path / "a.db", "sqlite:///a.db", f"sqlite:///{tmp_path}/a.db"):
        with open_store(url) as store:
            assert store.count() == 1
    monkeypatch.delenv("FEWMARK_STORE")
    with open_store():
        assert (tmp_path / "fewmark.db").exists()


def test_two_stores_in_memory_are_two(make_measurement: Make) -> None:
    with open_store(":memory:") as one, open_store("sqlite://") as two:
        one.add([make_measurement(1)])
        assert two.count() == 0


def test_both_spellings_of_postgresql(postgres: Callable[[], str], make_measurement: Make) -> None:
    url = postgres()
    with open_store(url) as one, open_store(url.replace("postgresql://", "postgresql+psycopg://")) as two:
        one.add([make_measurement(1)])
        assert two.count() == 1


@pytest.mark.parametrize(
    "url",
    ["", " ", "mysql://host/x", "redis://x", "://", "sqlite://host/x.db", "sqlite:///x.db?mode=ro", "sqlite:/x://"],
)
def test_urls_that_name_no_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(url)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("this is not a database, and longer than its header would be " * 20)
    before = path.read_bytes()
    assert "not a database" in str(refusal(path))
    assert path.read_bytes() == before


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    assert "no fewmark store" in str(refusal(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    connection.close()


def test_a_damaged_file(tmp_path: Path, make_measurement: Make) -> None:
    path = tmp_path / "store.db"
    with open_store(path) as store:
        store.add(make_measurement(number) for number in range(500))
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, open_store(path) as store:
        list(store.measurements())
    assert "malformed" in str(caught.value) and "recover" in str(caught.value.hint)


def test_a_truncated_file(tmp_path: Path, make_measurement: Make) -> None:
    path = tmp_path / "store.db"
    with open_store(path) as store:
        store.add(make_measurement(number) for number in range(500))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(StoreError), open_store(path) as store:
        list(store.measurements())


@pytest.mark.usefixtures("no_privileges")
def test_a_folder_that_nobody_may_write() -> None:
    error = refusal("/proc/fewmark.db")
    assert "folder" in error.what


def test_a_read_only_folder_or_file(open_folder: Path, make_measurement: Make, request: pytest.FixtureRequest) -> None:
    path = open_folder / "store.db"
    with open_store(path) as store:
        store.add([make_measurement(1)])
    path.chmod(0o444)
    open_folder.chmod(0o555)
    request.getfixturevalue("no_privileges")
    assert "file must be" in refusal(path).what
    assert "folder must be" in refusal(open_folder / "new.db").what


def test_a_missing_folder_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "mkdir" in str(refusal(tmp_path / "no" / "store.db").hint)
    assert "there is no store" in str(refusal(tmp_path / "store.db", create=False))
    assert "folder" in str(refusal(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_postgresql_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "fewmark[postgres]" in str(refusal("postgresql://user@127.0.0.1/x").hint)


def test_postgresql_that_does_not_answer(postgres: Callable[[], str]) -> None:
    error = refusal("postgresql://user:secret@127.0.0.1:1/x")
    assert "secret" not in str(error) and "server" in str(error.hint)
    assert "createdb" in str(refusal(postgres() + "_missing").hint)


def test_an_old_store_is_brought_up_to_date(tmp_path: Path, make_measurement: Make) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text())
    connection.close()
    expected = [make_measurement(number) for number in range(4)]
    with open_store(path) as store:
        assert list(store.measurements()) == expected
        assert store.add([*expected, make_measurement(4)]) == 1
        assert list(store.predictions()) == store.annotations() == []
        assert store.table()["e2e_latency_s"] == [2.0, 3.0, 4.0, 5.0, 6.0]
    connection = sqlite3.connect(path)
    records = connection.execute("SELECT number, name FROM fewmark_migrations ORDER BY number").fetchall()
    connection.close()
    assert records == [(number, step.name) for number, step in enumerate(MIGRATIONS, 1)]


def test_a_store_from_before_serving_is_brought_up_to_date(durable_url: str, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_4.read_text())
    if not durable_url.startswith("sqlite"):  # the same rows, in tables as PostgreSQL had them
        database = Database(parse_url(durable_url))
        migrate(database, MIGRATIONS[:4])
        with database.write() as connection:
            for table in (
                "environments",
                "deployments",
                "cases",
                "measurements",
                "predictions",
                "annotations",
                "visits",
            ):
                rows = old.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in rows.description]
                quoted = ", ".join(f'"{name}"' for name in names)
                values = ", ".join(f":{name}" for name in names)
                statement = sa.text(f"INSERT INTO {table} ({quoted}) OVERRIDING SYSTEM VALUE VALUES ({values})")
                connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        database.close()
    old.close()
    url = f"sqlite:///{path}" if durable_url.startswith("sqlite") else durable_url
    with open_store(url) as store:
        online, batch, failed = store.measurements()
        assert [m.case.case_id for m in (online, batch, failed)] == [
            "4eac9eeb5741b7aa2c34113b",
            "b93fbaa8f90fb7104133d938",
            "3091cad136ea01cfd344ea6e",
        ]
        assert [m.measurement_id for m in (online, batch, failed)] == store.table()["measurement_id"]
        assert online.measurement_id == "79dbd49ad9128ffd46f91e2b87f488dd"
        table = store.table()
        assert table["ttft_p99_s"][0] == 0.4 and table["goodput_req_s"][0] == 2.0 and table["n_requests"][0] == 200
        assert table["statistic"] == ["mean", "median", None] and table["note"][0] == "converted from ms"
        assert all(rate != rate for rate in table["request_rate"])
        assert len(list(store.predictions())) == len(store.annotations()) == len(list(store.visits())) == 1


def test_the_migrations_lead_to_the_tables_in_use(url: str) -> None:
    database = Database(parse_url(url))
    migrate(database)
    with database.read() as connection:
        inspector = sa.inspect(connection)
        tables = [value for value in vars(schema).values() if isinstance(value, sa.Table)]
        assert {table.name for table in tables} | {"fewmark_migrations"} == set(inspector.get_table_names())
        for table in tables:
            found = {column["name"]: column["type"]._type_affinity for column in inspector.get_columns(table.name)}
            assert list(found) == [column.name for column in table.columns]
            for column in table.columns:
                wanted = column.type._type_affinity
                assert issubclass(found[column.name], wanted) or issubclass(wanted, found[column.name])
    database.close()


def test_a_store_of_a_newer_fewmark_is_left_alone(durable_url: str, make_measurement: Make) -> None:
    database = Database(parse_url(durable_url))
    migrate(database, (*MIGRATIONS, Migration("holograms", ("CREATE TABLE holograms (x TEXT)",))))
    database.close()
    error = refusal(durable_url)
    assert "newer" in error.what and "holograms" in str(error.got) and "upgrade" in str(error.hint)


def test_a_step_that_fails_leaves_nothing(durable_url: str) -> None:
    database = Database(parse_url(durable_url))
    broken = Migration("broken", ("CREATE TABLE half (x TEXT)", "CREATE NONSENSE"))
    with pytest.raises(StoreError):
        migrate(database, (*MIGRATIONS, broken))
    with database.read() as connection:
        assert "half" not in sa.inspect(connection).get_table_names()
    database.close()
    open_store(durable_url).close()
