"""A connection whose bytes are encrypted."""

from __future__ import annotations

import ssl
from select import POLLIN, POLLOUT

from fewmark.load.connection import READ_SIZE, Connection, Owner
from fewmark.load.records import RequestStatus


class TlsConnection(Connection):
    """A connection whose bytes pass through a TLS object in memory, so that reads keep the kernel's times."""

    is_encrypted = True

    def __init__(
        self, owner: Owner, family: int, address: tuple[object, ...], context: ssl.SSLContext, host: str
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._is_shaken = False
        super().__init__(owner, family, address)

    def on_event(self, mask: int) -> None:
        """The socket is ready for what `mask` says."""
        if self.is_made and not self._is_shaken and not mask & ~POLLOUT and not self._out:
            self._want(POLLIN)
            return
        super().on_event(mask)

    def _made(self) -> None:
        self.is_made = True
        self._shake()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._push()
            self.owner.ended(self, RequestStatus.TLS_ERROR, _tls_reason(error))
            return
        self._is_shaken = True
        self._push()
        super()._made()

    def _write_request(self) -> None:
        if self._is_shaken:
            super()._write_request()

    def _write(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            self.owner.ended(self, RequestStatus.TLS_ERROR, _tls_reason(error))
            return
        self._push()

    def _push(self) -> None:
        data = self._outgoing.read()
        if not data:
            return
        if self._out:
            self._out = memoryview(bytes(self._out) + data)
        else:
            super()._write(data)

    def received(self, stamp: bytes | int, data: bytes) -> None:
        """Decrypt a read."""
        self._incoming.write(data)
        if not self._is_shaken:
            self._shake()
            return
        plain: list[bytes] = []
        closed = False
        try:
            while part := self._tls.read(READ_SIZE):
                plain.append(part)
            closed = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            closed = True
        except ssl.SSLError as error:
            self.owner.ended(self, RequestStatus.TLS_ERROR, _tls_reason(error))
            return
        sent = self.sent
        self._push()
        if plain:
            super().received(stamp, b"".join(plain))
        if closed and sent is not None and self.sent is sent:
            super().closed()

    def closed(self) -> None:
        """The server closed the connection."""
        if not self._is_shaken:
            self.owner.ended(self, RequestStatus.TLS_ERROR, "the connection closed during the handshake")
            return
        super().closed()

    def _lost(self, error: OSError) -> None:
        if self.is_made and not self._is_shaken:
            self.owner.ended(self, RequestStatus.TLS_ERROR, f"during the handshake: {error.strerror or error}")
            return
        super()._lost(error)


def _tls_reason(error: ssl.SSLError | ssl.CertificateError) -> str:
    return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error)
