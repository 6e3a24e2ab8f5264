"""Mutated inputs of every kind into every parser, in this process: an answer or one error, soon and small."""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tally import Clock, Tally

from fewmark.core import Case, Deployment, FewmarkError, Measurement, Sample, Workload
from fewmark.decide.prices import load_prices
from fewmark.engines.worker.batch import read_cases
from fewmark.interop import from_measurements, read_table, write_table
from fewmark.models.persistence import load_model, save_model
from fewmark.models.registry import make_model
from fewmark.suites import load_suite
from fewmark.verbs.import_files import import_files
from fewmark.verbs.screen import screen
from fewmark.verbs.source import read_source

MEMORY_BYTES = 3 * 2**30  # of address space beyond what is in use: maps of libraries count, so it is generous
HANG_S = 10
TOKENS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 401, b"1e999", b"-1", b"NaN", b"Infinity", b"null", b"[" * 5000),
    *(b'"', b"{", b"}", b",", b";", b"\t", b"\r\n", b"!!timestamp x", b"!!binary '*'", b"&a [*a]", b"<<: *a", b"'"),
    *(b"\xed\xa0\x80", b"=1", b"0x", b"1_000", b"%s" * 50, b"\x1b[2J", b"true", b"~", b"---\n", b"? ", b"|\n"),
    *(b"batch_size", b"e2e_latency_s", b"2001-99-99", b"!!omap [1]", b"- ", b"x" * 70_000, b"\n" * 3000),
    *(b",,,," * 500, b"PK\x03\x04", b"PAR1"),
]


def measurements() -> list[Measurement]:
    out = []
    for deployment in (Deployment("e", "m"), Deployment("e", "n", accelerator="H100", accelerator_count=2)):
        for batch in (1, 2, 4, 8, 16):
            for tokens in (32, 128):
                sample = Sample(e2e_latency_s=0.01 * tokens + 0.02 * batch, ttft_s=0.01, output_tokens=tokens)
                out.append(Measurement(Case(deployment, Workload(64, tokens, batch_size=batch)), samples=(sample,)))
    return out


def corpus(folder: Path) -> dict[str, tuple[str, bytes, list[Callable[[Path], object]]]]:
    """Each kind of input: its suffix, a whole one, and what reads it."""
    held = measurements()
    frame = from_measurements(held)
    write_table(frame, folder / "t.csv")
    write_table(frame, folder / "t.parquet")
    target = frame["throughput_tok_s"].to_numpy(dtype=float)
    save_model(make_model("loglog").fit(frame, target), folder / "loglog.fewmark")
    save_model(make_model("auto").fit(frame, target), folder / "auto.fewmark")
    lines = "".join(json.dumps(m.to_dict()) + "\n" for m in held).encode()
    cases = "".join(json.dumps(m.case.to_dict()) + "\n" for m in held).encode()
    suite = (
        b"title: t\nversion: 1\naxes: {b: [1, 2, 4]}\ndeployments:\n"
        b"  - {engine: replay, model: m, engine_options: {table: t}}\n"
        b"cells:\n  - grid: {input_tokens: [8, 16], output_tokens: 4, batch_size: {axis: b}}\n"
        b"settings: {repeats: 3, seed: 1}\nskip:\n  - {batch_size: {gt: 3}}\n"
    )
    prices = b"version: 1\ncurrency: USD\naccelerators:\n  - {name: H100, per_hour: 2.99, power_w: 700}\n"
    tables: list[Callable[[Path], object]] = [
        read_table,
        lambda path: screen(str(path)),
        lambda path: import_files([path], store=":memory:"),
    ]
    document = json.dumps({"results": [m.to_dict() for m in held[:2]]}).encode()
    return {
        "csv": (".csv", (folder / "t.csv").read_bytes(), [*tables, lambda path: read_source(path)]),
        "parquet": (".parquet", (folder / "t.parquet").read_bytes(), tables[:2]),
        "json": (".json", document, tables[:1]),
        "jsonl": (".jsonl", lines, [*tables[::2]]),
        "cases": (".jsonl", cases, [read_cases]),
        "suite": (".yaml", suite, [load_suite]),
        "prices": (".yaml", prices, [load_prices]),
        "loglog model": (".fewmark", (folder / "loglog.fewmark").read_bytes(), [lambda p: asked(p, frame)]),
        "auto model": (".fewmark", (folder / "auto.fewmark").read_bytes(), [lambda p: asked(p, frame)]),
    }


def asked(path: Path, frame: pd.DataFrame) -> object:
    """A model file that can be read answers."""
    return np.asarray(load_model(path).predict(frame))


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with some places changed."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not out:
            break
        at, length = rng.randrange(len(out)), rng.choice([1, 1, 2, 8, 64, 1024])
        kind = rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            out[at : at + length] = rng.choice(TOKENS)
        elif kind == 4:
            out[at:at] = out[at : at + length] * rng.choice([1, 2, 50])
        elif kind == 5:
            del out[at:]
        else:
            out[at : at + length] = rng.randbytes(min(length, len(out) - at))
    return bytes(out)


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """No more memory than so much beyond what is in use, and an alarm."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, before[1]))

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {HANG_S} s")

    signal.signal(signal.SIGALRM, stop)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(seed: int, seconds: float) -> list[Tally]:
    """Mutate until the time is over; one row for each kind of input."""
    rng, clock = random.Random(seed), Clock(seconds)
    with tempfile.TemporaryDirectory() as name, limits(), contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        kinds = corpus(folder)
        tallies = {kind: Tally(f"mutated input: {kind}") for kind in kinds}
        while clock:
            kind = rng.choice(list(kinds))
            suffix, content, readers = kinds[kind]
            own = rng.randrange(2**32)
            path = folder / f"x{suffix}"
            path.write_bytes(mutated(content, random.Random(own)))
            # The parser mostly; the verbs that begin with it now and then, since they take longer.
            number = 0 if rng.random() < 0.9 else rng.randrange(len(readers))
            for read in (readers[number],):
                began = time.monotonic()
                tallies[kind].tried += 1
                try:
                    signal.alarm(HANG_S)
                    read(path)
                except FewmarkError as error:
                    if len(str(error)) > 15_000:
                        tallies[kind].fail(f"mutation {own}, reader {number}: a message of {len(str(error))} letters")
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    tallies[kind].fault(error, f"mutation {own}, reader {number}")
                finally:
                    signal.alarm(0)
                tallies[kind].slowest_s = max(tallies[kind].slowest_s, time.monotonic() - began)
    return list(tallies.values())
