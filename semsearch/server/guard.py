"""What a request must be before anything is done for it: from whom it comes, and how large it is."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semsearch.server.limits import BODY, BODY_SECONDS, DRAIN_SECONDS, DRAINED, HEADERS, TARGET

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# What says nothing of the documents, so that the page can be opened and ask for the key.
_OPEN = ("/", "/healthz", "/docs", "/openapi.json", "/favicon.ico")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def error_body(message: str, kind: str) -> dict[str, Any]:
    """An error as the API gives it, in the shape that OpenAI's clients know."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class Refused(Exception):
    """A request that is not let through."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Guard:
    """ASGI middleware that lets through what is allowed and small enough, with its whole body."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] = LOOPBACK,
        origins: Collection[str] = (),
        api_key: str | None = None,
    ) -> None:
        """Guard an application.

        Args:
            app: The application.
            hosts: Names, without a port, that a request's Host may have; "*" lets any IP address be one. With any
                other name a page elsewhere could have itself resolved to this server (DNS rebinding).
            origins: Origins, such as https://example.org, that pages may have that ask, beside the server's own.
            api_key: What each request must bring, if anything.
        """
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        # As a digest, so that comparing takes the same time whatever length is given.
        self._key = None if api_key is None else hashlib.sha256(api_key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        origin = ""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(_HEADERS)
                if not scope["path"].startswith("/static/"):
                    extra["cache-control"] = "no-store"
                if origin:
                    extra |= {"access-control-allow-origin": origin, "vary": "Origin"}
                given = [pair for pair in message.get("headers", []) if pair[0].decode().lower() not in extra]
                message["headers"] = [*given, *((name.encode(), value.encode()) for name, value in extra.items())]
            await send(message)

        try:
            headers = self._headers(scope)
            host = self._host(headers)
            origin = self._origin(scope, headers, host)
            if origin and scope["method"] == "OPTIONS":
                await _allow(with_headers)
                return
            self._check_key(scope, headers)
            body = await _body(headers, receive)
        except Refused as error:
            await refuse(with_headers, error)
            return
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, with_headers)

    def _headers(self, scope: Scope) -> dict[str, list[str]]:
        if scope["http_version"] not in ("1.0", "1.1"):
            message = f"this server speaks HTTP/1.1, not HTTP/{scope['http_version']}"
            raise Refused(505, message, {"connection": "close"})  # what else is sent is not HTTP/1.1, either
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > TARGET:
            raise Refused(414, f"the address has {target} bytes; at most {TARGET} are taken")
        total = sum(len(name) + len(value) for name, value in scope["headers"])
        if total > HEADERS:
            raise Refused(431, f"the headers have {total} bytes; at most {HEADERS} are taken")
        found: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return found

    def _host(self, headers: dict[str, list[str]]) -> str:
        given = headers.get("host", [])
        if len(given) != 1:
            raise Refused(400, "a request needs one Host header")
        name = given[0].lower()
        bare, _, port = name.rpartition(":") if not name.endswith("]") else (name, "", "")
        bare = bare if port.isdecimal() and bare else name
        if bare not in self._hosts and not ("*" in self._hosts and _is_address(bare)):
            raise Refused(421, f"this server does not answer for the host {given[0]!r}; start it with --allow-host")
        return name

    def _origin(self, scope: Scope, headers: dict[str, list[str]], host: str) -> str:
        """The origin that is told that it may read the answer, or "" if none need be told."""
        given = headers.get("origin", [])
        if not given:
            # Browsers leave Origin out of simple requests, but say where they come from.
            site = headers.get("sec-fetch-site", ["none"])[-1]
            navigates = headers.get("sec-fetch-mode", [""])[-1] == "navigate" and scope["path"] in _OPEN
            if site in ("cross-site", "same-site") and not navigates:
                raise Refused(403, "a page of another site may not ask this server")
            return ""
        origin = given[0].lower()
        if len(given) == 1 and origin in self._origins:
            return given[0]
        if len(given) == 1 and origin in (f"http://{host}", f"https://{host}"):
            return ""
        raise Refused(403, f"a page of {given[0]!r} may not ask this server; start it with --allow-origin")

    def _check_key(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        if self._key is None or (scope["method"] in ("GET", "HEAD") and _is_open(scope["path"])):
            return
        scheme, _, bearer = headers.get("authorization", [""])[-1].partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", [""])[-1]
        if not hmac.compare_digest(hashlib.sha256(given.encode("latin-1")).digest(), self._key):
            what = "the API key is wrong" if given else "an API key is needed"
            raise Refused(401, f"{what}; send it as: Authorization: Bearer KEY", {"www-authenticate": "Bearer"})


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/static/")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def _body(headers: dict[str, list[str]], receive: Receive) -> bytes:
    """The whole body."""
    declared = headers.get("content-length", ["0"])[-1]
    too_large = Refused(413, f"the body is too large; at most {BODY} bytes are taken", {"connection": "close"})
    if not declared.isdecimal() or len(declared) > 18:
        raise Refused(400, f"the Content-Length {declared!r} is no number of bytes")
    if int(declared) > DRAINED:
        raise too_large
    chunks, total = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS) as deadline:
            while total <= DRAINED:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                total += len(message.get("body", b""))
                if total <= BODY:
                    chunks.append(message.get("body", b""))
                elif chunks:
                    chunks = []
                    deadline.reschedule(asyncio.get_running_loop().time() + DRAIN_SECONDS)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        if total > BODY:
            raise too_large from None
        late = f"the body did not come within {BODY_SECONDS:.0f} s"
        raise Refused(408, late, {"connection": "close"}) from None
    if total > BODY:
        raise too_large
    return b"".join(chunks)


async def refuse(send: Send, error: Refused) -> None:
    """Answer with an error."""
    body = json.dumps(error_body(str(error), "invalid_request_error")).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    await _answer(send, error.status, headers, body)


async def _allow(send: Send) -> None:
    """Answer a browser's question whether a page of an allowed origin may ask."""
    allowed = {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "Authorization, Content-Type, X-API-Key",
        "access-control-max-age": "600",
    }
    await _answer(send, 204, allowed, b"")


async def _answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
