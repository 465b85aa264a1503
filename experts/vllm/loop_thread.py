"""A thread with an event loop in it, which starts when it is first needed and ends once.

Engines outlive the loops of those who ask (the command line runs one, a server another), so what
keeps them lives in a loop of its own. It knows nothing of what runs in it.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
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
        """Raises EngineFailed when it has been closed."""
        with self._lock:
            try:
                loop = self._running()
            except EngineFailed:
                work.close()
                raise
            return asyncio.run_coroutine_threadsafe(work, loop)

    def close(self) -> None:
        """Run ``shut``, then end. Blocks. Further calls do nothing."""
        with self._lock:
            loop, thread, self.is_closed = self._loop, self._thread, True
        if loop is None or thread is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        atexit.unregister(self.close)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self.is_closed:
            raise EngineFailed(f"{self.name} has been closed.")
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
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
