"""Large tables go to the store by columns: the same rows as one by one, on ordinary and on odd tables."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.store import origins
from fewmark.verbs import columnar_import
from fewmark.verbs.columnar_import import ColumnarRows
from fewmark.verbs.import_files import import_files

TABLES = ("environments", "deployments", "cases", "measurements", "serving", "origins", "annotations")


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ordinary(n: int = 300) -> list[dict[str, Any]]:
    draw = random.Random(0)
    loads = (1, 2, 4, 8, 16, 64)
    return [
        {"engine": "vllm", "model": f"m{k % 7}", "accelerator": "chip", "accelerator_count": 1 + k % 3,
         "input_tokens": 128 * (1 + k // 42), "output_tokens": 64, "batch_size": loads[k % 6],
         "e2e_latency_s": round(draw.uniform(1, 2), 6), "throughput_tok_s": 100 * (1 + k % 5), "n_repeats": 3}
        for k in range(n)
    ]  # fmt: skip


def odd(n: int = 300) -> list[dict[str, Any]]:
    rows = ordinary(n)
    for k, row in enumerate(rows):
        if k % 2:
            row |= {"option.eager": "true", "option.block size": 16, "option.list": '"[1, {""a"": 2.0}]"'}
        if k % 3 == 0:
            row |= {"batch_size": "", "concurrency": 4, "ttft_p99_s": 0.5, "n_requests": 100, "statistic": "mean"}
        if k % 5 == 0:
            row |= {
                "workload.prefix": 0.5,
                "input_tokens": 100.5,
                "note": "a; remark",
                "flag": "odd; strange",
                "x": 2.0,
            }
        if k % 7 == 0:
            row |= {"status": "out_of_memory", "e2e_latency_s": "", "throughput_tok_s": "", "source": "müller"}
        if k % 11 == 0:
            row |= {"engine": "", "model": "", "precision": "1e400", "placement": '"{""w"": [1.0]}"', "flag": ";"}
        if k % 13 == 0:
            row |= {"api_key": "sk-0123456789abcdef0123", "text": '"{}"', "token": "hush-hush", "y": "nan"}
        if k % 17 == 0:
            row |= {"e2e_latency_s": 1e12, "power_w": 1e20}  # which no run can have
        if k % 19 == 0:
            row |= {"e2e_latency_s": -1.0, "request_throughput_req_s": 0.0}
    return [*rows, *rows[:5]]  # the same rows again are other rows, and a copy in all but the place


def stored(path: Path, store: Path, by_columns: bool, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    with monkeypatch.context() as patch:
        if not by_columns:
            patch.setattr(columnar_import, "MIN_ROWS", 10**9)
        import_files([path], store=str(store))
    with sqlite3.connect(store) as connection:
        out = {}
        for table in TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if "_at" not in row[1][-3:]]
            out[table] = connection.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
    connection.close()
    return out


@pytest.mark.parametrize("rows", [ordinary(), odd()], ids=["ordinary", "odd"])
def test_by_columns_is_one_by_one(rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "table.csv", rows)
    assert ColumnarRows.fits(read_table(path))
    fast = stored(path, tmp_path / "fast.db", True, monkeypatch)
    slow = stored(path, tmp_path / "slow.db", False, monkeypatch)
    assert len(fast["measurements"]) == len(rows)
    for table in TABLES:
        assert sorted(fast[table], key=repr) == sorted(slow[table], key=repr), table
    assert [row[1] for row in fast["measurements"]] == [row[1] for row in slow["measurements"]]  # in the same order


def test_a_last_part_of_one_row_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_BATCH", 299)
    path = written(tmp_path / "results (1).csv", ordinary())  # a name that has no place in a statement's text
    assert len(stored(path, tmp_path / "store.db", True, monkeypatch)["origins"]) == 300


def test_again_adds_nothing_and_another_value_is_told(tmp_path: Path) -> None:
    rows = ordinary()
    path, store = written(tmp_path / "table.csv", rows), str(tmp_path / "store.db")
    assert import_files([path], store=store)[0].n_added == 300
    assert import_files([path], store=store)[0].n_added == 0
    rows[7]["e2e_latency_s"] = 9.0
    (again,) = import_files([written(tmp_path / "other.csv", rows)], store=store)
    assert again.n_added == 1
    assert [value.new for value in again.other_values] == [9.0]


def test_two_tables_are_compared_with_one_another(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{name}.csv", ordinary()) for name in "ab"]
    found = import_files(paths, store=str(tmp_path / "store.db"))
    assert [(file.n_added, file.n_copies) for file in found] == [(300, 0), (0, 300)]


@pytest.mark.parametrize("change", [{"input_tokens": "many"}, {"batch_size": 2.5}, {"e2e_latency_s": "inf"}])
def test_the_error_names_the_row(change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ordinary(4_100)
    rows[4_000] |= change
    path = written(tmp_path / "table.csv", rows)
    told = []
    for least in (200, 10**9):
        with monkeypatch.context() as patch:
            patch.setattr(columnar_import, "MIN_ROWS", least)
            with pytest.raises(FormatError, match="row 4001: ") as caught:
                import_files([path], store=str(tmp_path / "store.db"))
            told.append(str(caught.value))
    assert told[0] == told[1]
    assert not (tmp_path / "store.db").exists()


def test_a_table_with_runs_or_mixed_types_goes_one_by_one(tmp_path: Path) -> None:
    rows = ordinary()
    for extra in ({"run_id": "r"}, {"provenance": "imported"}):
        assert not ColumnarRows.fits(read_table(written(tmp_path / "t.csv", [{**row, **extra} for row in rows])))
    rows[0]["option.mixed"], rows[1]["option.mixed"] = "true", "1"
    assert not ColumnarRows.fits(read_table(written(tmp_path / "t.csv", rows)))
