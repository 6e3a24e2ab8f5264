"""Where requests go and who may see the key: the server's address, its certificates, the key's source."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from fewmark.core.errors import InputError

MAX_ERROR: Final = 400
MASK: Final = "[key]"
MIN_KEY_PART: Final = 8  # letters of a key that are masked though no more of it follows


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the OpenAI protocol.

    The key itself is never held here: only where to read it from, so that it cannot be written with the settings.

    Parameters
    ----------
    url : str
        ``http://host:port`` or ``https://host``, with a path before the routes where there is one. A closing ``/v1`` is
        that of the routes.
    key_env, key_file : str or None
        The environment variable, or the file, that holds the key.
    ca_file : str or None
        Certificates to trust instead of the system's.
    verify : bool
        False accepts any certificate.
    headers : mapping of str to str
        Further headers; no place for a key.

    Raises
    ------
    InputError
        If the URL is not one of http or https, or has a user, query or fragment; if a header is none.
    """

    url: str
    key_env: str | None = None
    key_file: str | None = None
    ca_file: str | None = None
    verify: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = self._parts()
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("the server's URL must be http://host:port or https://host", got=_without_user(self.url))
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise InputError(
                "the server's URL must hold no user, password, query or fragment",
                hint="give the name of an environment variable that holds the key",
            )
        if any(ord(c) <= 32 or ord(c) > 126 for c in self.url):
            raise InputError("the server's URL must be plain ASCII without spaces", got=self.url)
        if self.key_env is not None and self.key_file is not None:
            raise InputError("the key comes from an environment variable or from a file, not from both")
        for name, value in self.headers.items():
            if name.lower() in ("authorization", "host", "content-length", "transfer-encoding", "connection"):
                raise InputError(
                    "this header is the client's own", got=name, hint="the key comes from key_env or key_file"
                )
            if not name.replace("-", "").replace("_", "").isalnum() or not (name + value).isascii():
                raise InputError("a header's name must be letters, digits and dashes, its value ASCII", got=name)
            if any(ord(c) < 32 or ord(c) == 127 for c in value):
                raise InputError("a header's value must be one line", got=name)

    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError as error:
            raise InputError("the server's URL cannot be read", got=_without_user(self.url)) from error
        return parts

    @property
    def host(self) -> str:
        """The host's name or address, without brackets."""
        return str(self._parts().hostname)

    @property
    def port(self) -> int:
        """The port, by default that of the scheme."""
        parts = self._parts()
        return int(parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self._parts().scheme == "https")

    def path(self, route: str) -> str:
        """The full path of a route such as ``/v1/completions``."""
        prefix = str(self._parts().path).rstrip("/")
        if prefix.endswith("/v1") and route.startswith("/v1/"):
            prefix = prefix.removesuffix("/v1")
        return prefix + route

    def read_key(self) -> str | None:
        """The key, or None where none is named. Raises `InputError` if it is missing or cannot stand in a header."""
        if self.key_env is not None:
            key = os.environ.get(self.key_env, "").strip()
            if not key:
                raise InputError("the environment variable of the key is not set", got=self.key_env)
        elif self.key_file is not None:
            try:
                key = Path(self.key_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError("the file of the key cannot be read", got=self.key_file) from error
            if not key:
                raise InputError("the file of the key is empty", got=self.key_file)
        else:
            return None
        if not key.isascii() or any(ord(c) <= 32 or ord(c) == 127 for c in key):
            raise InputError("the key must be one word of ASCII", got=self.key_env or self.key_file)
        return key

    def head(self, route: str, key: str | None) -> bytes:
        """The head of a POST to this route, up to the number of the content's length."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != (443 if self.is_tls else 80):
            host = f"{host}:{self.port}"
        lines = [
            f"POST {self.path(route)} HTTP/1.1",
            f"Host: {host}",
            "User-Agent: fewmark",
            "Accept: */*",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("ascii")

    def tls_context(self) -> ssl.SSLContext | None:
        """How to encrypt, or None. Raises `InputError` if the certificates cannot be read."""
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InputError("the file of certificates cannot be read", got=self.ca_file) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Mask:
    """Makes text of a server or an exception fit to be kept: without the key, on one line, bounded.

    What the key begins with is masked as well, in either case: text may have been cut within it.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, text: str | None) -> str | None:
        """The text, masked."""
        if text is None:
            return None
        if self._key:
            text = _masked(text, self._key)
        text = " ".join(text.split())
        return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 1] + "…"


def _masked(text: str, key: str) -> str:
    """The text without the key's first letters and as many more of it as follow them."""
    parts, at = [], 0
    for found in re.finditer(re.escape(key[:MIN_KEY_PART]), text, re.IGNORECASE):
        if found.start() < at:
            continue
        end = found.end()
        for letter in key[MIN_KEY_PART:]:
            if text[end : end + 1].lower() != letter.lower():
                break
            end += 1
        parts += [text[at : found.start()], MASK]
        at = end
    return "".join([*parts, text[at:]])


def _without_user(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at else url
