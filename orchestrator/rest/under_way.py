"""Requests under way: counted and timed; those that a server which stops cuts short still have a
bill, and are told to come again."""

from __future__ import annotations

import asyncio
import json
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.keys.key import ROUTES
from orchestrator.metrics.meters import Meters
from orchestrator.rest.errors import error_body
from orchestrator.rest.gate import route_of

Tasks = set[asyncio.Task[None]]

COME_AGAIN, CLIENT_CLOSED = 503, 499
"""499 is nginx's status for a client that went away before it was told one."""
OTHER = "other"
"""Paths that keys are not for: who guesses many does not make many numbers."""
COME_AGAIN_S = 5
"""About what a server needs to be there again."""


class UnderWay:
    """ASGI middleware: the tasks that answer requests are in ``tasks`` while they do. One that is
    cancelled, as a server that stops does after a while, answers 503 if it has not begun to."""

    def __init__(self, app: ASGIApp, tasks: Tasks, meters: Meters) -> None:
        self.app, self.tasks, self._meters = app, tasks, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return
        status, started = 0, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            status = status or message["status"]
            await send(message)

        self.tasks.add(task)
        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if status:
                raise
            status = COME_AGAIN
            await _come_again(send)
        finally:
            self.tasks.discard(task)
            route = route_of(scope["path"])
            self._meters.answered(
                route if route in ROUTES else OTHER,
                status or CLIENT_CLOSED,
                time.perf_counter() - started,
            )


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
    await send({"type": "http.response.start", "status": COME_AGAIN, "headers": headers})
    await send({"type": "http.response.body", "body": body})
