"""Mutated inputs of every kind into every parser and verb, in this process: an answer or one error, soon and small."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from guard import PROGRESS, guarded, limits
from mutations import mutated
from tally import Clock, Tally

from fewmark.cli import main
from fewmark.core import Case, Deployment, FewmarkError, InputError, Measurement, Sample, Workload
from fewmark.decide.prices import load_prices
from fewmark.engines.measuring.policy import Outcome
from fewmark.engines.worker.batch import read_cases
from fewmark.interop import from_measurements, read_table, write_table
from fewmark.models.persistence import load_model, save_model
from fewmark.models.registry import make_model
from fewmark.runner.worker.messages import MARK, message_of
from fewmark.suites import load_suite
from fewmark.verbs.import_files import import_files
from fewmark.verbs.screen import screen
from fewmark.verbs.source import read_source

FIXTURES = Path(__file__).parents[1] / "interop" / "fixtures"
LARGEST_SEED_BYTES = 20_000
LONGEST_MESSAGE = 15_000
KEPT = {"PATH", "HOME", "TMPDIR", "PYTHONPATH", PROGRESS}
VERB_ROW = "table given to a verb"
Reader = Callable[[Path], object]


@dataclass
class Kind:
    """One kind of input: its suffix, whole ones, what reads it, and the time that its tries have taken so far."""

    suffix: str
    contents: list[bytes]
    readers: list[Reader]
    tally: Tally
    share: float = 1.0  # of the time, in comparison with the others
    spent_s: float = 0.0
    names: list[str] = field(default_factory=list)


@functools.cache
def measurements() -> list[Measurement]:
    """Twenty measurements of two deployments."""
    out = []
    for deployment in (Deployment("e", "m"), Deployment("e", "n", accelerator="H100", accelerator_count=2)):
        for batch in (1, 2, 4, 8, 16):
            for tokens in (32, 128):
                sample = Sample(e2e_latency_s=0.01 * tokens + 0.02 * batch, ttft_s=0.01, output_tokens=tokens)
                out.append(Measurement(Case(deployment, Workload(64, tokens, batch_size=batch)), samples=(sample,)))
    return out


SUITE = (
    b"title: t\nversion: 1\naxes: {b: [1, 2, 4]}\ndeployments:\n"
    b"  - {engine: replay, model: m, engine_options: {table: t}}\n"
    b"cells:\n  - grid: {input_tokens: [8, 16], output_tokens: 4, batch_size: {axis: b}}\n"
    b"settings: {repeats: 3, seed: 1}\nskip:\n  - {batch_size: {gt: 3}}\n"
)
PRICES = b"version: 1\ncurrency: USD\naccelerators:\n  - {name: H100, per_hour: 2.99, power_w: 700}\n"
RESULT = {
    **{"fewmark": 1, "event": "result", "status": "ok", "wall_s": 1.0, "energy_j": 2.0, "flags": ["a"]},
    **{"samples": [{"e2e_latency_s": 1.0, "ttft_s": 0.1, "output_tokens": 2, "token_times_s": [0.1, 1.0]}]},
}
# What a verb is asked for beside the file: commands whose work is in the reading of it, not in fits that take seconds.
VERBS = (
    ("screen", "--data", "FILE"),
    ("fit", "--data", "FILE", "--model", "loglog", "--no-prior", "--out", "OUT.fewmark"),
    ("predict", "--data", "WHOLE", "--cases", "FILE", "--model", "loglog", "--no-prior", "--no-cache"),
    ("predict", "--data", "FILE", "--cases", "WHOLE", "--model", "loglog", "--no-prior", "--no-cache"),
    ("evaluate", "--data", "FILE", "--model", "loglog"),
    ("recommend", "--data", "FILE", "--slo", "e2e_latency_s=9", "--model", "loglog", "--out", "OUT.csv"),
    ("recommend", "--data", "WHOLE", "--space", "FILE", "--slo", "e2e_latency_s=9", "--model", "loglog"),
    ("plan", "--data", "WHOLE", "--space", "FILE", "--model", "none"),
    ("compare", "FILE", "WHOLE"),
    ("compare", "WHOLE", "FILE"),
    ("import", "FILE", "--store", ":memory:"),
)


def corpus(folder: Path) -> dict[str, Kind]:
    """Each kind of input, by its name."""
    held = measurements()
    frame = from_measurements(held)
    for name in ("t.csv", "t.parquet"):
        write_table(frame, folder / name)
    target = frame["throughput_tok_s"].to_numpy(dtype=float)
    for model in ("loglog", "auto"):
        save_model(make_model(model).fit(frame, target), folder / f"{model}.fewmark")
    lines = "".join(json.dumps(m.to_dict()) + "\n" for m in held).encode()
    cases = "".join(json.dumps(m.case.to_dict()) + "\n" for m in held).encode()
    document = json.dumps({"results": [m.to_dict() for m in held[:2]]}).encode()
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar, zipfile.ZipFile(folder / "a.zip", "w") as packed:
        tar.add(folder / "t.csv", "results/t.csv")
        packed.write(folder / "t.csv", "results/t.csv")
    stored: Reader = lambda path: import_files([path], store=":memory:")  # noqa: E731
    tables: list[Reader] = [read_table, lambda path: screen(str(path)), stored]
    csv = (folder / "t.csv").read_bytes()
    foreign = [path for path in sorted(FIXTURES.rglob("*")) if path.is_file() and path.suffix in SUFFIXES]
    foreign = [path for path in foreign if path.stat().st_size <= LARGEST_SEED_BYTES]

    def model_file(name: str) -> Kind:
        content = (folder / f"{name}.fewmark").read_bytes()
        return Kind(".fewmark", [content], [lambda path: asked(path, frame)], Tally(f"{name} model"), share=0.5)

    kinds = {
        "csv": Kind(".csv", [csv], [*tables, lambda path: read_source(path)], Tally("CSV")),
        "parquet": Kind(".parquet", [(folder / "t.parquet").read_bytes()], tables[:2], Tally("Parquet")),
        "json": Kind(".json", [document], tables[:1], Tally("JSON")),
        "jsonl": Kind(".jsonl", [lines], tables[::2], Tally("JSON lines")),
        "cases": Kind(".jsonl", [cases], [read_cases], Tally("list of cases")),
        "suite": Kind(".yaml", [SUITE], [load_suite], Tally("suite")),
        "prices": Kind(".yaml", [PRICES], [load_prices], Tally("price file")),
        "message": Kind(".json", [json.dumps(RESULT).encode()], [told], Tally("worker's message")),
        "zip": Kind(".zip", [(folder / "a.zip").read_bytes()], [stored], Tally("zip archive"), share=0.3),
        "tar": Kind(".tar.gz", [(folder / "a.tar.gz").read_bytes()], [stored], Tally("tar archive"), share=0.3),
        "loglog": model_file("loglog"),
        "auto": model_file("auto"),
        "verbs": Kind(".csv", [csv], [verb(words, folder) for words in VERBS], Tally(VERB_ROW), share=2.0),
    }
    for suffix in SUFFIXES:
        paths = [path for path in foreign if path.suffix == suffix]
        if paths:
            contents = [path.read_bytes() for path in paths]
            tally = Tally(f"other tools' {suffix[1:].upper()}")
            names = [str(path.relative_to(FIXTURES)) for path in paths]
            kinds[f"foreign{suffix}"] = Kind(suffix, contents, [read_table, stored], tally, names=names)
    return kinds


SUFFIXES = (".json", ".jsonl", ".csv", ".yaml", ".txt", ".log")


def asked(path: Path, frame: pd.DataFrame) -> object:
    """A model file that can be read answers."""
    return np.asarray(load_model(path).predict(frame))


def told(path: Path) -> object:
    """A worker's message, and the measurement that it makes."""
    message = message_of(MARK + b"1, " + path.read_bytes().lstrip()[1:])
    case = measurements()[0].case
    return json.dumps(Outcome.from_dict(message).to_measurement(case, startup_s=1.0, environment={}).to_dict())


