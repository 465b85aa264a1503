"""An MCP server behind a URL: the SDK's streamable HTTP, with answers that are bounded.

The SDK bounds events of a stream, and reads answers in one piece to their end, so those are bounded
here, before they are held. Nothing is followed to another origin (the SDK's rule), no proxy of the
environment is asked, and nothing comes compressed: ten kilobytes can unfold into ten megabytes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 10.0
_INTERNAL_ERROR = -32603
"""JSON-RPC's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a server listens."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)  # a query may hold a key
        return f"{parts.scheme}://{parts.hostname}{parts.path}"

    def transport(self, max_bytes: int, on_end: Callable[[str], None]) -> Any:
        """For the SDK's client. max_bytes: of one message."""
        return _http(self, max_bytes)


@asynccontextmanager
async def _http(endpoint: Endpoint, max_bytes: int) -> AsyncGenerator[Any]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    client = httpx2.AsyncClient(
        headers={**endpoint.headers, "accept-encoding": "identity"},
        # Calls have deadlines of their own; a quiet stream is no fault.
        timeout=httpx2.Timeout(CONNECT_S, read=None),
        transport=_bounded(max_bytes),
        trust_env=False,
    )
    async with (
        client,
        streamable_http_client(
            endpoint.url, http_client=client, max_sse_event_size=max_bytes
        ) as streams,
    ):
        yield streams


def _error_body(status: int, reason: str) -> bytes:
    """Of a JSON-RPC error that tells an HTTP status."""
    said = f"it answers with HTTP status {status}{f' ({reason})' if reason else ''}"
    error = {"code": _INTERNAL_ERROR, "message": said}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()


def _is_error_body(body: bytes) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and isinstance(said.get("error"), dict) and "jsonrpc" in said


def _bounded(max_bytes: int) -> Any:
    import httpx2

    def too_large() -> Exception:
        # Of the type that the SDK turns into an answer of the call, instead of ending the session.
        return httpx2.StreamError(f"{TOO_LARGE_SAID} {max_bytes:,} bytes")

    class BoundedStream(httpx2.AsyncByteStream):
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            n = 0
            async for chunk in self._inner:
                n += len(chunk)
                if n > max_bytes:
                    raise too_large()
                yield chunk

        async def aclose(self) -> None:
            await self._inner.aclose()

    async def with_status(response: httpx2.Response) -> httpx2.Response:
        """Of anything but an error in JSON-RPC the SDK would say that there was an error."""
        try:
            body = await response.aread()
        except httpx2.StreamError:
            body = b""
        await response.aclose()
        if not _is_error_body(body):
            body = _error_body(response.status_code, response.reason_phrase)
        headers = {"content-type": "application/json"}
        return httpx2.Response(response.status_code, headers=headers, content=body)

    class Bounded(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await super().handle_async_request(request)
            kind = response.headers.get("content-type", "").lower()
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                await response.aclose()
                raise httpx2.RemoteProtocolError("it answers compressed, which it was asked not to")
            is_error = response.status_code >= 400
            if is_error or not kind.startswith("text/event-stream"):
                response.stream = BoundedStream(response.stream)  # the SDK bounds events
            # 404: it has forgotten the session, which the SDK knows.
            if is_error and response.status_code != 404:
                return await with_status(response)
            return response

    return Bounded()


TOO_LARGE_SAID = "an answer of more than"
