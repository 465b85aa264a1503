"""HTTP/1.1 requests to one server over connections that stay open: as little as asking needs.

Behind a gateway the client is half of all that a request costs: a general one that was measured
(aiohttp's) took three times as long for it (docs/lab-notes.md). There are no redirects, since they
would take a key to somebody else, no cookies, no compression, no proxies: one POST, one response,
whole or as it comes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import cast
from urllib.parse import urlsplit

import httptools

from experts.remote.per_loop import PerLoop

CONNECT_S = 10.0
_WAITING_BYTES = 1 << 20
"""Of a response that nobody has taken yet: above, its server is made to wait."""


class CannotConnect(Exception):
    """Nothing was sent."""


class BrokenOff(Exception):
    """The request, or a part of it, was sent, and no whole response came."""


class Server:
    """Whoever listens at the scheme, host and port of a URL."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for what is no http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self._host, self._is_tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._idle = PerLoop(deque[_Connection], _close_all)

    def head(self, path: str, headers: Mapping[str, str]) -> bytes:
        """The part of a POST that is the same every time. Raises ValueError where a header would
        be more than one line."""
        lines = [f"POST {path} HTTP/1.1", f"host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a path or header with a line break")
        return "\r\n".join([*lines, "content-length: "]).encode("latin-1")

    async def post(self, head: bytes, body: bytes) -> Response:
        """The response to a request, as soon as its headers are there; whoever has it releases it.
        Raises CannotConnect and BrokenOff."""
        idle = await self._idle.get()
        connection = _usable(idle) or await self._connect()
        response = Response(connection, idle)
        try:
            await connection.post(b"%s%d\r\n\r\n%s" % (head, len(body), body), response)
        except BaseException:
            connection.close()
            raise
        return response

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls if self._is_tls else None
                )
        except TimeoutError:
            raise CannotConnect(f"no connection within {CONNECT_S:g} s") from None
        except OSError as error:
            raise CannotConnect(str(error)) from None
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _usable(idle: deque[_Connection]) -> _Connection | None:
    """The one that was used last: servers close those that idle for long."""
    while idle:
        connection = idle.pop()
        if connection.is_free:
            return connection
    return None


async def _close_all(idle: deque[_Connection]) -> None:
    for connection in idle:
        connection.close()


class Response:
    """A response as it comes."""

    __slots__ = (
        "_connection", "_error", "_idle", "_is_whole", "_more", "_parts", "headers", "n_waiting",
        "status",
    )  # fmt: skip

    def __init__(self, connection: _Connection, idle: deque[_Connection]) -> None:
        self._idle = idle
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Names in small letters."""
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self.n_waiting = 0
        """Bytes that came and were not taken."""
        self._is_whole = False
        self._error: BrokenOff | None = None
        self._more: asyncio.Future[None] | None = None

    def release(self) -> None:
        """What was not read of it is not read any more."""
        if self._connection.is_free:
            self._idle.append(self._connection)
        else:
            self._connection.close()

    async def read(self, *, max_bytes: int) -> bytes:
        """All of the body. Raises BrokenOff, and ValueError for one that is longer."""
        parts, size = [], 0
        while (part := await self.next_part()) is not None:
            size += len(part)
            if size > max_bytes:
                raise ValueError(f"the reply is longer than {max_bytes} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next_part(self) -> bytes | None:
        """What came next of the body; None after its end. Raises BrokenOff."""
        while not self._parts:
            if self._is_whole:
                return None
            if self._error is not None:
                raise self._error
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        part = self._parts.popleft()
        if self.n_waiting > _WAITING_BYTES >= self.n_waiting - len(part):
            self._connection.resume()
        self.n_waiting -= len(part)
        return part

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.n_waiting += len(part)
        if self.n_waiting > _WAITING_BYTES >= self.n_waiting - len(part):
            self._connection.pause()
        self._wake()

    def end(self) -> None:
        self._is_whole = True
        self._wake()

    def break_off(self, error: BrokenOff) -> None:
        self._error = error
        self._wake()

    @property
    def is_whole(self) -> bool:
        return self._is_whole

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._response: Response | None = None
        self._headed: asyncio.Future[None] | None = None
        self._is_closed = False
        self._stays_open = True

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent."""
        ended = self._response is None or self._response.is_whole
        return ended and self._stays_open and not self._is_closed

    async def post(self, request: bytes, response: Response) -> None:
        """Returns when the response's headers are there."""
        self._response = response
        self._headed = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        await self._headed

    def close(self) -> None:
        self._is_closed = True
        self._transport.abort()

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        if not self._is_closed:
            self._transport.resume_reading()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.is_whole:  # nobody asked
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        response = self._response
        if response is None or response.is_whole:
            return
        if exc is None and self._ends_with_connection(response):
            response.end()
        else:
            self._fail(f"the connection was closed{f': {exc}' if exc else ''}")

    def _ends_with_connection(self, response: Response) -> bool:
        is_counted = response.headers.keys() & {b"content-length", b"transfer-encoding"}
        return response.status != 0 and not is_counted

    def _fail(self, reason: str) -> None:
        error = BrokenOff(reason)
        if self._headed is not None and not self._headed.done():
            self._headed.set_exception(error)
        elif self._response is not None:
            self._response.break_off(error)
        self.close()

    # The parser's side.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None:
            self._response.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        response, headed = self._response, self._headed
        status = self._parser.get_status_code()
        if response is None or headed is None or status < 200:  # "go on", which it does anyway
            return
        response.status = status
        if not headed.done():
            headed.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._response is not None:
            self._response.add(body)

    def on_message_complete(self) -> None:
        if self._response is not None and self._response.status:
            self._stays_open = self._parser.should_keep_alive()
            self._response.end()
