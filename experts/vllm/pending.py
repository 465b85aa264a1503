"""Work under way that will change the fleet's books: loads, reads, slots coming back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Pending:
    """Belongs to one event loop."""

    def __init__(self, happened: Callable[[], None]) -> None:
        """happened: told when a piece of work is over, whatever became of it."""
        self._happened = happened
        self._tasks: set[asyncio.Task[None]] = set()
        self._n = 0

    def __bool__(self) -> bool:
        """Whether anything is still to come."""
        return self._n > 0

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def counted() -> None:
            try:
                await work
            finally:
                self._n -= 1
                self._happened()

        self._n += 1
        task = asyncio.create_task(counted())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Cancel all of it, and wait until it is over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
