"""Memory that runs out: by a limit of one's own (rlimit), by the kernel in a cgroup, and by what the worker may hold.

Whoever the kernel ends, what was measured stays, and the next run measures the rest."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from guard import announce
from inputs import measurements
from kills import LAST_S, PLUGIN
from processes import MARKER, end, family, told, wait_until_gone
from tally import Clock, Tally

from fewmark.interop import from_measurements, write_table
from fewmark.store import open_store

MIB: Final = 2**20
SUITE = """deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.002}}]
cells:
  - grid: {input_tokens: 8, output_tokens: 2, batch_size: [1, 2, 3, 4, 5]}
  - grid: {input_tokens: 8, output_tokens: 3, batch_size: 1, workload.do: allocate}
  - grid: {input_tokens: 8, output_tokens: 4, batch_size: [1, 2, 3, 4, 5]}
"""
N_GOOD: Final = 10
CPU_S: Final = 30  # that a command under a limit may take
SPINNING: Final = 600 * MIB  # of address space, below which libraries of others may not end to load
CGROUPS: Final = Path("/sys/fs/cgroup")


def run(seed: int, seconds: float) -> list[Tally]:
    """The limits in turn."""
    rng, clock = random.Random(seed), Clock(seconds)
    rlimit, cgroup = Tally("memory ends: rlimit"), Tally("memory ends: the kernel, in a cgroup")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, own_cgroup() as (group, why):
        folder = Path(name)
        (folder / "suite.yaml").write_text(SUITE)
        held = measurements()
        write_table(from_measurements([held[n % len(held)] for n in range(20_000)]), folder / "t.csv")
        cgroup.skipped = why
        number = 0
        while clock or number < 2:
            number += 1
            if group is not None and number % 2:
                attempt(cgroup, number, rng.choice([200, 300, 400, 600]) * MIB, folder, group)
            else:
                small(rlimit, rng, folder)
    return [rlimit, cgroup]


def small(tally: Tally, rng: random.Random, folder: Path) -> None:
    """A command under a limit of its address space: it does what it should, or ends with one message."""
    most = rng.choice([150, 200, 300, 600, 700, 1000]) * MIB
    words = rng.choice(
        [
            ["import", "t.csv", "--store", "m.db"],
            ["screen", "--data", "t.csv"],
            ["fit", "--data", "t.csv", "--model", "loglog", "--out", "m.fewmark"],
        ]
    )
    announce(f"memory: {words} in {most // MIB} MiB")
    began = time.monotonic()
    done = command(words, folder, lambda: limit_process(most))
    tally.tried += 1
    if done.returncode == -signal.SIGXCPU and most < SPINNING:
        return  # SciPy's own BLAS asks for memory without end while it loads: nothing of ours runs yet
    tally.ways.add(f"{words[0]} in {most // MIB} MiB")
    tally.took(time.monotonic() - began)
    text = done.stderr.decode(errors="replace")
    if done.returncode == -signal.SIGXCPU:
        tally.fail(f"{words[0]} in {most // MIB} MiB: more than {CPU_S} s of CPU")
    started = "fewmark" in text or "error:" in text or "reading" in text
    # Below a certain size Python itself does not start, or a library of others does not load: nothing of ours then.
    if started and "Traceback" in text and "import" not in text.rpartition("Traceback")[2]:
        tally.fail(f"{words[0]} in {most // MIB} MiB: exit code {done.returncode}: {text[-400:]}")
    if words[0] == "import" and (folder / "m.db").exists():
        with open_store(folder / "m.db") as store:
            count = len(store.case_ids())
        if done.returncode == 0 and count != len(measurements()):
            tally.fail(f"import in {most // MIB} MiB: done, and {count} cases")
        for path in folder.glob("m.db*"):
            path.unlink()
    if left := [path.name for path in folder.glob(".fewmark-*")]:
        tally.fail(f"{words[0]} in {most // MIB} MiB: {left} was left")


def limit_process(most: int) -> None:
    """Limit this process's address space, in bytes, and its CPU time."""
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))


