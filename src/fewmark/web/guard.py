"""What every request passes before anything else: host, origin, token, rate, size; and the headers of every answer."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewmark.web.settings import Settings

COOKIE: Final = "fewmark_token"
OPEN_PATHS: Final = ("/v1/health", "/v1/ready")
STATIC: Final = "/static/"
UPLOADS: Final = ("/data", "/compare")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
WRITING_PATHS: Final = ("/v1/measurements", "/campaigns", *UPLOADS)  # all other posts ask, and change nothing
MAX_CLIENTS: Final = 10_000
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class _TooLargeError(Exception):
    """The body is larger than what is taken."""


class Guard:
    """The outermost ASGI application. Refusals are JSON of the error tree's form: what, got, hint."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._hosts = {host.casefold() for host in settings.hosts}
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        sender = _with_headers(send, scope["path"])
        if refusal is not None:
            await refusal(scope, receive, sender)
            return
        limit = self._limit_of(scope["path"])
        started = False

        async def limited_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await sender(message)

        try:
            await self.app(scope, _limited(receive, limit), limited_send)
        except _TooLargeError:
            if started:
                raise
            await _refuse(413, "the request is too large", f"more than {limit:,} bytes")(scope, receive, sender)

    def _limit_of(self, path: str) -> int:
        limits = self.settings.limits
        return limits.upload_bytes if path in UPLOADS else limits.body_bytes

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, method = scope["path"], scope["method"]
        host = headers.get("host", "")
        if _name_of(host) not in self._hosts:
            return _refuse(421, "this server is not called by that name", host, "fewmark serve --allow-host NAME")
        if method not in SAFE_METHODS and not _is_same_origin(headers, host):
            return _refuse(403, "a page of another site may not ask that", headers.get("origin"))
        if not self._may_come(scope):
            refusal = _refuse(429, "too many requests", hint="wait a second")
            refusal.headers["retry-after"] = "1"
            return refusal
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit_of(path):
            return _refuse(413, "the request is too large", f"{length} bytes", f"at most {self._limit_of(path):,}")
        return self._unauthorised(scope, headers)

    def _unauthorised(self, scope: Scope, headers: Headers) -> Response | None:
        settings, path = self.settings, scope["path"]
        if path in OPEN_PATHS or path.startswith(STATIC):
            return None
        is_writing = scope["method"] not in SAFE_METHODS and path.startswith(WRITING_PATHS)
        tokens = [settings.write_token] if is_writing else [settings.read_token, settings.write_token]
        accepted = [token for token in tokens if token is not None]
        if is_writing and settings.read_token is not None and not accepted:
            return _refuse(403, "this server takes nothing in", hint="start it with FEWMARK_WRITE_TOKEN")
        if not accepted or (not is_writing and settings.read_token is None):
            return None
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if "token" in query and scope["method"] == "GET" and _is_one_of(query["token"], accepted):
            return _with_cookie(path, query)
        shown = headers.get("authorization", "").removeprefix("Bearer ").strip() or _cookie(headers)
        if _is_one_of(shown, accepted):
            return None
        refusal = _refuse(
            401, f"a token is needed to {'append' if is_writing else 'read'}",
            hint="Authorization: Bearer TOKEN, or once ?token=TOKEN in a browser",
        )  # fmt: skip
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal

    def _may_come(self, scope: Scope) -> bool:
        """A bucket a client: refilled at the rate allowed, as large as a burst."""
        rate = self.settings.limits.requests_per_s
        if rate <= 0 or scope["path"].startswith(STATIC):
            return True
        client = scope.get("client")
        key = client[0] if client else ""
        most, now = rate * self.settings.limits.burst, time.monotonic()
        left, then = self._buckets.pop(key, (most, now))
        left = min(most, left + (now - then) * rate)
        self._buckets[key] = max(left - 1.0, 0.0), now
        while len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return left >= 1.0


def _limited(receive: Receive, limit: int) -> Receive:
    """Messages of a body until it exceeds its limit, whatever its length was said to be."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _TooLargeError
        return message

    return limited


def _with_headers(send: Send, path: str) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if not path.startswith(STATIC):
                headers["cache-control"] = "no-store"
        await send(message)

    return sender


def _name_of(host: str) -> str:
    """The host without its port, for comparison; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").casefold()
    except ValueError:
        return ""


def _is_same_origin(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.casefold() == host.casefold()


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _is_one_of(shown: str, accepted: list[str]) -> bool:
    return any(secrets.compare_digest(shown.encode(), token.encode()) for token in accepted)


def _with_cookie(path: str, query: dict[str, str]) -> Response:
    """To the same page without the token in its address, which histories keep."""
    token = query.pop("token")
    where = f"/{path.lstrip('/')}" + (f"?{urlencode(query)}" if query else "")
    response = RedirectResponse(where, status_code=303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return response


def _refuse(status: int, what: str, got: str | None = None, hint: str | None = None) -> Response:
    shown = None if got is None else got[:200]
    return JSONResponse({"error": {"what": what, "got": shown, "hint": hint}}, status_code=status)
