"""Many files are read by several processes: the same is stored, found and refused."""

import json
import sqlite3

import pytest

from fewmark.core import FewmarkError
from fewmark.verbs import files_read
from fewmark.verbs.import_files import import_files


def runs(folder, n=5):
    folder.mkdir()
    for number in range(n):
        run = {
            "date": f"20261101-12000{number}", "backend": "vllm", "model_id": "org/m", "request_rate": "inf",
            "max_concurrency": 1 + number, "duration": 60 + number, "num_prompts": 10, "completed": 10, "failed": 0,
            "total_input_tokens": 5120, "total_output_tokens": 320, "request_throughput": 10 / (60 + number),
            "output_throughput": 320 / (60 + number), "total_token_throughput": 5440 / (60 + number),
            "mean_ttft_ms": 200.0 + number, "mean_tpot_ms": 10.0,
        }  # fmt: skip
        (folder / f"run-{number}.json").write_text(json.dumps(run))
    (folder / "notes.txt").write_text("nothing of interest")
    (folder / "table.csv").write_text("model,input_tokens,output_tokens,batch_size,e2e_latency_s\nm,8,8,1,1000000\n")
    return folder


def outcome(folder, path):
    words = []
    found = import_files([folder], store=f"sqlite:///{path}", progress=words.append)
    with sqlite3.connect(path) as connection:
        stored = {
            table: sorted(map(repr, connection.execute(f"SELECT {columns} FROM {table}")))
            for table, columns in (
                ("measurements", "measurement_id, body"),
                ("cases", "case_id"),
                ("origins", "measurement_id, file, place"),
                ("records", "body"),
                ("annotations", "measurement_id, body"),
            )
        }
    told = [(file.path, file.format, file.n_rows, file.n_added, file.findings, file.notes) for file in found]
    return told, found.passed_over, stored, words


@pytest.mark.slow
def test_other_processes_read_the_same(tmp_path, monkeypatch):
    folder = runs(tmp_path / "runs")
    alone = outcome(folder, tmp_path / "alone.db")
    monkeypatch.setattr(files_read, "MANY_FILES", 2)
    monkeypatch.setattr(files_read, "MANY_BYTES", 0)
    monkeypatch.setattr(files_read.os, "cpu_count", lambda: 2)
    together = outcome(folder, tmp_path / "together.db")
    assert together == alone
    assert sum(file[3] for file in alone[0]) == 6 and any("notes.txt" in name for name in alone[1])
    assert any("(3 of 7)" in text for text in alone[3])
    (folder / "table.csv").write_text("model,input_tokens,output_tokens,batch_size,e2e_latency_s\nm,8,8,1,often\n")
    with pytest.raises(FewmarkError) as caught:
        import_files([folder], store=f"sqlite:///{tmp_path / 'broken.db'}")
    assert "table.csv" in str(caught.value)


def test_small_files_are_stored_together(tmp_path):
    told, _, _, words = outcome(runs(tmp_path / "runs"), tmp_path / "store.db")
    assert [file[3] for file in told] == [1] * 6
    assert [text for text in words if text.startswith("storing")] == ["storing 6 files"]