def attempt(tally: Tally, number: int, most: int, folder: Path, group: Path) -> None:
    """A run within a cgroup whose case in the middle needs more memory than there is."""
    word, store = f"{os.getpid()}-memory-{number}", folder / f"c{number}.db"
    announce(f"memory: a run in a cgroup of {most // MIB} MiB")
    limit(group, most)
    began = time.monotonic()
    words = ["run", "suite.yaml", "--store", store.name, "--quiet", "--no-drift-check"]
    done = command(words, folder, lambda: enter(group), word)
    text = done.stderr.decode(errors="replace")
    tally.tried += 1
    tally.ways.add(f"{most // MIB} MiB, " + ("the run" if done.returncode < 0 else "the worker"))
    tally.took(time.monotonic() - began)
    if done.returncode not in (0, 1, -9) or "Traceback" in text:
        tally.fail(f"a run in {most // MIB} MiB ends with {done.returncode}: {text[-400:]}")
    kept = {case for case, status in statuses(store).items() if status == "ok"}
    if done.returncode in (0, 1):
        if len(kept) != N_GOOD:
            tally.fail(f"in {most // MIB} MiB: {len(kept)} of {N_GOOD} other cases are measured: {text[-300:]}")
        if "out_of_memory" not in statuses(store).values():
            tally.fail(f"in {most // MIB} MiB: no case is out of memory: {sorted(set(statuses(store).values()))}")
    else:  # the kernel chose the run itself: the next one, with room, measures the rest
        limit(group, 8 * 1024 * MIB)
        done = command(words, folder, lambda: enter(group), word)
        after = {case for case, status in statuses(store).items() if status == "ok"}
        if not kept <= after or len(after) < N_GOOD:
            tally.fail(f"after a kill in {most // MIB} MiB: {len(kept)} cases, then {len(after)} of {N_GOOD}")
    if left := wait_until_gone(lambda: family(word)):
        tally.fail(f"processes run on: {told(left)}")
        end(left)


def command(
    words: list[str], folder: Path, before: Callable[[], object], word: str = "memory"
) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own, which does something before it begins."""
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(paths), MARKER: word}
    return subprocess.run(
        [sys.executable, "-m", "fewmark", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        preexec_fn=before,
        timeout=LAST_S,
    )


def statuses(store: Path) -> dict[str, str]:
    """How each case has ended."""
    if not store.exists():
        return {}
    with open_store(store) as opened:
        return {m.case.case_id: str(m.status) for m in opened.measurements()}


@contextlib.contextmanager
def own_cgroup() -> Iterator[tuple[Path | None, str | None]]:
    """A new cgroup whose memory can be limited; or None, and why there is none."""
    parents = [CGROUPS / "memory", CGROUPS / own_path("memory"), CGROUPS / own_path("").lstrip("/"), CGROUPS]
    why = "there are no cgroups"
    for parent in parents:
        group = parent / f"fewmark-torture-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            why = f"no cgroup can be made in {parent}: {error.strerror}"
            continue
        try:
            limit(group, 8 * 1024 * MIB)
            yield group, None
        except OSError as error:
            why = f"the memory of {group} cannot be limited: {error.strerror}"
            continue
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    yield None, why


def own_path(controller: str) -> str:
    """Where this process is in the hierarchy of a controller; "" is that of version 2."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return f"{controller}{path}"
    return controller


def limit(group: Path, most: int) -> None:
    """Limit what the processes of a cgroup may hold together, swap included. Raises `OSError`."""
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    swap = group / "memory.memsw.limit_in_bytes"
    if swap.exists():  # never below the other
        swap.write_text("-1")
    (group / name).write_text(str(most))
    if swap.exists():
        swap.write_text(str(most))


def enter(group: Path) -> None:
    """Let this process, and those that come of it, belong to a cgroup."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
