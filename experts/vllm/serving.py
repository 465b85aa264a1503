"""Calls put to engines, and put back where an engine failed them.

A call that engines died under may be what kills them. So it runs without other suspects from then
on, is found out, and those who ran beside it are not blamed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

from experts.errors import EngineFailed
from experts.residency.policies.base import Serve
from experts.vllm.asking import Unusable, generate, stream
from experts.vllm.books import Books
from experts.vllm.control import Refused
from experts.vllm.job import CannotAsk, Job
from experts.vllm.slot import EngineSlot

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 10
"""At one call. Engines that are killed from outside should not cost anybody an answer."""
SUSPECT_ATTEMPTS = 2
"""After so many a call is a suspect."""
MAX_DEATHS_ALONE = 3
_SUSPECT_S = 8.0
"""How long an engine that failed a call may take to die: vLLM 0.32 took 5 s to notice that its core
was gone."""
_PROBE_S = 0.2
_WRONG = (400, 422)
"""HTTP's word for a request that would be refused tomorrow, too: a schema that is none."""
_SHOWN_CHARS = 1000


class Serving:
    """Belongs to the fleet's thread."""

    def __init__(
        self,
        books: Books,
        slots: Mapping[str, EngineSlot],
        *,
        lost: Callable[[str, str], object],
        answered: Callable[[str], object],
    ) -> None:
        """Told of slots: lost, that its engine died, and why; answered, that it did its work."""
        self._books, self._slots = books, slots
        self._lost, self._answered = lost, answered
        self._suspects = {name: asyncio.Lock() for name in slots}

    def start(self, serve: Serve) -> None:
        books = self._books
        job = books.jobs[serve.request_id]
        job.load_s += books.settle_s(serve.model)
        if job.started_s is None:
            job.started_s = time.monotonic()
        job.n_batch = len(books.state.slots[serve.slot].running)
        task = asyncio.create_task(self._serve(job, serve))
        books.running[job.request_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            # Cancelled before its first step, a task runs none of its code.
            if task.cancelled() and books.running.get(job.request_id) is task:
                job.row.cancel()
                books.served(job)

        task.add_done_callback(ended)

    def back_in_queue(self, job: Job, why: str) -> None:
        """The books have it waiting again; it may have been tried too often for that."""
        if job.tell and job.row.n_shown:
            # What was shown cannot be taken back, and another answer may differ.
            job.fail(f"the stream broke off: {why}")
        elif job.n_deaths_alone >= MAX_DEATHS_ALONE or job.n_attempts >= MAX_ATTEMPTS:
            job.fail(f"{why} ({job.n_attempts} attempts)")
        if job.error is not None:
            self._books.leave_queue(job)

    async def _serve(self, job: Job, serve: Serve) -> None:
        try:
            if job.n_attempts < SUSPECT_ATTEMPTS:
                await self._attempt(job, serve)
            else:
                async with self._suspects[serve.slot]:
                    job.is_alone = True
                    await self._attempt(job, serve)
                    job.is_alone = False  # if the engine died, that was counted
        except asyncio.CancelledError:
            if self._books.is_mine(job):  # by its caller, or its deadline
                job.row.cancel()
        # Else the slot was lost, or the call failed: it is in the queue.
        if self._books.is_mine(job):
            self._books.served(job)

    async def _attempt(self, job: Job, serve: Serve) -> None:
        slot, started = self._slots[serve.slot], time.monotonic()
        try:
            await _ask(slot, job, serve.model)
        except CannotAsk as problem:  # by the stand-in: then it is for the one that was asked
            log.info("%s cannot stand in for %s: %s", serve.model, job.model, problem)
            if self._books.is_mine(job):
                self._books.again(job, only_itself=True)
        except EngineFailed as error:
            if isinstance(error, Refused) and error.status < 500:
                job.fail(
                    error.reason[:_SHOWN_CHARS], "refused" if error.status in _WRONG else "failed"
                )
            elif isinstance(error, Unusable):
                job.fail(str(error))
            else:
                await self._suspect(job, serve.slot, error)
        except Exception as error:
            log.exception("call to %s", serve.model)
            job.fail(f"{type(error).__name__}: {error}")
        else:
            self._books.learn(serve.model, time.monotonic() - started)
            self._answered(serve.slot)

    async def _suspect(self, job: Job, slot: str, problem: EngineFailed) -> None:
        """The engine failed a call. If it is dying, all of its calls go back; if not, this one."""
        engine, left_s = self._slots[slot].engine, _SUSPECT_S
        while left_s > 0 and self._books.is_mine(job):
            if not engine.is_running or not await engine.is_healthy():
                self._lost(slot, str(problem))
                return
            if isinstance(problem, Refused) and "EngineCore" not in problem.reason:
                break  # it said why, and it is not its death
            left_s -= _PROBE_S
            await asyncio.sleep(_PROBE_S)
        if self._books.is_mine(job):
            self._books.again(job)
            self.back_in_queue(job, str(problem))


async def _ask(slot: EngineSlot, job: Job, model: str) -> None:
    prompted = job.own
    if model != job.model:  # in a thread: templates and tokenizers take their time
        prompted = await asyncio.to_thread(job.prompted_for, model)
    name = slot.served_name(model)
    job.begin(prompted)
    if job.streams:
        async with aclosing(stream(slot.control, name, job.asked)) as pieces:
            async for tokens in pieces:
                job.take(tokens)
                if job.row.done:  # by a stop sequence: the engine need not go on
                    break
    else:
        job.is_counted = False
        tokens = await generate(slot.control, name, job.asked)
        job.is_counted = True
        job.take(tokens)
    job.row.end_at_length()
    job.show()
