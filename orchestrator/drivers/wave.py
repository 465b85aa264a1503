"""The wave driver: many queries advance together.

The pending calls of all queries are pooled. Experts that answer a batch as a whole are asked in
waves: once each, with all that waits for them, and all of them before the next wave, so thousands
of cascades load each expert as often as there are waves, not queries. Experts that tell of every
call as it ends (``TellingExpert``) are asked at once, and no query waits for another's slow call.

Queries need not be there all at once: so many are in flight, and more are taken in as some are
answered. Memory is bounded by that, however long the file that they come from. When there are no
more, experts that plan ahead (``PlanningExpert``) are told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from experts.expert import PlanningExpert
from experts.values import Call, Completion
from orchestrator.answer import Answer
from orchestrator.drivers.calling import Experts, Numbered, Recorder, ask_batch, tells_each
from orchestrator.drivers.run import Run
from orchestrator.drivers.till import NO_TILL, Till

_PIECE = 256
"""Calls; as many as a local expert decodes together."""


@dataclass(frozen=True, slots=True)
class Helping:
    """Further runs."""

    runs: Sequence[Run]
    is_last: bool
    """There are no more."""


More = Callable[[int], Awaitable[Helping]]
"""At most so many further runs. As few as none, though there are more, only while others are under
way: it is then asked again when one of these is answered."""
MayAsk = Callable[[Sequence[Call]], bool]
"""Whether these calls may be made now; a run for which they may not is held back."""


async def run_wave(
    runs: Sequence[Run],
    experts: Experts,
    record: Recorder,
    *,
    on_progress: Callable[[int], None] = lambda n_answered: None,
) -> list[Answer]:
    """Answers of all runs, in order. ``on_progress`` is told how many are answered."""
    coming = iter(runs)

    async def more(n: int) -> Helping:
        return Helping(list(islice(coming, n)), is_last=True)

    n_answered = 0
    async with aclosing(run_waves(more, experts, record, in_flight=len(runs))) as answered:
        async for some in answered:
            n_answered += len(some)
            on_progress(n_answered)
    return [cast(Answer, run.answer) for run in runs]


async def run_waves(
    more: More,
    experts: Experts,
    record: Recorder,
    *,
    in_flight: int,
    may_ask: MayAsk = lambda calls: True,
    till: Till = NO_TILL,
) -> AsyncGenerator[list[Run]]:
    """Runs as they are answered, those together that were so at once; at most ``in_flight`` of
    them are under way at a time.

    While runs are held back, no more are taken in; those that still are when nothing is under way
    any more are closed without an answer. Closing the generator stops the experts and records what
    they spent.
    """
    flow = _Flow(experts, record, may_ask, till)
    is_taking_in = is_exhausted = is_full = False
    try:
        while True:
            room = in_flight - len(flow.going)
            # In large helpings: deciding, too, is cheaper for many queries together.
            is_worth_it = not flow.going or (room >= max(1, in_flight // 4) and not is_full)
            if is_worth_it and not (is_taking_in or is_exhausted or flow.held):
                is_taking_in = True
                flow.start(_taken_in(more, room))
            flow.expect_more(not is_exhausted or bool(flow.held))
            flow.ask(with_wave=not is_taking_in)
            if not flow.n_under_way:
                return
            answered: list[Run] = []
            for event in await flow.events_so_far():
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, _Came):
                    is_taking_in, is_exhausted = False, event.helping.is_last
                    is_full = not event.helping.runs
                answered += flow.answered_by(event)
            if answered:
                is_full = False
                yield answered
    finally:
        await flow.stop()


@dataclass(slots=True, eq=False)
class _Going:
    """A run that has no answer yet."""

    run: Run
    completions: dict[int, Completion]
    """Of its pending calls, by their place; those that are there."""


_Place = tuple[_Going, int, Call]
"""A call, whose it is, and its place among the pending ones."""


@dataclass(frozen=True, slots=True)
class _Came:
    """Further runs were taken in."""

    helping: Helping


@dataclass(frozen=True, slots=True)
class _Told:
    """Some calls have ended."""

    completions: Sequence[tuple[_Going, int, Completion]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A batch has."""

    in_wave: bool


