"""``POST /v1/chat/completions``: from the bytes of a request to those of its answer.

An ASGI application of its own, beside FastAPI's: nine of ten requests come here, and what a
framework does for each of them takes several times as long as forwarding it. What the framework is
good for, the schema and its pages, it gets (``documented``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from experts.values import Query
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.decision import Result
from orchestrator.failures import raise_if_failed
from orchestrator.forwarding import Forwarder, Payer
from orchestrator.keys.key import VirtualKey
from orchestrator.queries import choices, least, new_query_id
from orchestrator.rest.chat import Stamp, completion_body, forwarded_body, kept_sse, sse
from orchestrator.rest.clients import unless_gone
from orchestrator.rest.errors import describe, explain_invalid
from orchestrator.rest.gate import KEY_IN_SCOPE
from orchestrator.rest.idempotency import REPLAYED, Kept, Key, Keys, key_of
from orchestrator.rest.plain import Plain, plain_chat
from orchestrator.rest.schemas import ChatRequest, to_query

log = logging.getLogger(__name__)

PATH = "/v1/chat/completions"
_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"


class ChatDoor:
    """An ASGI application for one path."""

    def __init__(self, conclave: Conclave, config: Config) -> None:
        self._conclave, self._config = conclave, config
        self._forwarder = Forwarder(conclave, source="serve")
        self._keys = Keys(conclave.ledger, kept_s=config.server.idempotency_kept_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await _body_of(receive)
        try:
            if (plain := self._plain(scope, content)) is not None:
                await unless_gone(self._forward(*plain, send), receive)
                return
            asked = _Asked.of(scope, content, self._config)
            work = self._stream(asked, send) if asked.body.stream else self._answer(asked, send)
            await unless_gone(work, receive)
        except ValidationError as error:
            headers = dict(scope["headers"])
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            await _tell(send, *explain_invalid(error, ChatRequest, content_type))
        except Exception as error:
            await _tell(send, *describe(error))

    def _plain(self, scope: Scope, content: bytes) -> tuple[Plain, Payer] | None:
        """A request that can go the short way, and for whom."""
        limits = self._config.limits
        if limits.max_cost_usd is not None or limits.max_s is not None:
            return None
        is_json = False
        for name, value in scope["headers"]:
            if name == b"idempotency-key":
                return None
            is_json = is_json or (name == b"content-type" and b"json" in value)
        plain = plain_chat(content, max_tokens=limits.max_tokens) if is_json else None
        if plain is None or plain.stream or plain.model not in self._conclave.experts:
            return None
        key: VirtualKey | None = scope.get(KEY_IN_SCOPE)
        if key is None:
            return plain, Payer(plain.user, "", limits.timeout_s)
        allowed = key.allowance
        if allowed.max_cost_usd is not None or not key.may_ask(plain.model):
            return None
        return plain, Payer(key.key_id, key.key_id, least(limits.timeout_s, allowed.timeout_s))

    async def _forward(self, plain: Plain, payer: Payer, send: Send) -> None:
        forwarded = await self._forwarder.forward(
            plain.model, plain.messages, plain.sampling, payer
        )
        await _tell(send, 200, forwarded_body(plain.model, forwarded))

    async def _answer(self, asked: _Asked, send: Send) -> None:
        body, key, keys = asked.body, asked.idempotency_key, self._keys
        queries = [asked.query]
        if body.n > 1 or key is not None:
            queries = choices(asked.query, asked.query_ids)

        async def answered() -> dict[str, Any]:
            answers = [
                self._conclave.answer(
                    query,
                    body.target,
                    source="serve",
                    recalls_since_s=None if key is None else keys.since_s,
                )
                for query in queries
            ]
            results = [await answers[0]] if len(answers) == 1 else await asyncio.gather(*answers)
            return completion_body(body.model, results)

        told = await (answered() if key is None else keys.once(key, answered))
        if isinstance(told, Kept):
            await _tell(send, 200, told.body, REPLAYED)
        else:
            await _tell(send, 200, told)

    async def _stream(self, asked: _Asked, send: Send) -> None:
        body, key, keys = asked.body, asked.idempotency_key, self._keys
        query, stamp = asked.query, Stamp()
        pieces: AsyncGenerator[Any] = self._conclave.stream(
            query if key is None else replace(query, query_id=key.query_id),
            body.target,
            source="serve",
            recalls_since_s=None if key is None else keys.since_s,
        )
        if key is not None:
            pieces = keys.once_streamed(key, body.model, stamp, pieces)
        async with aclosing(pieces):
            # What fails before the first words gets its real status: for most plans that is all.
            first = await anext(pieces)
            if isinstance(first, Result):
                raise_if_failed(first.answer)
            usage = body.stream_options.include_usage if body.stream_options else False
            if isinstance(first, Kept):
                events = kept_sse(first.body, include_usage=usage)
                await _send_events(send, events, REPLAYED)
            else:
                events = sse(body.model, stamp, _chained(first, pieces), include_usage=usage)
                await _send_events(send, events)


@dataclass(frozen=True)
class _Asked:
    """A request, understood."""

    body: ChatRequest
    query: Query
    headers: Mapping[bytes, bytes]

    @classmethod
    def of(cls, scope: Scope, content: bytes, config: Config) -> _Asked:
        """Raises ValidationError, and what ``to_query`` raises."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        # A page of another site may send forms and plain text here, but no JSON unless it is let.
        is_json = b"json" in headers.get(b"content-type", b"")
        body = ChatRequest.model_validate_json(content if is_json else b"")
        key: VirtualKey | None = scope.get(KEY_IN_SCOPE)
        return cls(body, to_query(body, config, body.sampling(config), key=key), headers)

    @cached_property
    def idempotency_key(self) -> Key | None:
        name = self.headers.get(b"idempotency-key")
        if name is None:
            return None
        authorization = self.headers.get(b"authorization")
        told = None if authorization is None else authorization.decode("latin-1")
        return key_of(name.decode("latin-1"), self.body, told)

    @property
    def query_ids(self) -> list[str]:
        """Of the choices that it asks for."""
        others = range(1, self.body.n)
        if (key := self.idempotency_key) is None:
            return [self.query.query_id, *(new_query_id() for _ in others)]
        return [key.query_id, *(f"{key.query_id}.{i}" for i in others)]


