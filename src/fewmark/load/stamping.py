"""The kernel's stamping of packets, switched on before a load begins.

Linux stamps packets from a while after the first socket on the machine asks for it until the last one is closed, and
what arrives over TCP in that while has no stamp.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

from fewmark.load.connection import STAMP_SPACE, stamp_socket

WAIT_S: Final = 1.0
STEP_S: Final = 0.002


@contextlib.contextmanager
def kernel_stamping() -> Iterator[bool]:
    """Keep the kernel stamping packets; False where it has not begun within a second, or has no stamps."""
    with contextlib.ExitStack() as stack:
        began = False
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                sender = stack.enter_context(socket.create_connection(listener.getsockname(), WAIT_S))
                receiver = stack.enter_context(listener.accept()[0])
                listener.close()
                receiver.settimeout(WAIT_S)
                stamp_socket(receiver)
                began = _wait(sender, receiver)
        yield began


def _wait(sender: socket.socket, receiver: socket.socket) -> bool:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        sender.send(b"\0")
        if receiver.recvmsg(1, STAMP_SPACE)[1]:
            return True
        time.sleep(STEP_S)
    return False
