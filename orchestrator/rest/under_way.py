"""Requests under way, for a server that stops: those that it cuts short still have a bill, and are
told to come again."""

from __future__ import annotations

import asyncio
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.rest.errors import error_body

Tasks = set[asyncio.Task[None]]

COME_AGAIN_S = 5
"""About what a server needs to be there again."""


class UnderWay:
    """ASGI middleware: the tasks that answer requests are in ``tasks`` while they do. One that is
    cancelled, as a server that stops does after a while, answers 503 if it has not begun to."""

    def __init__(self, app: ASGIApp, tasks: Tasks) -> None:
        self.app, self.tasks = app, tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        self.tasks.add(task)
        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if has_begun:
                raise
            await _come_again(send)
        finally:
            self.tasks.discard(task)


async def _come_again(send: Send) -> None:
    message = (
        "The server is stopping, and this request was cut short. Send it again in a moment; with "
        "its Idempotency-Key, if it had one, what was paid for it is not paid again."
    )
    body = json.dumps(error_body(message, "server_error", "server_stopping")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(COME_AGAIN_S).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
