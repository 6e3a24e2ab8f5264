"""The addresses of an endpoint's host: a connection is made to the first that does not refuse."""

from __future__ import annotations

import os
import socket
import ssl

from fewmark.load.connection import Connection, Owner
from fewmark.load.endpoint import Endpoint
from fewmark.load.tls import TlsConnection


class Addresses:
    """Looked up once, when first needed; one that was reached is tried first from then on."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._context = endpoint.tls_context()
        self._found: list[tuple[int, tuple[object, ...]]] = []
        self._tried: dict[Connection, int] = {}  # which address a connection being made is for

    def connect(self, loop: Owner, first: int) -> Connection | str:
        """A new connection, to the first address from this number on that does not refuse at once; else why not."""
        if not self._found:
            try:
                found = socket.getaddrinfo(self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                return f"no such host: {error}"
            self._found = [(int(family), address) for family, _, _, _, address in found]
        reason = "no address"
        for number in range(first, len(self._found)):
            family, address = self._found[number]
            try:
                if self._context is None:
                    connection = Connection(loop, family, address)
                else:
                    connection = TlsConnection(loop, family, address, self._context, self._endpoint.host)
            except (OSError, ssl.SSLError, ValueError) as error:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                continue
            self._tried[connection] = number
            return connection
        return reason

    def answered(self, connection: Connection) -> None:
        """The connection is made: its address is the first to be tried from now on."""
        number = self._tried.pop(connection, 0)
        if number:
            self._found.insert(0, self._found.pop(number))

    def after(self, connection: Connection) -> int | None:
        """The number of the address to try after this connection's; None if it is made already, or was the last."""
        number = self._tried.pop(connection, None)
        return number + 1 if number is not None and number + 1 < len(self._found) else None

    def forget(self, connection: Connection) -> None:
        """The connection is no more."""
        self._tried.pop(connection, None)
