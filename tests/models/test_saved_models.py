"""Fitted models in files: the very same numbers come back, and nothing but what was written is ever believed."""

import io
import json
import zipfile

import numpy as np
import pytest

from fewmark.core import ModelError
from fewmark.models.persistence import load_model, save_model
from fewmark.models.registry import MODELS, make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def saved(folder, make_table):
    path = folder / "loglog.fewmark"
    table = make_table(2)
    save_model(make_model("loglog").fit(table, table["throughput_tok_s"].to_numpy()), path)
    return path


def rewritten(path, entry, change):
    """A copy of a model file with one entry changed."""
    out = path.with_name("changed.fewmark")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == entry else old.read(name))
    return out


def edited(path, **values):
    return rewritten(path, "model.json", lambda raw: json.dumps({**json.loads(raw), **values}).encode())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_every_model_comes_back_with_the_same_numbers(name, make_table, tmp_path):
    table = make_table(4, noise=0.02)
    table["option.kv"] = np.where(table["model"] == "model-0", "fp8", None)
    table["tensor_parallel_size"] = np.where(table["model"] == "model-1", 2.0, np.nan)
    known = table[table["input_tokens"] != 256]
    model = make_model(name, target="e2e_latency_s", random_state=3).fit(known, known["e2e_latency_s"].to_numpy())
    save_model(model, tmp_path / "model.fewmark")
    again = load_model(tmp_path / "model.fewmark")
    assert (again.name, again.target, again.random_state) == (name, "e2e_latency_s", 3)
    asked = table.iloc[::-1]
    np.testing.assert_array_equal(again.predict(asked), model.predict(asked))
    np.testing.assert_array_equal(again.predict_interval(asked, 0.8), model.predict_interval(asked, 0.8))
    np.testing.assert_array_equal(again.similarity(asked), model.similarity(asked))
    assert again.provenance(asked).tolist() == model.provenance(asked).tolist()
    assert again.abstentions(asked) == model.abstentions(asked)
    assert again.forecast_error(asked) == model.forecast_error(asked)
    assert again.design(asked, 2).tolist() == model.design(asked, 2).tolist()


def test_the_same_model_gives_the_same_file(saved, make_table):
    before = saved.read_bytes()
    save_model(load_model(saved), saved.with_name("again.fewmark"))
    assert saved.with_name("again.fewmark").read_bytes() == before


def test_an_unfitted_model_is_not_written(tmp_path):
    with pytest.raises(ModelError, match="fitted"):
        save_model(make_model("linear"), tmp_path / "model.fewmark")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_named(saved, version):
    with pytest.raises(ModelError, match=f"version {version!r}"):
        load_model(edited(saved, version=version))


@pytest.mark.parametrize(
    "values",
    [
        {"format": "something else"},
        {"model": "no-such-model"},
        {"model": 3},
        {"state": []},
        {"state": {}},
        {"state": {"support": {}, "point": {}}},
        {"arrays": {"residuals": "arrays/99.npy"}},
        {"arrays": {}},
        {"arrays": None},
    ],
)
def test_what_does_not_fit_together_is_refused(saved, values):
    with pytest.raises(ModelError):
        load_model(edited(saved, **values))


def test_arrays_of_objects_are_never_unpickled(saved):
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="damaged"):
        load_model(rewritten(saved, "arrays/0.npy", lambda _: content.getvalue()))


def test_a_part_that_says_it_is_encrypted_is_damaged(saved):
    content = bytearray(saved.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flags of the last part, in the directory at the end
    path = saved.with_name("encrypted.fewmark")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


def test_a_truncated_file_is_refused_wherever_it_ends(saved):
    content = saved.read_bytes()
    path = saved.with_name("truncated.fewmark")
    for end in range(0, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError):
            load_model(path)


def test_a_flipped_byte_is_noticed_or_harmless(saved, make_table):
    content, table = saved.read_bytes(), make_table(2)
    expected = load_model(saved).predict(table)
    path = saved.with_name("flipped.fewmark")
    noticed = 0
    for position in range(0, len(content), max(1, len(content) // 200)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            found = load_model(path).predict(table)
        except ModelError:
            noticed += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert noticed > 150


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PK\x03\x04" + b"\x00" * 50])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "model.fewmark"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_model(path)


def test_no_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ModelError):
            load_model(path)


def test_a_path_that_cannot_be_written_is_told(saved, tmp_path):
    with pytest.raises(ModelError, match="cannot be written"):
        save_model(load_model(saved), tmp_path / "no" / "such" / "folder.fewmark")


def array_bytes(shape, content=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    return stream.getvalue() + content


@pytest.mark.parametrize(
    "content", [array_bytes((10**12,)), array_bytes((2,), b"x" * 8), b"", b"\x93NUMPY", b"x" * 100]
)
def test_an_array_that_claims_more_than_it_holds_is_refused_before_it_is_made(saved, content):
    with zipfile.ZipFile(saved) as archive:
        entry = next(name for name in archive.namelist() if name.endswith(".npy"))
    with pytest.raises(ModelError):
        load_model(rewritten(saved, entry, lambda raw: content))


def test_a_file_that_expands_beyond_all_measure_is_refused(saved, monkeypatch):
    monkeypatch.setattr("fewmark.models.persistence.MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="expands"):
        load_model(saved)