_Event = _Came | _Told | _Ended | Exception


async def _taken_in(more: More, n: int) -> _Came:
    return _Came(await more(n))


class _Flow:
    """Who waits for what. All of it happens in one task, which is told of the others' events."""

    def __init__(self, experts: Experts, record: Recorder, may_ask: MayAsk, till: Till) -> None:
        self._experts, self._record, self._may_ask = experts, record, may_ask
        self._till = till
        self.going: set[_Going] = set()
        self.held: deque[_Going] = deque()
        """Those of them whose calls may not be made now, oldest first."""
        self.n_under_way = 0
        """Tasks whose last event has not been seen."""
        self._n_in_wave = 0
        self._expects_more = True
        self._waiting: dict[str, list[_Place]] = {}
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, _Event]) -> None:
        """Have work done in a task of its own; its result is its last event."""
        self.n_under_way += 1
        task = asyncio.create_task(self._reported(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def events_so_far(self) -> list[_Event]:
        """One at least."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    def answered_by(self, event: _Event) -> Iterator[Run]:
        """Take an event in; runs that have their answer through it."""
        if isinstance(event, _Told):
            for going, i, completion in event.completions:
                going.completions[i] = completion
                if len(going.completions) == len(going.run.pending):
                    self.going.remove(going)
                    going.run.send([going.completions[j] for j in range(len(going.completions))])
                    yield from self._admitted(going.run)
            return
        self.n_under_way -= 1
        if isinstance(event, _Came):
            for run in event.helping.runs:
                yield from self._admitted(run)
        elif isinstance(event, _Ended) and event.in_wave:
            self._n_in_wave -= 1

    def ask(self, *, with_wave: bool) -> None:
        """Put to the experts what waits for them. Those that are asked in waves are asked only
        ``with_wave``, and when the last wave is over."""
        while self.held and self._may_ask(self.held[0].run.pending):
            self._line_up(self.held.popleft())
        with_wave = with_wave and not self._n_in_wave
        for name in list(self._waiting):
            in_wave = not tells_each(self._experts[name])
            if with_wave or not in_wave:
                self._n_in_wave += in_wave
                self.start(self._asked(name, self._waiting.pop(name), in_wave))

    def expect_more(self, more: bool) -> None:
        """Tell experts that plan ahead whether runs may come beyond those that are going."""
        if more == self._expects_more:
            return
        self._expects_more = more
        for expert in self._experts.values():
            if isinstance(expert, PlanningExpert):
                expert.expect_more(more)

    async def stop(self) -> None:
        """Stop the experts, wait for their bills, and abandon what has no answer."""
        self.expect_more(True)  # of whoever asks next
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for going in self.going:
            going.run.close()

    def _admitted(self, run: Run) -> Iterator[Run]:
        """The run, if it needs nobody any more."""
        if run.answer is not None:
            yield run
            return
        going = _Going(run, {})
        self.going.add(going)
        if self.held or not self._may_ask(run.pending):
            self.held.append(going)
        else:
            self._line_up(going)

    def _line_up(self, going: _Going) -> None:
        for i, call in enumerate(going.run.pending):
            self._waiting.setdefault(call.arm.expert, []).append((going, i, call))

    async def _asked(self, name: str, places: Sequence[_Place], in_wave: bool) -> _Ended:
        # An expert that tells nothing before all is done is asked in pieces: what they cost is
        # recorded, and whom they answer is answered, after each.
        n = _PIECE if in_wave else len(places)
        for start in range(0, len(places), n):
            piece = places[start : start + n]

            def hear(told: Sequence[Numbered], piece: Sequence[_Place] = piece) -> None:
                self._events.put_nowait(_Told([(*piece[i][:2], c) for i, c in told]))

            calls = [call for _, _, call in piece]
            await ask_batch(self._experts[name], calls, self._record, hear, self._till)
        return _Ended(in_wave)

    async def _reported(self, work: Coroutine[Any, Any, _Event]) -> None:
        try:
            event = await work
        except Exception as error:
            event = error
        self._events.put_nowait(event)
