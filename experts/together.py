"""Many calls, each by itself: for experts whose calls have nothing to do with one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from experts.values import Call, Completion


async def each_told(
    calls: Sequence[Call],
    answer: Callable[[Call], Awaitable[Completion]],
    tell: Callable[[int, Completion], None],
) -> None:
    """Answer all calls at once and ``tell`` of each, with its place, as it ends.

    Cancelled, it cancels those that are under way and waits for what they hand over, so that every
    call is told of: those that had not begun as cancelled. What ``answer`` raises is raised when
    all have ended.
    """

    if len(calls) == 1:  # most batches: no task is made for it, nor waited for
        tell(0, await answer(calls[0]))
        return

    async def told(i: int) -> None:
        tell(i, await answer(calls[i]))

    tasks = [asyncio.create_task(told(i)) for i in range(len(calls))]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for i, task in enumerate(tasks):
        if task.cancelled():  # before it ran: nobody was asked
            tell(i, Completion(call=calls[i], finish_reason="cancelled"))
        else:
            task.result()
