"""Waiting for sockets, to less than a millisecond."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final, Protocol

MAX_EVENTS: Final = 256
FINE_S: Final = 0.003
FD_SETSIZE: Final = 1024  # select takes no file of a higher number


class Poller(Protocol):
    """What `select.epoll` and `select.poll` have in common."""

    def register(self, fd: int, eventmask: int = ..., /) -> None:
        """Wait for these events of a file."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Wait for other events of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no more."""


def make_poller() -> tuple[Poller, Callable[[float], list[tuple[int, int]]]]:
    """The platform's poller, and its wait for some seconds, which gives the files that are ready and for what."""
    if hasattr(select, "epoll"):
        epoll = select.epoll()
        if epoll.fileno() >= FD_SETSIZE:
            return epoll, lambda timeout_s: epoll.poll(timeout_s, MAX_EVENTS)
        return epoll, lambda timeout_s: _poll_finely(epoll, timeout_s)
    poll = select.poll()
    return poll, lambda timeout_s: poll.poll(timeout_s * 1000)


def _poll_finely(epoll: select.epoll, timeout_s: float) -> list[tuple[int, int]]:
    """Poll with a time limit finer than epoll's whole milliseconds, where it is short."""
    if 0.0 < timeout_s < FINE_S:
        select.select([epoll], (), (), timeout_s)
        timeout_s = 0.0
    return epoll.poll(max(timeout_s - FINE_S / 2, 0.0), MAX_EVENTS)
