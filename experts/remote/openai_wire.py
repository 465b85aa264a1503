"""OpenAI's chat completions over HTTP: vLLM, llama.cpp, another Conclave, or OpenAI itself.

aiohttp, because behind a gateway httpx was measured to be the slow part (docs/lab-notes.md).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from experts.remote.chat import Stream, error_of, reply_of, request_of
from experts.remote.per_loop import PerLoop
from experts.remote.retries import retry_after_s
from experts.remote.wire import Reply, WireError
from experts.values import Call

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

CONNECT_S = 10.0
MAX_REPLY_BYTES = 64 << 20
_LINE_BYTES = 1 << 20
_OPTIONAL = ("logprobs", "seed", "stream_options")
"""Fields that a server may refuse by name; it is then asked without, from there on."""


class OpenAIWire:
    """One model of one server."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """base_url: up to and with ``/v1``. extra_body: fields to add to every request; a value of
        None leaves a field out."""
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model, self._api_key = model, api_key
        self._extra_body = dict(extra_body or {})
        self._refused: set[str] = set()
        self._limit_name = "max_tokens"
        self._sessions = PerLoop(_session, _close)

    async def ask(self, call: Call) -> Reply:
        async with self._posted(call) as response:
            return reply_of(await _read(response))

    async def stream(self, call: Call) -> AsyncGenerator[str | Reply]:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = Stream()
        async with self._posted(call, asked) as response:
            async for line in response.content:
                if not line.startswith(b"data:"):
                    continue  # comments that keep the connection open, empty lines
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    break
                if fresh := chunks.take(data):
                    yield fresh
        yield chunks.reply()

    @asynccontextmanager
    async def _posted(
        self, call: Call, more: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[ClientResponse]:
        """The response to a request that was accepted. Raises WireError for any other."""
        import aiohttp

        session = await self._sessions.get()
        headers = {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        try:
            while True:
                body = self._body(call, more or {})
                # A redirect would take the key to somebody else.
                async with session.post(
                    self._url, json=body, headers=headers, allow_redirects=False
                ) as response:
                    if response.status == 200:
                        yield response
                        return
                    error = self._error(response, await _read(response))
                if not self._adapted(body, error, call):
                    raise error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise WireError(
                f"cannot reach {self._url}: {error}",
                code="unreachable",
                is_transient=True,
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The request had been sent: whether it was worked on, nobody knows.
            raise WireError(
                f"lost the connection to {self._url}: {type(error).__name__}: {error}",
                is_transient=not isinstance(error, aiohttp.InvalidURL | ValueError),
                may_be_paid=not isinstance(error, aiohttp.InvalidURL),
            ) from None

    def _body(self, call: Call, more: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"model": self._model, **request_of(call), **more}
        fields[self._limit_name] = fields.pop("max_tokens")
        refused = self._refused - dict(call.sampling.extra).keys()
        fields = {k: v for k, v in fields.items() if k not in refused}
        return {k: v for k, v in {**fields, **self._extra_body}.items() if v is not None}

    def _adapted(self, body: Mapping[str, Any], error: WireError, call: Call) -> bool:
        """Whether to ask again without what this server does not know; refusals cost nothing. What
        the caller asked for by name is never left out."""
        if error.status not in (400, 422):
            return False
        message = str(error)
        if "max_tokens" in body and "max_completion_tokens" in message:
            self._limit_name = "max_completion_tokens"
            return True
        wanted = self._extra_body.keys() | dict(call.sampling.extra).keys()
        for name in _OPTIONAL:
            if name in body and name not in wanted and re.search(rf"\b{name}\b", message):
                self._refused.add(name)
                return True
        return False

    def _error(self, response: ClientResponse, body: bytes) -> WireError:
        # Some servers quote the key that they refuse; it must not get into ledger and logs.
        if self._api_key:
            body = body.replace(self._api_key.encode(), b"***")
        return error_of(
            response.status, body, retry_after_s=retry_after_s(response.headers.get("retry-after"))
        )


async def _read(response: ClientResponse) -> bytes:
    """The body. Raises WireError for one that no answer needs."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise WireError(f"the reply is longer than {MAX_REPLY_BYTES} bytes", may_be_paid=True)
    return b"".join(parts)


def _session() -> ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        # The expert bounds requests, and their time.
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_S),
        read_bufsize=_LINE_BYTES,
    )


async def _close(session: ClientSession) -> None:
    await session.close()
