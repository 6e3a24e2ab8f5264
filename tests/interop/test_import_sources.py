"""What can be imported: files, folders, globs, archives; within bounds, all or nothing, and nothing twice."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import InputError
from fewmark.interop import archives
from fewmark.store import open_store
from fewmark.verbs.import_files import import_files

FIXTURES = Path(__file__).parent / "fixtures"
HEAD = "engine,model,accelerator,input_tokens,output_tokens,concurrency,ttft_s,throughput_tok_s"


def rows(scale: float = 1.0, loads: tuple[int, ...] = (1, 8, 32)) -> str:
    return HEAD + "".join(f"\nvllm,m,H100,1024,128,{n},{0.0411 * n * scale},{119.6 * n**0.8 / scale}" for n in loads)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", "sqlite:///store.db")
    runs = tmp_path / "runs"
    (runs / "deep").mkdir(parents=True)
    (runs / "a.csv").write_text(rows(loads=(1, 8)))
    (runs / "deep" / "b.csv").write_text(rows(loads=(16, 32)))
    (runs / "notes.md").write_text("# what we did\n")
    (runs / "empty.json").write_text("")
    (runs / ".hidden.csv").write_text(rows(loads=(64,)))
    return tmp_path


def count() -> int:
    with open_store() as store:
        return store.count()


def zipped(members: dict[str, str | bytes], name: str = "runs.zip") -> Path:
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as out:
        for member, content in members.items():
            out.writestr(member, content)
    return Path(name)


def tarred(members: dict[str, str], name: str = "runs.tar.gz") -> Path:
    with tarfile.open(name, "w:gz" if name.endswith("gz") else "w") as out:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content.encode())
            out.addfile(info, io.BytesIO(content.encode()))
    return Path(name)


def test_a_folder_is_read_and_what_is_no_result_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "runs"]) == 0
    told = capsys.readouterr()
    assert "runs/a.csv: 2 rows of format csv, 2 added" in told.out
    assert "runs/deep/b.csv: 2 rows" in told.out
    assert "runs/notes.md: " in told.err and "no known format" in told.err
    assert "runs/empty.json: " in told.err
    assert "hidden" not in told.err + told.out
    assert count() == 4


def test_a_glob_is_read() -> None:
    assert [str(file.path) for file in import_files(["runs/**/*.csv"])] == ["runs/a.csv", "runs/deep/b.csv"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar", "csv.gz", "nested"])
def test_archives_are_told_by_their_content(kind: str) -> None:
    members = {"x/a.csv": rows(), "x/readme": "nothing", "__MACOSX/x/._a.csv": "junk"}
    if kind == "zip":
        zipped(members).rename("archive")
    elif kind == "csv.gz":
        Path("archive").write_bytes(gzip.compress(rows().encode()))
    elif kind == "nested":
        inner = zipped(members, "inner.zip").read_bytes()
        zipped({"inner.zip": inner}).rename("archive")
    else:
        tarred(members, f"runs.{kind}").rename("archive")
    done = import_files(["archive"])
    assert [file.n_added for file in done] == [3]
    assert str(done[0].path).startswith("archive/")
    assert import_files(["archive"])[0].n_added == 0


def test_nothing_leaves_the_archive_and_links_are_not_followed(folder: Path) -> None:
    with tarfile.open("bad.tar", "w") as out:
        for name in ("../evil.csv", "/tmp/evil-of-fewmark.csv", "a/../../evil.csv", "good.csv"):
            info = tarfile.TarInfo(name)
            info.size = len(rows())
            out.addfile(info, io.BytesIO(rows().encode()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"special-{kind!r}")
            info.type = kind
            info.linkname = "/etc/passwd"
            out.addfile(info)
    before = set(folder.rglob("*"))
    done = import_files(["bad.tar"])
    assert [str(file.path) for file in done] == ["bad.tar/good.csv"]
    assert len(done.passed_over) == 7
    assert not Path("/tmp/evil-of-fewmark.csv").exists()
    assert {path for path in set(folder.rglob("*")) - before if "store.db" not in path.name} == set()
    zipped({"..\\evil.csv": rows(), "C:/evil.csv": rows(), "good.csv": rows()})
    assert len(import_files(["runs.zip"]).passed_over) == 2


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "MAX_RATIO", 50)
    zipped({"bomb.csv": "0" * (8 << 20)})
    with pytest.raises(InputError, match="unpacks to far more"):
        import_files(["runs.zip"])
    Path("bomb.gz").write_bytes(gzip.compress(b"0" * (8 << 20)))
    with pytest.raises(InputError, match="unpacks to far more"):
        import_files(["bomb.gz"])
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    zipped({f"{n}.txt": "" for n in range(11)})
    with pytest.raises(InputError, match="too many members"):
        import_files(["runs.zip"])
    deep = zipped({"a.csv": rows()}, "0.zip")
    for n in range(1, 4):
        deep = zipped({deep.name: deep.read_bytes()}, f"{n}.zip")
    with pytest.raises(InputError, match="nothing to import"):
        import_files([deep])
    assert not Path("store.db").exists()


@pytest.mark.parametrize("cut", [30, 120, -30])
@pytest.mark.parametrize("name", ["runs.zip", "runs.tar.gz", "runs.tar"])
def test_damaged_archives_give_one_error(name: str, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"a.csv": rows(), "b.csv": rows(2.0, tuple(range(1, 200)))}
    path = zipped(content, name) if name.endswith("zip") else tarred(content, name)
    path.write_bytes(path.read_bytes()[:cut])
    code = main(["import", name])
    told = capsys.readouterr().err
    assert code == 2 or name.startswith("runs.tar")  # a tar cut behind its last member has no way to tell
    assert "Traceback" not in told
    assert code == 0 or name in told


def test_a_spreadsheet_a_pipe_and_a_device_are_refused() -> None:
    zipped({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}, "book.xlsx")
    with pytest.raises(InputError, match="spreadsheet"):
        import_files(["book.xlsx"])
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/zero"):
        with pytest.raises(InputError, match="regular file"):
            import_files([name])


def test_one_bad_row_far_down_stores_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    text = rows(loads=tuple(range(1, 4001))) + "\nvllm,m,H100,1024,128,4001,0.1,fast\n"
    Path("runs/deep/c.csv").write_text(text)
    assert main(["import", "runs"]) == 2
    told = capsys.readouterr().err
    assert "runs/deep/c.csv: row 4001: throughput_tok_s" in told
    assert not Path("store.db").exists()
    for number in range(12):  # what is no result does not hide what is a damaged one
        Path(f"runs/a{number}.txt").write_text("hello")
    assert main(["import", "runs", "--keep-going"]) == 0
    told = capsys.readouterr().err
    assert "files cannot be read, and were left out:\n  runs/deep/c.csv: row 4001: throughput_tok_s" in told
    assert "… and" in told
    assert count() == 4


def test_all_broken_files_are_named_at_once() -> None:
    for name in ("x", "y"):
        Path(f"runs/{name}.csv").write_text(f"{HEAD}\nvllm,m,H100,1024,128,1,0.1,fast\n")
    with pytest.raises(InputError, match="2 files cannot be read, and nothing was stored") as caught:
        import_files(["runs"])
    assert "runs/x.csv: row 1" in caught.value.what and "runs/y.csv: row 1" in caught.value.what


def test_a_copy_in_another_file_adds_nothing() -> None:
    reordered = rows().splitlines()
    Path("copy.csv").write_text("\n".join([reordered[0], *reversed(reordered[1:])]))
    Path("one.csv").write_text(rows())
    first = import_files(["one.csv", "copy.csv"])
    assert [(file.n_added, file.n_copies) for file in first] == [(3, 0), (0, 3)]
    assert [file.n_added for file in import_files(["copy.csv"])] == [0]
    assert count() == 3


def test_a_corrected_file_is_told_and_supersedes_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("v1.csv").write_text(rows())
    Path("v2.csv").write_text(rows(0.125))
    assert main(["import", "v1.csv"]) == 0
    capsys.readouterr()
    assert main(["import", "v2.csv"]) == 0
    told = capsys.readouterr().out
    assert "3 rows are known already with another value: both are kept" in told
    assert " → " in told and "(v1.csv, imported 20" in told
    assert "--supersede" in told
    assert main(["import", "v2.csv", "--supersede", "--json"]) == 0
    (done,) = json.loads(capsys.readouterr().out)
    assert (done["n_added"], done["n_superseded"]) == (0, 3)
    with open_store() as store:
        table = store.table()
        believed = [rate for rate, flag in zip(table["throughput_tok_s"], table["flag"], strict=True) if not flag]
        assert believed == pytest.approx([119.6 * n**0.8 * 8 for n in (1, 8, 32)])
    assert main(["screen"]) == 0
    with open_store() as store:
        assert {mark.reason for mark in store.annotations() if mark.rule == "replaced"} == {"superseded by v2.csv"}


def test_an_edit_in_place_is_not_merely_added(capsys: pytest.CaptureFixture[str]) -> None:
    Path("v.csv").write_text(rows())
    assert main(["import", "v.csv"]) == 0
    Path("v.csv").write_text(rows(2.0))
    assert main(["import", "v.csv", "--supersede"]) == 0
    told = capsys.readouterr().out
    assert "the earlier ones are superseded" in told


def with_run(detail: str, ttft: float, run: str = "r1", extra: str = "") -> str:
    head = "source,engine,model,input_tokens,output_tokens,concurrency,ttft_s,throughput_tok_s,tool,run_id,detail,x"
    return f"{head}\nt,vllm,m,1024,128,8,{ttft},700,t,{run},{detail},{extra}\n"


def test_one_run_in_two_files_is_one_row_the_richer() -> None:
    Path("summary.csv").write_text(with_run("summary", 0.5))
    Path("requests.csv").write_text(with_run("requests", 0.51))
    done = import_files(["summary.csv", "requests.csv"])
    assert [(file.n_added, file.n_poorer) for file in done] == [(0, 1), (1, 0)]
    with open_store() as store:
        assert store.table()["ttft_s"] == [0.51]


def test_one_run_imported_twice_keeps_the_richer_whatever_the_order() -> None:
    Path("summary.csv").write_text(with_run("summary", 0.5))
    Path("requests.csv").write_text(with_run("requests", 0.51))
    assert import_files(["summary.csv"])[0].n_added == 1
    (done,) = import_files(["requests.csv"])
    assert (done.n_added, done.n_superseded) == (1, 1)
    assert [file.n_poorer for file in import_files(["summary.csv"])] == [1]
    with open_store() as store:
        table = store.table()
        assert [t for t, flag in zip(table["ttft_s"], table["flag"], strict=True) if not flag] == [0.51]


def test_two_runs_of_a_case_are_repeats() -> None:
    Path("one.csv").write_text(with_run("summary", 0.5, "r1"))
    Path("two.csv").write_text(with_run("summary", 0.55, "r2"))
    done = [import_files([name])[0] for name in ("one.csv", "two.csv")]
    assert [(file.n_added, file.other_values) for file in done] == [(1, ()), (1, ())]


def test_the_original_record_is_kept_without_secrets() -> None:
    Path("v.csv").write_text(
        "engine,model,isl,osl,concurrency,TTFT (ms),api_key\nvllm,m,1024,128,8,41.2,sk-abcdefghijklmnopqrstuvwx\n"
    )
    import_files(["v.csv"])
    with open_store() as store:
        (measurement,) = store.measurements()
        (origin,) = store.origins([measurement.measurement_id])[measurement.measurement_id]
    assert (origin.file, origin.format, origin.place) == ("v.csv", "csv", "row 1")
    assert origin.record is not None
    record = json.loads(origin.record)
    assert record["TTFT (ms)"] == "41.2"
    assert "sk-abc" not in origin.record
    assert origin.modified_at and origin.imported_at
    assert "sk-abc" not in json.dumps(measurement.to_dict())


def test_the_records_of_parquet_and_of_wide_tables() -> None:
    pd.DataFrame(
        {"m": ["x"], "isl": [128], "osl": [32], "concurrency": [8], "TTFT (ms)": [41.2], "note": [None]}
    ).rename(columns={"m": "model"}).to_parquet("p.parquet")
    Path("w.csv").write_text("model,isl,osl,ttft_ms bs=1,ttft_ms bs=8\ny,128,32,100,\nz,128,32,,200\n")
    import_files(["p.parquet", "w.csv"])
    with open_store() as store:
        held = {m.case.deployment.model: m.measurement_id for m in store.measurements()}
        origins = store.origins(held.values())
    records = {model: json.loads(origins[key][0].record or "null") for model, key in held.items()}
    assert records["x"] == {"model": "x", "isl": 128, "osl": 32, "concurrency": 8, "TTFT (ms)": 41.2}
    assert records["z"]["place"] == "row 2, column ttft_ms bs=8"
    assert records["z"]["ttft_ms"] == "200"


def test_a_row_that_says_the_same_with_less_known_is_not_stored(capsys: pytest.CaptureFixture[str]) -> None:
    head = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s,tensor_parallel_size,throughput_tok_s"
    Path("plain.csv").write_text(f"{head}\nv,m,128,128,1,2.7183456789012345,,\nv,m,128,128,8,3.9,,262564\n")
    Path("rich.csv").write_text(f"{head}\nv,m,128,128,1,2.7183456789012345,4,\n")
    assert [(file.n_added, file.n_copies) for file in import_files(["plain.csv", "rich.csv"])] == [(1, 1), (1, 0)]
    assert main(["screen"]) == 0
    assert "row 1 (plain.csv, row 2): throughput_tok_s is 2.626e+05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("guidellm-0.8.1/mock-closed-c1.json", ("config", "spec", "backend", "backend_kwargs")),
        ("aiperf-0.13.0/closed-c4/profile_export_aiperf.json", ("run_info",)),
        ("vllm-bench-0.32.0/closed-c4-plain.json", ()),
    ],
)
def test_secrets_in_tools_files_are_in_neither_the_row_nor_the_kept_record(name: str, place: tuple[str, ...]) -> None:
    source = FIXTURES / name
    value = json.loads(source.read_text())
    inner = value
    for key in place:
        inner = inner.setdefault(key, {})
    inner |= {
        "api_key": "sk-abcdefghijklmnopqrstuvwx",
        "cli_command": "aiperf profile --api-key sk-abcdefghijklmnopqrstuvwx -H 'Authorization: Bearer abcd1234efgh'",
        "server_info": {"api_key": "sk-abcdefghijklmnopqrstuvwx", "admin_token": "abcd1234efgh"},
    }
    Path(source.name).write_text(json.dumps(value))
    import_files([source.name])
    with open_store() as store:
        (measurement,) = store.measurements()
        origins = store.origins([measurement.measurement_id])[measurement.measurement_id]
    kept = json.dumps([origin.record for origin in origins]) + json.dumps(measurement.to_dict())
    assert "abcdefghijkl" not in kept and "abcd1234" not in kept


def test_what_tools_leave_beside_their_results_stops_no_folder() -> None:
    Path("mixed").mkdir()
    with zipfile.ZipFile("mixed/exp_summary.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
    log = '[transformers] PyTorch was not found.\n2026-11-28 - INFO - {"load_summary": 1, "successes": 2}\n'
    Path("mixed/log.txt").write_text(log)
    Path("mixed/result.json").write_text((FIXTURES / "vllm-bench-0.32.0" / "closed-c4-plain.json").read_text())
    assert [(file.n_added, Path(file.path).name) for file in import_files(["mixed"])] == [(1, "result.json")]
    with pytest.raises(InputError, match="a spreadsheet"):
        import_files(["mixed/exp_summary.xlsx"])
