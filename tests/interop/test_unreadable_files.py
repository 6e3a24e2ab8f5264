"""Files that are no results: told in plain words, without their bytes, with their name once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fewmark.cli import main
from fewmark.core import FormatError, InputError, StoreError
from fewmark.interop import format_names, get_format, read_table

ROW = '{"engine":"e","model":"m","input_tokens":8,"output_tokens":4,"batch_size":1,"e2e_latency_s":2}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe\x1b[31m", "a PNG image"), (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (bytes(range(256)) * 4, "binary data"), (b"\x00" * 64, "binary data"),
    ],
)  # fmt: skip
def test_binary_data_is_named_not_printed(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "f.dat"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_table(path)
    assert caught.value.got == says
    assert "text" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"[{ROW},\n{ROW[:40]}", "line 2"), (ROW[:-4], "line 1"),
        (f"{ROW}\n{ROW}\n{ROW[:30]}\n", "line 3"),
    ],
)  # fmt: skip
def test_json_that_is_cut_short_says_where(text: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        read_table(path)
    assert "cut short" in caught.value.what or "malformed JSON" in caught.value.what
    assert "fetch it again" in str(caught.value.hint)
    assert where in str(caught.value)


def test_an_empty_folder_is_named_and_a_path_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["import", "empty", "--store", "s.db"]) == 2
    told = capsys.readouterr().err
    assert "got:  empty" in told
    assert "the folder is empty" in told
    runs = tmp_path / "runs"
    runs.mkdir()
    header = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s"
    (runs / "a.csv").write_text(f"{header}\ne,m,8,4,1,2.0\n", encoding="utf-8")
    (runs / "b.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    assert main(["import", "runs", "--store", "s.db"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip().startswith("runs/b.csv:")]
    assert line.count("b.csv") == 1


def test_paths_are_written_as_they_are_typed() -> None:
    error = StoreError("there is no store", got=Path("/data/x.db"))
    assert "got:  /data/x.db" in str(error)
    assert "Path(" not in str(InputError("x", got=Path("a")))


def test_parquet_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": pa.repeat(pa.scalar(1, pa.int8()), 3_000_000)}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 50_000
    with pytest.raises(FormatError, match="unpacks to far more"):
        read_table(tmp_path / "bomb.parquet")


def test_a_long_text_that_stands_in_many_rows_of_parquet_is_held_once(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {"engine": ["e"] * 100, "note": ["x" * 10_000] * 100, "batch_size": [1] * 100}
    columns |= {"input_tokens": [8] * 100, "output_tokens": list(range(1, 101)), "e2e_latency_s": [1.0] * 100}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    notes = read_table(tmp_path / "t.parquet")["note"]
    assert len({id(note) for note in notes}) == 1


def test_halves_of_characters_are_read_as_unknown_ones(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    row = r'[{"\ud801": "\ud800", "engine": "e", "model": "a\ud800b", "input_tokens": 8, "output_tokens": 4, '
    file.write_text(row + '"batch_size": 1, "e2e_latency_s": 2}]')
    for _ in range(2):  # compared with what the store holds the second time
        assert main(["import", str(file), "--store", str(tmp_path / "s.db")]) == 0
    assert main(["export", str(tmp_path / "out.csv"), "--store", str(tmp_path / "s.db")]) == 0
    assert "a\ufffdb" in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_an_argument_with_nul_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model-file", "a\0b", "--cases", "t.csv"]) == 2
    assert "NUL" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["\n" * 60_000, "\n " * 30_000, '{"a": 1\n' + "\t" * 60_000, "{\n" * 30_000])
def test_blanks_are_looked_at_once(text: str, tmp_path: Path) -> None:
    began = time.process_time()  # of this process alone: a loaded machine does not count
    for name in format_names():
        get_format(name).sniff(tmp_path / "x.txt", text.encode())
    assert time.process_time() - began < 5  # where each was looked at for each, it was 20
