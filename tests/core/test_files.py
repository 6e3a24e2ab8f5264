"""Files are read within bounds, and written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from fewmark.core import InputError
from fewmark.core import files as module
from fewmark.core.files import new_file, read_bytes, read_text, write_file


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".fewmark-")]


def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_file(path, "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~module._umask()
    path.chmod(0o640)
    write_file(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o640)
    write_file(tmp_path / "secret", "x", private=True)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_link_is_followed_even_where_it_leads_nowhere_yet(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "out.csv")
    write_file(link, "first")
    write_file(link, "second")
    assert link.is_symlink() and (tmp_path / "real" / "out.csv").read_text() == "second"
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError):
        write_file(tmp_path / "a", "x")


def test_a_device_is_written_to_and_never_replaced() -> None:
    write_file("/dev/null", "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(InputError, match="No space left"):
        write_file("/dev/full", "x" * 10)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    write_file(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for place, name in ((Path, "write_bytes"), (module.os, "fsync"), (Path, "replace"), (module.tempfile, "mkstemp")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            with pytest.raises(InputError, match="No space left"):
                write_file(path, "new")
        assert (path.read_text(), leftovers(tmp_path)) == ("old", [])


def test_an_error_or_an_interrupt_while_it_is_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write_file(path, b"old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), new_file(path) as beside:
            assert beside.suffix == ".png"
            beside.write_bytes(b"half")
            raise error
        assert (path.read_bytes(), leftovers(tmp_path)) == (b"old", [])


@pytest.mark.parametrize("name", ["", "missing/out.csv", "nul\0.csv", "x" * 300, "folder"])
def test_where_nothing_can_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_file(os.path.join(tmp_path, name), "x")  # noqa: PTH118  (Path would drop the empty name)
    assert leftovers(tmp_path) == []


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".csv")
    write_file(path, "whole")
    assert path.read_text() == "whole"


def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(InputError, match="must be a file"):
            read_bytes(path)
    with pytest.raises(InputError, match="no such file"):
        read_bytes(tmp_path / "missing")
    with pytest.raises(InputError, match="cannot be read"):
        read_bytes("nul\0")
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="too large: at most 10 bytes"):
        read_bytes(tmp_path / "large", max_bytes=10)
    (tmp_path / "latin").write_bytes("\xe4".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_text(tmp_path / "latin")
