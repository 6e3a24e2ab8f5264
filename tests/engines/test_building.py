"""Programs built from source: interrupted builds go on, whole ones are not made again, and progress is told."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fewmark.core import EngineError
from fewmark.engines.environments.building import Builder, Progress
from fewmark.engines.environments.recipe import Build, Recipe

BUILD = Build(archive="thing==1", source="inner", targets=("server",), cpu_minutes=30)


class Commands:
    """Stands for pip, CMake and ninja."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.interrupted = False

    def __call__(self, command: Sequence[str | Path], heard: Callable[[str], None] = lambda line: None) -> str:
        words = [str(word) for word in command]
        if "download" in words:
            self.called.append("fetch")
            with tarfile.open(Path(words[words.index("-d") + 1]) / "thing-1.tar.gz", "w:gz") as packed:
                made = tarfile.TarInfo("thing-1/inner/CMakeLists.txt")
                packed.addfile(made, io.BytesIO(b""))
        elif "--build" in words:
            self.called.append("build")
            heard("[1/2] Building\n")
            if self.interrupted:
                raise EngineError("a step of the installation failed")
            program = Path(words[words.index("--build") + 1]) / "bin" / "server"
            program.parent.mkdir(parents=True)
            program.write_text("built")
        else:
            self.called.append("configure")
            assert (Path(words[words.index("-S") + 1]) / "CMakeLists.txt").exists()
        return ""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWMARK_HOME", str(tmp_path))
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    return tmp_path / "environment"


def test_a_build_is_resumed_kept_and_not_made_again(environment: Path) -> None:
    commands, said = Commands(), list[str]()
    commands.interrupted = True
    with pytest.raises(EngineError):
        Builder(BUILD, environment, commands, said.append).install(environment / "bin" / "python")
    commands.interrupted = False
    Builder(BUILD, environment, commands, said.append).install(environment / "bin" / "python")
    assert commands.called == ["fetch", "configure", "build", "configure", "build"]
    assert (environment / "bin" / "server").read_text() == "built"
    (environment / "bin" / "server").unlink()
    Builder(BUILD, environment, commands, said.append).install(environment / "bin" / "python")
    assert len(commands.called) == 5 and (environment / "bin" / "server").exists()
    assert "built before" in said[-1]
    builder = Builder(BUILD, environment, commands, said.append)
    assert [path.name for path in builder.kept.iterdir()] == ["bin"]  # no source, no objects


def test_other_versions_and_definitions_are_other_builds() -> None:
    others = [Build("thing==2", "inner", ("server",)), Build("thing==1", "inner", ("server",), ("FAST=ON",))]
    assert len({build.identity for build in [BUILD, *others]}) == 3


def test_progress_tells_the_time_that_is_left_now_and_then() -> None:
    now, said = [0.0], list[str]()
    progress = Progress(said.append, lambda: now[0])
    for done in range(1, 101):
        now[0] += 3.0
        progress(f"[{done}/100] Building CXX object\n")
    progress("warning: no step\n")
    assert said[0] == "  4 of 100 steps, about 5 min left"
    assert said[-1] == "  100 of 100 steps, about 0 s left"
    assert len(said) == 25


def test_what_an_installation_takes_is_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert Recipe((), needs_gib=5.0).takes == "5 GiB of disk space"
    assert Recipe((), build=BUILD).takes == "1 GiB of disk space, and about 15 min to build server on 2 CPUs, once"