def documented(app: FastAPI, door: ChatDoor) -> None:
    """Put the door among an application's routes, with its schema."""

    class Route(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "POST":
                await door(scope, receive, send)
            else:
                await super().handle(scope, receive, send)  # 405

    async def chat_completions(
        body: ChatRequest,
        idempotency_key: Annotated[str | None, Header()] = None,
        authorization: Annotated[str | None, Header()] = None,
    ) -> None:
        """Answer a conversation. ``model`` is ``conclave``, a policy or an expert's name. Asked
        again with the same ``Idempotency-Key``, it gives the same answer and costs nothing."""

    route = Route(PATH, chat_completions, methods=["POST"], tags=["OpenAI"])
    app.router.routes.append(route)


async def _body_of(receive: Receive) -> bytes:
    message = await receive()
    if not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts = [message["body"]]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def _chained(first: Any, rest: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    yield first
    async for piece in rest:
        yield piece


async def _tell(
    send: Send, status: int, told: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> None:
    body = orjson.dumps(told)
    length = (b"content-length", b"%d" % len(body))
    headers = [(b"content-type", _JSON), length, *_headers(more)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_events(
    send: Send, events: AsyncGenerator[bytes], more: Mapping[str, str] | None = None
) -> None:
    headers = [(b"content-type", _EVENTS), (b"cache-control", b"no-cache"), *_headers(more)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async with aclosing(events):
        try:
            async for event in events:
                body = {"type": "http.response.body", "body": event, "more_body": True}
                await send(body)
        except Exception:  # no status can be told any more; the stream ends without its end
            log.exception("a stream broke off")
            return
    await send({"type": "http.response.body", "body": b""})


def _headers(more: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode()) for k, v in (more or {}).items()]
