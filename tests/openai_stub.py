"""A server that speaks OpenAI's chat completions and behaves as badly as it is told to.

It runs in the test's own event loop. Words are tokens; answers come from a mapping.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Reaction = Callable[["OpenAIStub", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]

CONTEXT_WORDS = 200


class OpenAIStub:
    """``reactions`` are used up first, one a request; then it answers as it should."""

    def __init__(
        self,
        answers: Mapping[str, str],
        *reactions: Reaction,
        models: tuple[dict[str, Any], ...] = ({"id": "words"},),
        tells_usage: bool = True,
        refuses: tuple[str, ...] = (),
    ) -> None:
        self.answers, self.reactions, self.models = answers, list(reactions), models
        self.tells_usage, self.refuses = tells_usage, refuses
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.n_at_once, self.most_at_once = 0, 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OpenAIStub]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/v1"))
            yield self

    async def _models(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("authorization"))
        return web.json_response({"object": "list", "data": list(self.models)})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        self.n_at_once += 1
        self.most_at_once = max(self.most_at_once, self.n_at_once)
        try:
            if self.reactions:
                return await self.reactions.pop(0)(self, request, body)
            return await self.behave(request, body)
        finally:
            self.n_at_once -= 1

    async def behave(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        for name in self.refuses:
            if name in body:
                return error(400, f"Unknown field '{name}'", param=name)
        said = [m["content"] for m in body["messages"]]
        n_asked = sum(len(text.split()) for text in said)
        if n_asked > CONTEXT_WORDS:
            return error(400, f"This model's maximum context length is {CONTEXT_WORDS} tokens.")
        words = self.answers.get(said[-1], "I do not know").split(" ")
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        text = " ".join(words[:limit])
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        finish = "length" if len(words) > limit else "stop"
        usage = {"prompt_tokens": n_asked, "completion_tokens": len(words[:limit])}
        if body.get("stream"):
            return await self._stream(request, text, finish, usage)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
        }
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [_logprob(w) for w in text.split(" ")]}
        more = {"usage": {**usage, "total_tokens": sum(usage.values())}} if self.tells_usage else {}
        return web.json_response(_body("chat.completion", [choice]) | more)

    async def _stream(
        self, request: web.Request, text: str, finish: str, usage: dict[str, int]
    ) -> web.StreamResponse:
        response = await open_stream(request)
        for i, word in enumerate(text.split(" ")):
            await send(response, word if i == 0 else f" {word}")
        choice = {"index": 0, "delta": {}, "finish_reason": finish}
        await send_event(response, _body("chat.completion.chunk", [choice]))
        if self.tells_usage:
            told = {"usage": {**usage, "total_tokens": sum(usage.values())}}
            await send_event(response, _body("chat.completion.chunk", []) | told)
        await response.write(b"data: [DONE]\n\n")
        return response


# Reactions.


def failing(status: int, message: str = "not now", **headers: str) -> Reaction:
    async def react(stub: OpenAIStub, request: web.Request, body: dict[str, Any]) -> web.Response:
        return error(status, message, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return react


async def hanging_up(
    stub: OpenAIStub, request: web.Request, body: dict[str, Any]
) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


async def hanging(
    stub: OpenAIStub, request: web.Request, body: dict[str, Any]
) -> web.StreamResponse:
    """Says its first words, if it streams, and nothing more."""
    if body.get("stream"):
        response = await open_stream(request)
        await send(response, "It is")
    await asyncio.Event().wait()
    raise AssertionError


async def breaking_off(
    stub: OpenAIStub, request: web.Request, body: dict[str, Any]
) -> web.StreamResponse:
    response = await open_stream(request)
    await send(response, "It is")
    await send(response, " well")
    return response


def saying(body: bytes) -> Reaction:
    async def react(stub: OpenAIStub, request: web.Request, asked: dict[str, Any]) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return react


def error(
    status: int, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    told = {"error": {"message": message, "type": "some_error", "param": param, "code": None}}
    return web.json_response(told, status=status, headers=headers)


async def open_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    return response


async def send(response: web.StreamResponse, text: str) -> None:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    await send_event(response, _body("chat.completion.chunk", [choice]))


async def send_event(response: web.StreamResponse, body: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(body)}\n\n".encode())


def _body(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "c-1", "object": kind, "created": 1, "model": "words", "choices": choices}


def _logprob(word: str) -> dict[str, Any]:
    return {"token": word, "logprob": -0.1, "bytes": None, "top_logprobs": []}
