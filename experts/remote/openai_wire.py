"""OpenAI's chat completions over HTTP: vLLM, llama.cpp, another Conclave, or OpenAI itself."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import orjson

from experts.remote.chat import Stream, error_of, reply_of, request_of
from experts.remote.http import BrokenOff, CannotConnect, Response, Server
from experts.remote.retries import retry_after_s
from experts.remote.wire import Reply, WireError
from experts.values import Call

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
        self._server = Server(self._url)
        self._model, self._api_key = model, api_key
        self._extra_body = dict(extra_body or {})
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._head = self._server.head(urlsplit(self._url).path, headers)
        self._refused: set[str] = set()
        self._limit_name = "max_tokens"

    async def ask(self, call: Call) -> Reply:
        response = await self._posted(call)
        try:
            return reply_of(await self._body_of(response))
        finally:
            response.release()

    async def stream(self, call: Call) -> AsyncGenerator[str | Reply]:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = Stream()
        response = await self._posted(call, asked)
        try:
            async with aclosing(_lines(response)) as lines:
                async for line in lines:
                    if not line.startswith(b"data:"):
                        continue  # comments that keep the connection open, empty lines
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        break
                    if fresh := chunks.take(data):
                        yield fresh
        except BrokenOff as error:
            raise self._lost(error) from None
        finally:
            response.release()
        yield chunks.reply()

    async def _posted(self, call: Call, more: Mapping[str, Any] | None = None) -> Response:
        """The response to a request that was accepted. Raises WireError for any other."""
        while True:
            body = self._body(call, more or {})
            try:
                response = await self._server.post(self._head, orjson.dumps(body))
            except CannotConnect as error:
                raise WireError(
                    f"cannot reach {self._url}: {error}", code="unreachable", is_transient=True
                ) from None
            except BrokenOff as error:
                raise self._lost(error) from None
            if response.status == 200:
                return response
            try:
                refusal = self._error(response, await self._body_of(response))
            finally:
                response.release()
            if not self._adapted(body, refusal, call):
                raise refusal

    async def _body_of(self, response: Response) -> bytes:
        """Raises WireError for one that breaks off, or that no answer needs."""
        try:
            return await response.read(max_bytes=MAX_REPLY_BYTES)
        except BrokenOff as error:
            raise self._lost(error) from None
        except ValueError as error:
            raise WireError(str(error), may_be_paid=True) from None

    def _lost(self, error: BrokenOff) -> WireError:
        """The request had been sent: whether it was worked on, nobody knows."""
        return WireError(
            f"lost the connection to {self._url}: {error}", is_transient=True, may_be_paid=True
        )

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

    def _error(self, response: Response, body: bytes) -> WireError:
        # Some servers quote the key that they refuse; it must not get into ledger and logs.
        if self._api_key:
            body = body.replace(self._api_key.encode(), b"***")
        told = response.headers.get(b"retry-after")
        wait_s = retry_after_s(None if told is None else told.decode("latin-1"))
        return error_of(response.status, body, retry_after_s=wait_s)


async def _lines(response: Response) -> AsyncGenerator[bytes]:
    """Raises WireError for one that no event needs."""
    rest = b""
    while (part := await response.next_part()) is not None:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LINE_BYTES:
            raise WireError(f"a line of more than {_LINE_BYTES} bytes", may_be_paid=True)
    if rest:
        yield rest
