"""The worker as a zip on a bare interpreter: a file of cases into a file of measurements."""

import json
import os
import resource
import subprocess
import sys
import zipfile

import pytest

from fewmark.core import Case, Deployment, Measurement, Status, Workload
from fewmark.engines.worker.archive import write_archive

DUMMY = Deployment("dummy", "toy", engine_options={"note": "no"})
CASES = [Case(DUMMY, Workload(4, n, batch_size=b)) for n in (2, 3) for b in (1, 2)]
FAILING = Case(DUMMY, Workload(4, 2, batch_size=1, options={"do": "short"}))


@pytest.fixture
def batch(tmp_path, plugin, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    archive = write_archive(tmp_path / "worker.zip")

    def run(cases, *options, largest_file=resource.RLIM_INFINITY):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

        (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case.to_dict()) + "\n" for case in cases))
        # -I -S: nothing but the standard library and the zip, neither this checkout nor any installed package.
        files = ("--cases", str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "results.jsonl"))
        command = [sys.executable, "-I", "-S", str(archive), "--path", str(plugin), *files, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=limit)

    run.results = tmp_path / "results.jsonl"
    return run


def read(path):
    return [Measurement.from_dict(json.loads(line)) for line in path.read_text().splitlines()]


def test_the_archive_holds_core_load_and_engines_alone_and_is_reproducible(tmp_path):
    first, second = write_archive(tmp_path / "a.zip"), write_archive(tmp_path / "b.zip")
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
    assert first.read_bytes() == second.read_bytes()
    assert {name.split("/")[1] for name in names if "/" in name} == {"__init__.py", "core", "engines", "load"}
    assert all(name.endswith(".py") for name in names)


def test_a_batch_runs_on_a_bare_interpreter(batch):
    done = batch(CASES, "--max-repeats", "4")
    assert done.returncode == 0, done.stderr
    results = read(batch.results)
    assert {m.case.case_id for m in results} == {case.case_id for case in CASES}
    assert all(m.status is Status.OK and m.n_repeats == 3 for m in results)
    assert all(m.environment["host"]["python"] and m.environment["engine"]["pid"] for m in results)


def test_a_failed_case_is_a_result_and_tells_in_the_exit_code(batch):
    assert batch([FAILING, CASES[0]]).returncode == 1
    assert [m.status for m in read(batch.results)] == [Status.INVALID, Status.OK]


def test_a_batch_goes_on_where_it_was_killed(batch):
    assert batch(CASES[:3]).returncode == 0
    whole = batch.results.read_bytes()
    torn = whole[:-20]  # as a kill in the middle of a write leaves it
    batch.results.write_bytes(torn)
    assert batch(CASES).returncode == 0
    results = read(batch.results)
    assert len(results) == 4 and {m.case.case_id for m in results} == {case.case_id for case in CASES}
    assert batch.results.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:2]))


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        ('{"deployment": {}}\n', "line 1: not a case"),
        ("nonsense\n", "line 1: not a case"),
        (
            '{"deployment": {"engine": "warp", "model": "m"}, "workload": {"input_tokens": 1, "output_tokens": 1, '
            '"batch_size": 1}}\n',
            "unknown engine",
        ),
    ],
)
def test_a_wrong_request_is_one_clear_error(batch, tmp_path, cases, says):
    batch([])
    (tmp_path / "wrong.jsonl").write_text(cases)
    done = batch([], "--cases", str(tmp_path / "wrong.jsonl"))
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


FOREIGN = [
    "something else\n",
    "something else",
    '{"case": 1}',
    "{",
    '{"case": {"deployment": 1}}\n',
    "\0\0\0x",
    "a,b\n1,2",
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_that_is_not_ours_is_left_as_it_is(batch, content):
    batch.results.write_text(content)
    done = batch(CASES)
    assert done.returncode == 2 and "not a measurement" in done.stderr and "Traceback" not in done.stderr
    assert batch.results.read_text() == content


def test_what_is_not_ours_after_what_is_refuses_the_file_as_well(batch):
    assert batch(CASES[:1]).returncode == 0
    content = batch.results.read_text() + "a note\n"
    batch.results.write_text(content)
    assert batch(CASES).returncode == 2
    assert batch.results.read_text() == content


def test_a_last_record_without_a_line_feed_is_kept(batch):
    assert batch(CASES[:2]).returncode == 0
    whole = batch.results.read_bytes()
    batch.results.write_bytes(whole[:-1])
    assert batch(CASES).returncode == 0
    assert batch.results.read_bytes().startswith(whole)
    assert len(read(batch.results)) == len(CASES)


def test_a_kill_at_any_byte_of_a_record_loses_that_record_alone(tmp_path):
    from fewmark.engines.worker.batch import _finished

    lines = [json.dumps(Measurement(case).to_dict()).encode() + b"\n" for case in CASES[:2]]
    path = tmp_path / "results.jsonl"
    for length in range(len(lines[1]) + 1):
        path.write_bytes(lines[0] + lines[1][:length])
        with path.open("ab+") as file:
            done = _finished(file, path)
        kept = 2 if length >= len(lines[1]) - 1 else 1
        assert len(done) == kept and path.read_bytes() == b"".join(lines[:kept])


@pytest.mark.slow
def test_results_that_are_no_file_are_refused(batch, tmp_path):
    batch([])
    os.mkfifo(tmp_path / "pipe")
    for place in (str(tmp_path / "pipe"), str(tmp_path), "/dev/null"):
        done = batch(CASES, "--out", place)
        assert done.returncode == 2 and "must be a file" in done.stderr


def test_two_batches_never_write_the_same_results(batch):
    import fcntl

    with batch.results.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = batch(CASES)
    assert done.returncode == 2 and "another batch" in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_what_was_measured_stays(batch):
    assert batch(CASES[:2]).returncode == 0
    kept = batch.results.read_bytes()
    done = batch(CASES, largest_file=len(kept) + 100)
    assert done.returncode == 2 and "cannot write the results" in done.stderr and "Traceback" not in done.stderr
    assert batch(CASES).returncode == 0
    assert batch.results.read_bytes().startswith(kept) and len(read(batch.results)) == len(CASES)