def verb(words: tuple[str, ...], folder: Path) -> Reader:
    """A command as it is typed, with the file in its place."""

    def run(path: Path) -> object:
        stands = {"FILE": str(path), "WHOLE": str(folder / "t.csv")}
        arguments = [stands.get(word, word.replace("OUT", str(folder / "out"))) for word in words]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        if code not in (0, 1, 2) or "Traceback" in err.getvalue():
            raise AssertionError(f"exit code {code}: {err.getvalue()[:500]}")
        if code == 2 and not err.getvalue().strip():
            raise AssertionError("exit code 2 without a message")
        return code

    return run


def one(kind: Kind, own: int, folder: Path) -> None:
    """The mutation of this number, read."""
    rng = random.Random(own)
    number = rng.randrange(len(kind.contents))
    # The parser mostly; the verbs that begin with it now and then, since they take longer.
    reader = 0 if rng.random() < 0.95 and kind.tally.what != VERB_ROW else rng.randrange(len(kind.readers))
    path = folder / f"x{kind.suffix}"
    path.write_bytes(mutated(kind.contents[number], rng, kind.suffix))
    began = time.process_time()
    with guarded(kind.tally, str(own)):
        try:
            kind.readers[reader](path)
        except FewmarkError as error:
            if len(str(error)) > LONGEST_MESSAGE:
                raise AssertionError(f"a message of {len(str(error))} letters") from None
    kind.spent_s += time.process_time() - began


def run(seed: int, seconds: float) -> list[Tally]:
    """Mutate until the time is over, each kind for about as long as the others; one row for each."""
    clock = Clock(seconds)
    with prepared() as (folder, kinds):
        own = {name: random.Random(f"{seed} {name}") for name in kinds}  # each kind's mutations are the seed's alone
        while clock:
            name = min(kinds, key=lambda name: kinds[name].spent_s / kinds[name].share)
            for _ in range(1 if name == "verbs" else 20):
                one(kinds[name], own[name].randrange(2**32), folder)
                if not clock:
                    break
    for name, kind in kinds.items():
        kind.tally.failed = [f"{text}   [--repeat inputs:{name}:{text.split(':')[0]}]" for text in kind.tally.failed]
        kind.tally.what = f"mutated input: {kind.tally.what}"
    return [kind.tally for kind in kinds.values()]


def repeat(words: list[str]) -> list[Tally]:
    """The mutation of a kind and a number once more, without its limits' being in the way of a debugger."""
    with prepared() as (folder, kinds):
        name, own = words
        one(kinds[name], int(own), folder)
        print((folder / f"x{kinds[name].suffix}").read_bytes()[:3000])
        return [kinds[name].tally]


@contextlib.contextmanager
def prepared() -> Iterator[tuple[Path, dict[str, Kind]]]:
    """A folder, with the kinds of input that there are, under the limits."""
    for variable in set(os.environ) - KEPT:  # each is looked at for secrets whenever an error is told
        del os.environ[variable]
    with tempfile.TemporaryDirectory() as name, limits(), contextlib.redirect_stderr(io.StringIO()):
        kinds = corpus(Path(name))
        for kind in kinds.values():  # what is imported late is no part of a try
            path = Path(name) / f"x{kind.suffix}"
            path.write_bytes(kind.contents[0])
            for reader in kind.readers if kind.tally.what != VERB_ROW else kind.readers[:1]:
                with contextlib.suppress(InputError):
                    reader(path)
        yield Path(name), kinds
