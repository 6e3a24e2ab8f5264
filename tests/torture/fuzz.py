"""Parsers fuzzed by their coverage (atheris), in processes of their own and bounded in time and memory.

Run as a program it is one fuzzer: python tests/torture/fuzz.py TARGET FOLDER [options of libFuzzer]."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tally import Tally

TARGETS: Final = {
    "suite": ".yaml",
    "prices": ".yaml",
    "csv": ".csv",
    "json": ".json",
    "cases": ".jsonl",
    "loglog": ".fewmark",
}
START_S: Final = 240.0  # to begin, on a loaded machine
TIMEOUT_S: Final = 120  # libFuzzer's is of the clock; the other parts watch the CPU's time
RSS_MB: Final = 1500  # what libraries take when they are loaded included


def run(seed: int, seconds: float) -> list[Tally]:
    """One target after the other, in an order of the seed's; as many as there is time for."""
    tally = Tally("fuzzed by coverage")
    if importlib.util.find_spec("atheris") is None:
        tally.skipped = "atheris is not installed"
        return [tally]
    rng = random.Random(seed)
    began, names = time.monotonic(), rng.sample(list(TARGETS), len(TARGETS))
    each = max(seconds / len(names), 15.0)
    for number, name in enumerate(names):
        if number and time.monotonic() - began > seconds - each / 2:
            break
        one(name, rng.randrange(1, 2**31), each, tally)
    return [tally]


def one(name: str, seed: int, seconds: float, tally: Tally) -> None:
    """One target for so long, from whole inputs on."""
    with tempfile.TemporaryDirectory() as folder:
        for sub in ("seeds", "work", "found"):
            (Path(folder) / sub).mkdir()
        command = [sys.executable, str(Path(__file__)), name, folder, f"-max_total_time={max(int(seconds), 1)}"]
        command += [f"-seed={seed}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MB}", "-max_len=20000"]
        command += [f"-artifact_prefix={folder}/found/", f"{folder}/work", f"{folder}/seeds"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds + START_S)
        except subprocess.TimeoutExpired as late:
            if b"INITED" in (late.stderr or b""):  # else it has not even begun, on a loaded machine
                tally.fail(f"{name}, seed {seed}: does not end")
            return
        text = done.stderr.decode(errors="replace")
        if runs := re.search(r"Done (\d+) runs|#(\d+)\s+DONE", text):
            tally.tried += int(runs[1] or runs[2])
        tally.ways.add(name)
        found = sorted((Path(folder) / "found").iterdir())
        if done.returncode or found:
            inputs = " ".join(base64.b64encode(path.read_bytes()[:2000]).decode() for path in found[:2])
            cause = re.search(r"=== Uncaught Python exception: ===\n(.*)", text)
            why = cause[1] if cause else text[-300:]
            tally.fail(f"{name}, seed {seed}, exit code {done.returncode}: {why} {[p.name for p in found]} {inputs}")


def main() -> None:
    """Fuzz one target; never returns."""
    import atheris

    name, folder = sys.argv[1], Path(sys.argv[2])
    with atheris.instrument_imports(include=["fewmark", "yaml"]):
        from inputs import corpus

        from fewmark.core import FewmarkError

    kind = corpus(folder / "work")[name]
    for path in (folder / "work").iterdir():
        path.unlink()
    for number, content in enumerate(kind.contents):
        (folder / "seeds" / str(number)).write_bytes(content)
    read: Callable[[Path], object] = kind.readers[0]
    place = folder / f"input{kind.suffix}"

    def parse(content: bytes) -> None:
        place.write_bytes(content)
        with contextlib.suppress(FewmarkError):
            read(place)

    atheris.Setup([sys.argv[0], *sys.argv[3:]], parse)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
