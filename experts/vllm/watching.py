"""The watch over engines: one task a slot, until its engine dies or stops making tokens.

What is to be done about a loss is the fleet's business; a watch that has told of one is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Set
from functools import partial

from experts.errors import EngineFailed
from experts.vllm.engine import Engine

log = logging.getLogger(__name__)


class Watches:
    """Belongs to one event loop."""

    def __init__(self, is_busy: Callable[[str], bool], lost: Callable[[str, str], object]) -> None:
        """is_busy: whether calls run on a slot, so that its engine owes tokens. lost: told of the
        slot, and why; its watch has ended then, so another may begin."""
        self._is_busy, self._lost = is_busy, lost
        self._tasks: dict[str, asyncio.Task[str]] = {}

    @property
    def slots(self) -> Set[str]:
        """That are watched."""
        return self._tasks.keys()

    def begin(self, slot: str, engine: Engine) -> None:
        """Nothing where the slot is watched already."""
        if slot not in self._tasks:
            task = asyncio.create_task(_until_lost(engine, partial(self._is_busy, slot)))
            self._tasks[slot] = task
            task.add_done_callback(partial(self._ended, slot))

    def end(self, slot: str) -> None:
        if task := self._tasks.pop(slot, None):
            task.cancel()

    def end_all(self) -> None:
        for slot in list(self._tasks):
            self.end(slot)

    def _ended(self, slot: str, task: asyncio.Task[str]) -> None:
        if self._tasks.get(slot) is not task:  # it was told to end
            return
        del self._tasks[slot]
        if task.cancelled():  # with its loop
            return
        if problem := task.exception():  # an engine that nobody watches could hang for ever
            log.error("watching slot %s", slot, exc_info=problem)
        self._lost(slot, f"it cannot be watched: {problem!r}" if problem else task.result())


async def _until_lost(engine: Engine, is_busy: Callable[[], bool]) -> str:
    """Why it is lost."""
    hang_s = engine.settings.hang_s
    died = asyncio.create_task(engine.ended())
    n_done, since = -1.0, time.monotonic()
    try:
        while True:
            await asyncio.wait([died], timeout=hang_s / 4)
            if died.done():
                return str(died.result())
            if not is_busy():
                n_done, since = -1.0, time.monotonic()
                continue
            try:
                now_done = await engine.control.tokens_done()
            except EngineFailed:
                now_done = n_done
            if now_done != n_done:
                n_done, since = now_done, time.monotonic()
            elif time.monotonic() - since > hang_s:
                return str(engine.failure(f"made no token in {hang_s:g} s"))
    finally:
        died.cancel()
