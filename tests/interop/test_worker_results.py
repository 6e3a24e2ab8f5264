"""The worker program's results come into the store whole, however the batch ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, Measurement, Sample, Workload
from fewmark.interop import read_table
from fewmark.store import open_store


def measurements() -> list[Measurement]:
    deployment = Deployment(engine="transformers", model="llama-tiny", engine_options={"threads": 1})
    return [
        Measurement(
            Case(deployment, Workload(128, 4, batch_size=batch)),
            samples=tuple(Sample(e2e_latency_s=t, ttft_s=t / 4, token_times_s=(t / 4, t)) for t in (0.1, 0.2, 0.4)),
            measured_at="2026-01-01T00:00:00+00:00",
        )
        for batch in (1, 2)
    ]


def write(path: Path, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(m.to_dict()) + "\n" for m in measurements()) + tail, encoding="utf-8")
    return path


def test_every_sample_reaches_the_store_and_only_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    file = write(tmp_path / "results.jsonl")
    for _ in range(2):
        assert main(["import", str(file), "--store", url]) == 0
    with open_store(url) as store:
        assert sorted(store.measurements(), key=lambda m: m.case.workload.load) == measurements()


def test_a_batch_that_was_killed_in_mid_line_keeps_what_is_whole(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path / "results.jsonl", tail='{"case": {"deploy'))
    assert frame["e2e_latency_s"].tolist() == [0.2, 0.2]
    assert frame["option.threads"].tolist() == [1, 1]


def test_half_a_line_at_the_end_is_told_and_a_whole_one_that_is_wrong_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "x.db")]
    file = write(tmp_path / "results.jsonl", tail='{"case": {}, "status": "ok"}')
    assert main(["import", str(file), *store]) == 2
    assert "line 3" in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()
    write(tmp_path / "results.jsonl", tail='{"case": {"deploy')
    assert main(["import", str(file), *store]) == 0
    assert "line 3 breaks off" in "".join(capsys.readouterr())


@pytest.mark.parametrize("line", ['{"case": {}, "workload": 1}', "[1]", "nonsense"])
def test_a_damaged_line_is_named_and_nothing_is_stored(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "results.jsonl")
    file.write_text(file.read_text().replace("\n", f"\n{line}\n", 1), encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'x.db'}"
    assert main(["import", str(file), "--store", url]) == 2
    assert "line 2" in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()
