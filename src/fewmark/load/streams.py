"""The streams of a worker's load: each carries one request at a time, and the lowest free number goes first."""

from __future__ import annotations

import heapq


class Streams:
    """Numbered from `first_slot` on; there are as many as were ever in use at once."""

    def __init__(self, first_slot: int) -> None:
        self._first_slot = first_slot
        self._n_slots = 0
        self._free: list[int] = []  # those that have carried a request and may carry another
        self._freed_ns: dict[int, int] = {}
        self._resting: list[tuple[int, int]] = []  # those whose connection was refused, and until when

    @property
    def n_resting(self) -> int:
        """How many wait before they try again."""
        return len(self._resting)

    def take(self) -> tuple[int, int | None]:
        """A free stream, and since when it was free; None for one that is new."""
        if self._free:
            slot = heapq.heappop(self._free)
            return slot, self._freed_ns[slot]
        self._n_slots += 1
        return self._first_slot + self._n_slots - 1, None

    def give_back(self, slot: int, now_ns: int) -> None:
        """The stream may carry another request."""
        self._freed_ns[slot] = now_ns
        heapq.heappush(self._free, slot)

    def rest(self, slot: int, until_ns: int) -> None:
        """The stream may carry another request, but not before then."""
        heapq.heappush(self._resting, (until_ns, slot))

    def wake(self, now_ns: int) -> None:
        """Free those that have rested."""
        while self._resting and self._resting[0][0] <= now_ns:
            until_ns, slot = heapq.heappop(self._resting)
            self.give_back(slot, until_ns)
