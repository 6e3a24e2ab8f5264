"""What is printed steers no terminal, is not lost on a full disk, and is executed by no spreadsheet."""

import csv
import io
import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import Card
from fewmark.core.cards import Table
from fewmark.interop import read_table, write_table
from fewmark.interop.write import csv_text
from fewmark.reporting.text import render_csv

HOSTILE = "m\x1b[2J\x07\x9b31m\u202e"


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    deployments = json.dumps([{"engine": "replay", "model": HOSTILE}])
    path.write_text(
        f"deployments: {deployments}\ncells: [{{grid: {{input_tokens: 8, output_tokens: 2, batch_size: [1, 2]}}}}]\n"
    )
    return path


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_control_characters_of_data_do_not_reach_the_terminal(suite, capsys, options):
    assert main(["suites", str(suite), *options]) == 0
    text = capsys.readouterr().out
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    if options:
        assert json.loads(text)["cases"][0]["deployment"]["model"] == HOSTILE
    assert main(["suites", HOSTILE]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_full_disk_behind_standard_output_is_one_error(suite):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "fewmark", "suites", str(suite), "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "-3.5", "plain", 'say "="']


def test_formulas_are_neutralised_and_read_back_as_they_were(tmp_path):
    table = {"input_tokens": [8.0] * 8, "output_tokens": [2.0] * 8, "batch_size": range(1, 9), "model": FORMULAS}
    frame = pd.DataFrame({**table, "note": FORMULAS, "e2e_latency_s": [1.0] * 8})
    rows = list(csv.DictReader(io.StringIO(csv_text(frame, list(frame), safe=True))))
    shown = [row[name] for row in rows for name in ("model", "note")]
    assert all(cell[:1] not in "=+-@\t\r" or cell == "-3.5" for cell in shown)
    write_table(frame, tmp_path / "safe.csv", safe=True)
    write_table(frame, tmp_path / "raw.csv")
    safe, raw = read_table(tmp_path / "safe.csv"), read_table(tmp_path / "raw.csv")
    pd.testing.assert_frame_equal(safe, raw)
    assert safe["model"].tolist()[:4] == FORMULAS[:4]


def test_reports_as_csv_hold_no_formula():
    card = Card("c", "=title", tables=(Table("t", ("a",), (("=cmd",), (-1.5,))),))
    cells = [cell for row in csv.reader(io.StringIO(render_csv([card], "x"))) for cell in row]
    assert "'=cmd" in cells and "'=title" in cells and "-1.5" in cells


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--data", "PATH", "--cases", "cases.csv"],
        ["screen", "--data", "PATH"],
        ["import", "PATH"],
        ["suites", "PATH.yaml"],
        ["run", "PATH.yaml"],
        ["recommend", "--data", "PATH", "--slo", "ttft_s=1"],
        ["compare", "PATH", "llm-pilot"],
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "long", "nul", "folder", "missing"])
def test_an_input_that_is_no_file_is_one_error(tmp_path, capsys, monkeypatch, arguments, kind):
    monkeypatch.chdir(tmp_path)
    for name in ("pipe", "pipe.yaml"):
        os.mkfifo(name)
    (tmp_path / "folder").mkdir()
    place = {"long": "x" * 5000, "nul": "a\0b"}.get(kind, kind)
    assert main([part.replace("PATH", place) for part in arguments]) == 2
    said = capsys.readouterr().err
    assert "error: " in said and len(said.partition("error: ")[2]) < 3000


def test_json_has_no_infinity(tmp_path, capsys):
    rows = [f"vllm,m,H100,1,128,128,{batch},{batch * 90}" for batch in (1, 2)]
    head = "engine,model,accelerator,accelerator_count,input_tokens,output_tokens,batch_size,throughput_tok_s"
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "c.csv").write_text("input_tokens,output_tokens,batch_size\n128,128,4\n")
    asked = ["predict", "--data", str(tmp_path / "t.csv"), "--cases", str(tmp_path / "c.csv"), "--model", "loglog"]
    assert main([*asked, "--no-cache", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row["high"] is None or row["high"] > row["value"]


def test_notes_are_in_json_too_and_an_unknown_target_says_what_became_of_it(tmp_path, capsys):
    rows = [f"vllm,m,H100,1,128,128,{batch},{batch * 90},0" for batch in (1, 2, 4)]
    head = "engine,model,accelerator,accelerator_count,input_tokens,output_tokens,batch_size,throughput_tok_s,ttft_s"
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "c.csv").write_text("input_tokens,output_tokens,batch_size\n128,128,8\n")
    asked = ["--data", str(tmp_path / "t.csv"), "--no-prior", "--no-cache"]
    for verb in (["predict", "--cases"], ["plan", "--model", "none", "--ask", "1", "--space"]):
        assert main([*verb, str(tmp_path / "c.csv"), *asked, "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert any("3 of 3 rows corrected" in note for note in row["notes"])
        assert not {"status", "power_w"} & set(row)
    assert main(["predict", "--cases", str(tmp_path / "c.csv"), *asked, "--target", "ttft_s"]) == 2
    told = capsys.readouterr().err
    assert "3 rows, with throughput_tok_s" in told
    assert "no run can have ttft_s 0; taken as unknown" in told
