"""A map says what the columns of somebody's table are; it is guessed from names, values and identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewmark.cli import main
from fewmark.core import InputError
from fewmark.interop.mapping import guess_map, raw_columns, read_map, read_mapped
from fewmark.store import open_store

ROWS = [(1, 1069.9, 41.2, 119.6), (8, 1345.3, 88.0, 761.2), (32, 2231.9, 301.5, 1835.2)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", "sqlite:///store.db")
    body = "\n".join(f"1024,128,{b},{e},{f},{r / 4},x" for b, e, f, r in ROWS)
    Path("odd.csv").write_text(f"p_in,p_out,n_par,t_all,t_1st,speed,remark\n{body}\n")
    Path("odd.yaml").write_text(
        "columns:\n  p_in: input_tokens\n  p_out: output_tokens\n  n_par: batch_size\n"
        "  t_all: {column: e2e_latency_s, unit: ms}\n  t_1st: {column: ttft_s, unit: ms}\n"
        "  speed: {column: throughput_tok_s, per: accelerator}\n  remark: null\n"
        "constants: {model: org/m, accelerator: H100, accelerator_count: 4}\n"
    )


def test_a_map_names_columns_units_and_what_is_per_accelerator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "odd.csv", "--map", "odd.yaml"]) == 0
    assert "3 rows of format csv, 3 added" in capsys.readouterr().out
    with open_store() as store:
        table = store.table()
    assert table["e2e_latency_s"] == pytest.approx([1.0699, 1.3453, 2.2319])
    assert table["ttft_s"] == pytest.approx([0.0412, 0.088, 0.3015])
    assert table["throughput_tok_s"] == pytest.approx([119.6, 761.2, 1835.2])
    assert set(table["model"]) == {"org/m"} and set(table["remark"]) == {"x"}


def test_a_wide_table_gets_its_metric_from_the_map() -> None:
    Path("wide.csv").write_text("model,input_tokens,output_tokens,bs=1,bs=8\nm,1024,128,1069.9,1345.3\n")
    Path("wide.yaml").write_text("values: {column: e2e_latency_s, unit: ms}\n")
    frame = read_mapped(Path("wide.csv"), read_map("wide.yaml"))
    assert frame["batch_size"].tolist() == [1, 8]
    assert frame["e2e_latency_s"].tolist() == [1.0699, 1.3453]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {p_in: input_token}", "did you mean input_tokens"),
        ("columns: {t_all: {column: e2e_latency_s, unit: tok/s}}", "no unit of e2e_latency_s"),
        ("columns: {t_all: {column: e2e_latency_s, per: rack}}", "accelerator or system"),
        ("columns: {t_all: {name: e2e_latency_s}}", "keys column, unit and per"),
        ("constants: {modle: m}", "did you mean model"),
        ("colums: {}", "keys columns, values and constants"),
        ("columns: [", "well-formed YAML"),
        ("!!python/object:os.system {}", "well-formed YAML"),
        ("columns: {nowhere: ttft_s}", "the table lacks: nowhere"),
    ],
)
def test_a_wrong_map_is_refused_by_its_key(text: str, message: str) -> None:
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_mapped(Path("odd.csv"), read_map("bad.yaml"))
    assert message in str(caught.value)


def test_a_guess_takes_names_and_then_identities() -> None:
    lines = [f"1024,128,{b},{e},{f},{r},{b * 1152 / (e / 1e3)}" for b, e, f, r in ROWS]
    Path("half.csv").write_text("isl,osl,batch,t_all,ttft_ms,output tok/s,all_of_it\n" + "\n".join(lines) + "\n")
    columns, separator, _ = raw_columns(Path("half.csv"))
    guess = guess_map(columns, separator=separator)
    found = {own: (m.column, m.factor) for own, m in guess.columns.items() if m is not None}
    assert found["isl"] == ("input_tokens", 1.0)
    assert found["t_all"] == ("e2e_latency_s", 1e-3)
    assert found["all_of_it"] == ("total_throughput_tok_s", 1.0)
    assert "load × output tokens / throughput" in guess.reasons["t_all"]
    Path("guess.yaml").write_text(guess.text())
    frame = read_mapped(Path("half.csv"), read_map("guess.yaml"))
    assert frame["e2e_latency_s"].tolist() == pytest.approx([1.0699, 1.3453, 2.2319])
    assert frame["ttft_s"].tolist() == pytest.approx([0.0412, 0.088, 0.3015])


def test_a_number_that_fits_nothing_is_kept_as_it_is() -> None:
    rng = np.random.default_rng(1)
    body = "\n".join(f"1024,128,{b},{e},{rng.uniform(1, 99)}" for b, e, _, _ in ROWS)
    Path("t.csv").write_text(f"isl,osl,batch,latency_ms,humidity\n{body}\n")
    guess = guess_map(raw_columns(Path("t.csv"))[0])
    assert guess.columns["humidity"] is None


def test_auto_shows_the_guess_and_asks(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text("isl,osl,batch,latency_ms\n1024,128,1,1069.9\n")
    assert main(["import", "t.csv", "--map", "auto"]) == 2
    told = capsys.readouterr().err
    assert "latency_ms: {column: e2e_latency_s, unit: ms}  # its name" in told
    assert "--write-map" in told
    assert not Path("store.db").exists()
    assert main(["import", "t.csv", "--map", "auto", "--yes"]) == 0
    assert main(["import", "t.csv", "--write-map", "map.yaml"]) == 0
    assert read_map("map.yaml").columns["isl"] is not None
