"""A thread with an event loop in it, which starts when it is first needed and ends once.

Engines outlive the loops of those who ask (the command line runs one, a server another), so what
keeps them lives in a loop of its own. It knows nothing of what runs in it.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar, TypeVarTuple

from experts.errors import EngineFailed

T = TypeVar("T")
Args = TypeVarTuple("Args")


class LoopThread:
    """Safe to use from any thread."""

    def __init__(self, name: str, shut: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """shut: runs in the loop before it ends, also when the interpreter does."""
        self.name, self._shut = name, shut
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending: Future[None] | None = None
        self.is_closed = False

    def call(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """Soon, in the loop. Raises EngineFailed when it has been closed."""
        with self._lock:
            self._running().call_soon_threadsafe(function, *args)

    def call_if_running(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """As ``call``; nothing when it was never started, or has been closed."""
        with self._lock:
            if self._loop is not None and not self.is_closed:
                self._loop.call_soon_threadsafe(function, *args)

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Raises EngineFailed when it has been closed; so does the future when it is closed before
        the work has ended."""
        with self._lock:
            try:
                loop = self._running()
            except EngineFailed:
                work.close()
                raise
            return asyncio.run_coroutine_threadsafe(self._to_its_end(work), loop)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            if self.is_closed:  # whoever waits for it was not cancelled
                raise self._closed() from None
            raise

    def close(self) -> None:
        """Run ``shut``, then end. Blocks, also where another thread closes it already. Further
        calls do nothing."""
        with self._lock:
            loop, thread, self.is_closed = self._loop, self._thread, True
            if loop is None or thread is None or not thread.is_alive():
                return
            if self._ending is None:
                self._ending = asyncio.run_coroutine_threadsafe(self._end(loop), loop)
        wait([self._ending])  # interrupted here, it goes on, and the interpreter's end waits for it
        thread.join()
        atexit.unregister(self.close)
        self._ending.result()

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await self._shut()
        finally:
            loop.call_soon(loop.stop)

    def _closed(self) -> EngineFailed:
        return EngineFailed(f"{self.name} has been closed.")

    def _running(self) -> asyncio.AbstractEventLoop:
        if self.is_closed:
            raise self._closed()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A daemon, so that the interpreter can end; it then closes us before it does.
            self._thread = threading.Thread(
                target=_live, args=[self._loop], name=self.name, daemon=True
            )
            self._thread.start()
            atexit.register(self.close)
        return self._loop


def _live(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_end_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _end_tasks() -> None:
    """Nobody is left waiting for what a loop that has ended would never do."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
