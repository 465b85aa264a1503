"""Clients that go away: work for them is stopped, and what it has cost so far is still recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")

_LOOK_AFTER_S = 0.05
"""Most answers are there by then, and looking costs about as much as the rest of a request."""


async def unless_gone(work: Awaitable[T], receive: Receive) -> T | None:
    """The work's result, or None when the client went away first. The work, which is done in the
    caller's own task, is then cancelled, and has ended when this returns."""
    looking = _Looking(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if looking.is_gone and looking.task.uncancel() == 0:  # nobody else wants it cancelled
            return None
        raise
    finally:
        looking.end()


class _Looking:
    """Cancels the task that made it when the client goes away."""

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Requests are answered within a task of asyncio.")
        self.task, self._receive = task, receive
        self.is_gone = False
        self._looker: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LOOK_AFTER_S, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._looker is not None:
            self._looker.cancel()

    def _begin(self) -> None:
        self._looker = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.task.cancel()
