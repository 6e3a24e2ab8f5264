"""Runs side by side on one store: each case is measured by one of them.

A run claims a case right before it measures it. What another run has claimed is left to it; when nothing else is to be
done, the run waits until those are measured, and takes over what a run that is gone has left.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from fewmark.core import Case, StoreError
from fewmark.core.processes import process_identity

RENEW_S: Final = 15.0
POLL_S: Final = 0.5


@runtime_checkable
class SharedStore(Protocol):
    """What a store must offer so that runs can share the work; see `fewmark.store.Store`."""

    def latest(self) -> int: ...

    def claim(self, case_ids: Iterable[str], owner: str, since: int) -> set[str]: ...

    def renew(self, owner: str) -> None: ...

    def release(self, owner: str) -> None: ...

    def claimed(self, case_ids: Iterable[str], owner: str) -> set[str]: ...

    def measured_since(self, case_ids: Iterable[str], since: int) -> set[str]: ...


class SharedWork:
    """The claims of one run: a context, in which they are kept alive and at whose end they are given up.

    Make it before the cases are chosen: what is measured later by others counts as theirs.
    """

    def __init__(self, store: SharedStore) -> None:
        self._store, self._since = store, store.latest()
        self._owner = f"{secrets.token_hex(8)} {process_identity()}"
        self._over = threading.Event()
        self._refused: dict[str, Case] = {}
        self.n_elsewhere = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._renew, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            self._store.release(self._owner)
        except StoreError:  # they expire
            if kind is None:
                raise

    def take(self, cases: Sequence[Case]) -> set[str]:
        """Which of the cases, by id, this run may measure now. Raises `StoreError`."""
        taken = self._store.claim([case.case_id for case in cases], self._owner, self._since)
        self._refused |= {case.case_id: case for case in cases if case.case_id not in taken}
        return taken

    def wait(self) -> list[Case]:
        """Wait for the cases that others have; those that they left without a measurement, empty when all is done."""
        while self._refused:
            done = self._store.measured_since(self._refused, self._since)
            self.n_elsewhere += len(done)
            for case_id in done:
                del self._refused[case_id]
            held = self._store.claimed(self._refused, self._owner)
            if free := [case for case_id, case in self._refused.items() if case_id not in held]:
                for case in free:
                    del self._refused[case.case_id]
                return free
            if self._refused:
                time.sleep(POLL_S)
        return []

    @property
    def n_waiting(self) -> int:
        """How many cases others have."""
        return len(self._refused)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                self._store.renew(self._owner)
            except StoreError:
                continue  # the next one may work; whoever writes a result meets the error
