"""What a server serves, to whom, and how much of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from fewmark.core.errors import InputError

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN: Final = 16  # characters


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes
    ----------
    body_bytes : of a request that is no upload
    upload_bytes, upload_files : of one upload; what archives unpack to is bounded by `fewmark.interop.archives`
    cases : in one request; a model answers one request at a time, so that this bounds how long others wait
    requests_per_s : of one client, on average; bursts may be `burst` times as many. 0: any number
    """

    body_bytes: int = 2 << 20
    upload_bytes: int = 256 << 20
    upload_files: int = 5_000
    cases: int = 2_000
    requests_per_s: float = 0.0
    burst: float = 5.0


@dataclass(frozen=True)
class Settings:
    """A server's settings.

    Attributes
    ----------
    store : the store's URL; None where a file is served
    data : a result file or a packaged dataset's name; such a server takes no measurements in
    model, prior : who predicts, and whether public measurements join where little is measured
    hosts : names that a request may call this server by
    allow_runs : whether whoever may append may also start campaigns on this machine
    suites : files of suites that may be started, beside the catalogue's
    read_token, write_token : what a request must show to read, and to append; None: nothing
    """

    store: str | None = None
    data: str | None = None
    model: str = "auto"
    prior: bool = True
    hosts: tuple[str, ...] = LOCAL_HOSTS
    read_token: str | None = None
    write_token: str | None = None
    allow_runs: bool = False
    suites: tuple[str, ...] = ()
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """What is served, for people: the last part of its address."""
        return (self.data or self.store or "").rsplit("/", 1)[-1]

    @property
    def is_writable(self) -> bool:
        """Whether there is anywhere to put measurements."""
        return self.store is not None


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, settings: Settings) -> None:
    """Raises `InputError` if a server would be open to other machines without a token, or with one easily guessed."""
    for name, token in (("read", settings.read_token), ("write", settings.write_token)):
        if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
            raise InputError(
                f"the {name} token needs {MIN_TOKEN} printable ASCII characters or more",
                hint="python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
    if not is_loopback(host) and settings.read_token is None:
        raise InputError(
            "beyond this machine a server needs a token",
            got=f"--host {host}",
            hint="set FEWMARK_TOKEN (and FEWMARK_WRITE_TOKEN to let others append), or stay on 127.0.0.1",
        )
