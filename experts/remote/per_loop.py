"""Things that belong to an event loop (sessions, semaphores), made at first use, closed with it.

An expert outlives loops: the command line runs one, tests run many. Nobody has to remember to close
it, because an asynchronous generator that is suspended when its loop shuts down is closed by it
(``loop.shutdown_asyncgens``, which ``asyncio.run`` and uvicorn call).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


async def _nothing(value: object) -> None:
    return None


class PerLoop(Generic[T]):
    """``get`` gives the running loop's own."""

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]] = _nothing
    ) -> None:
        self._make, self._close = make, close
        # The loop itself holds its generators weakly: this keeps them alive.
        self._kept: dict[asyncio.AbstractEventLoop, tuple[AsyncGenerator[None], T]] = {}

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        if loop not in self._kept:
            value = self._make()
            keeper = self._keep(loop, value)
            self._kept[loop] = (keeper, value)
            await anext(keeper)
        return self._kept[loop][1]

    async def _keep(self, loop: asyncio.AbstractEventLoop, value: T) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._kept.pop(loop, None)
            await self._close(value)
