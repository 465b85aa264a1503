"""Requests under way, for a server that stops: those that it cuts short still have a bill."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

Tasks = set[asyncio.Task[None]]


class UnderWay:
    """ASGI middleware: the tasks that answer requests are in ``tasks`` while they do."""

    def __init__(self, app: ASGIApp, tasks: Tasks) -> None:
        self.app, self.tasks = app, tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return
        self.tasks.add(task)
        try:
            await self.app(scope, receive, send)
        finally:
            self.tasks.discard(task)
