"""Every registered format against what files can be: one clear error or a table, never a traceback, in bounded time.

Each format's own files are found among the fixtures by detection: a new format is tested once it has one there.
"""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewmark.core import CANONICAL_COLUMNS, FormatError, InputError
from fewmark.interop import format_names, get_format, read_table, write_table
from fewmark.interop.base import HEAD_BYTES, NotAResultError

FIXTURES = Path(__file__).parent / "fixtures"
LARGEST = 400_000  # bytes of a fixture that is mutated
CPU_S = 20.0  # of one reading; a loaded machine takes no more CPU
MEMORY_KIB = 1 << 20  # growth of the process
HUGE = b"9" * 401


@cache
def samples() -> dict[str, list[Path]]:
    """The fixtures of each format, small ones first."""
    out: dict[str, list[Path]] = {}
    formats = [get_format(name) for name in format_names()]
    for path in sorted(FIXTURES.rglob("*"), key=lambda p: (p.stat().st_size, str(p))):
        if path.is_file() and 0 < path.stat().st_size <= LARGEST:
            with path.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
            score, name = max((fmt.sniff(path, head), fmt.name) for fmt in formats)
            if score > 0:
                out.setdefault(name, []).append(path)
    return out


def own_tables(folder: Path) -> list[Path]:
    """Files of the canonical formats, which need no fixture."""
    text = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s\nv,m,128,64,1,2.5\nv,m,128,64,8,3.5\n"
    csv = folder / "table.csv"
    csv.write_text(text)
    write_table(read_table(csv), folder / "table.parquet")
    (folder / "table.json").write_text('[{"model": "m", "input_tokens": 8, "output_tokens": 8, "batch_size": 1}]')
    return [csv, folder / "table.parquet", folder / "table.json"]


def files_of(name: str, folder: Path) -> list[Path]:
    own = {"csv": 0, "parquet": 1, "json": 2}
    return [own_tables(folder)[own[name]]] if name in own else samples().get(name, [])[:3]


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda raw: raw[: int(len(raw) * share)]


def numbers(replacement: bytes, *, most: int = 40) -> Callable[[bytes], bytes]:
    return lambda raw: re.sub(rb"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", replacement, raw, count=most)


MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "blank": lambda raw: b" \n\n ",
    "cut in a tenth": cut(0.1),
    "cut in the middle": cut(0.5),
    "cut near the end": cut(0.97),
    "cut by a byte": lambda raw: raw.rstrip()[:-1],
    "huge numbers": numbers(HUGE),
    "overflowing numbers": numbers(b"1e999"),
    "negative numbers": numbers(b"-7"),
    "NaN": numbers(b"NaN"),
    "Infinity": numbers(b"Infinity"),
    "null": numbers(b"null"),
    "lists for numbers": numbers(b"[1]"),
    "numbers as texts": lambda raw: re.sub(rb"(?<![\w.\"])(\d+(?:\.\d+)?)(?![\w.\"])", rb'"\1"', raw),
    "texts for numbers": numbers(b'"many"'),
    "zero bytes": lambda raw: raw[: len(raw) // 2] + b"\0" + raw[len(raw) // 2 :],
    "mis-encoded": lambda raw: raw[: len(raw) // 2] + b"\xe9\xff" + raw[len(raw) // 2 :],
    "utf-16": lambda raw: raw.decode("utf-8", "ignore").encode("utf-16"),
    "deep": lambda raw: raw.replace(b"{", b'{"deep": ' + b"[" * 20_000, 1),
    "deep and closed": lambda raw: raw.replace(b"{", b'{"d": ' + b"[" * 5_000 + b"]" * 5_000 + b", ", 1),
    "twice": lambda raw: raw + b"\n" + raw,
    "lines shuffled": lambda raw: b"\n".join(reversed(raw.split(b"\n"))),
    "long line": lambda raw: raw + b"x" * 300_000,
    "every key gone": lambda raw: re.sub(rb'"[a-z_]+":', b'"x":', raw),
    "binary": lambda raw: bytes(range(256)) * 64,
}


@contextmanager
def bounded() -> Iterator[None]:
    """Fails what takes too much CPU time or memory."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("too slow")

    before, held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, held)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB


def check(path: Path, name: str) -> None:
    """One clear error, or a canonical table of which nothing is impossible."""
    for wanted in (name, "auto"):
        with bounded():
            try:
                frame = read_table(path, wanted)
            except FormatError as error:
                told = str(error)
                assert path.name in told or wanted == "auto", told
                assert len(told) < 6000
                assert error.what.strip()
                continue
            except InputError as error:
                assert str(error)
                continue
        assert isinstance(frame, pd.DataFrame)
        assert set(CANONICAL_COLUMNS) <= set(frame.columns)
        assert len(frame)
        for column in ("input_tokens", "output_tokens", "batch_size", "concurrency", "request_rate"):
            assert not (frame[column] <= 0).any()
            assert not frame[column].isin([float("inf")]).any()


@pytest.mark.parametrize("name", format_names())
def test_every_format_reads_its_own_files(name: str, tmp_path: Path) -> None:
    for path in files_of(name, tmp_path):
        try:
            frame = get_format(name).read(path)
        except NotAResultError:
            continue
        assert set(CANONICAL_COLUMNS) <= set(frame.columns)
        assert frame.index.is_unique


@pytest.mark.parametrize("name", format_names())
@pytest.mark.slow
def test_damaged_files_give_one_clear_error_or_a_table(name: str, tmp_path: Path) -> None:
    for original in files_of(name, tmp_path)[:2]:
        raw = original.read_bytes()
        for kind, mutate in MUTATIONS.items():
            folder = tmp_path / kind
            folder.mkdir(exist_ok=True)
            path = folder / original.name
            path.write_bytes(mutate(raw))
            try:
                check(path, name)
            except Exception as error:
                raise AssertionError(f"{name}, {original.name}, {kind}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("name", format_names())
def test_files_of_every_other_format_are_refused_or_read(name: str, tmp_path: Path) -> None:
    aliens = [paths[0] for other, paths in sorted(samples().items()) if other != name]
    for path in [*own_tables(tmp_path), *aliens]:
        with bounded():
            try:
                read_table(path, name)
            except InputError:
                continue


@pytest.mark.parametrize("name", format_names())
def test_random_damage(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damage")
    originals = files_of(name, folder)
    if not originals:
        pytest.skip("no file of this format among the fixtures")
    raw, path = originals[0].read_bytes(), folder / f"damaged{originals[0].suffix}"

    edit = st.tuples(
        st.integers(0, max(len(raw) - 1, 0)), st.integers(0, 40), st.binary(max_size=6) | st.sampled_from(TOKENS)
    )

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(edit, min_size=1, max_size=4))
    def mutate(edits: list[tuple[int, int, bytes]]) -> None:
        content = raw
        for position, length, new in edits:
            content = content[:position] + new + content[position + length :]
        path.write_bytes(content)
        check(path, name)

    mutate()


TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b"null", b"-1", b"0", b"1e400", b"NaN", b"true", b"\n", b"\\ud800", HUGE]
