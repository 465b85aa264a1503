"""Many runs in waves: how many at once, from a source that may have no room, told to who plans."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from itertools import islice

import pytest

from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion
from orchestrator.drivers.wave import Helping, run_wave, run_waves
from orchestrator.strategies.single import only
from tests.orchestrator.drivers.cascades import pool, record_nothing, runs


@pytest.mark.parametrize("in_flight", [1, 8, 30])
def test_only_so_many_runs_are_in_flight_however_many_there_are(in_flight: int) -> None:
    n, taken, answered, most = 300, 0, 0, 0
    coming = iter(runs(n))

    async def more(room: int) -> Helping:
        nonlocal taken
        some = list(islice(coming, room))
        taken += len(some)
        return Helping(some, is_last=not some)

    async def answer_all() -> None:
        nonlocal answered, most
        waves = run_waves(more, pool(n), record_nothing, in_flight=in_flight)
        async with aclosing(waves):
            async for some in waves:
                most = max(most, taken - answered)
                answered += len(some)

    asyncio.run(answer_all())
    assert answered == n
    assert in_flight // 4 <= most <= in_flight


def test_runs_that_may_not_ask_are_held_back_and_in_the_end_closed() -> None:
    coming = iter(runs(9))
    allowed = 4

    def may_ask(calls: Sequence[Call]) -> bool:
        nonlocal allowed
        allowed -= 1
        return allowed >= 0

    async def more(room: int) -> Helping:
        return Helping(list(islice(coming, room)), is_last=False)

    async def answer_all() -> int:
        waves = run_waves(more, pool(9), record_nothing, in_flight=9, may_ask=may_ask)
        async with aclosing(waves):
            return sum([len(some) async for some in waves])

    # Four waves of one run each: the first is sure at once, the second asks twice, ...
    assert 1 <= asyncio.run(answer_all()) < 4


class InTurn(FakeExpert):
    """Tells of one call after the other, with time for the driver in between."""

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        for i, call in enumerate(calls):
            for _ in range(20):
                await asyncio.sleep(0)
            [completion] = await self.complete([call])
            tell(i, completion)


def test_a_source_that_has_no_room_is_asked_again_when_something_is_answered() -> None:
    coming = deque(runs(12, lambda query, scores, pool: only(query, Arm("small"))))
    n_taken, n_answered = 0, 0
    in_flight_then: list[int] = []

    async def more(room: int) -> Helping:
        nonlocal n_taken
        in_flight = n_taken - n_answered
        some = [coming.popleft() for _ in range(min(4, len(coming)))] if in_flight < 3 else []
        n_taken += len(some)
        in_flight_then.append(in_flight)
        return Helping(some, is_last=not coming)

    async def answer_all() -> None:
        nonlocal n_answered
        experts = {"small": InTurn("small", lambda call: "well")}
        waves = run_waves(more, experts, record_nothing, in_flight=100)
        async with aclosing(waves):
            async for some in waves:
                n_answered += len(some)

    asyncio.run(answer_all())
    assert n_answered == 12
    # Once for each answer, and not over and over.
    assert in_flight_then == [0, 4, 3, 2, 6, 5, 4, 3, 2]


def test_a_source_that_had_no_room_is_asked_again_although_nothing_is_left_to_wait_for() -> None:
    coming = deque(runs(2, lambda query, scores, pool: only(query, Arm("small"))))
    is_answered = asyncio.Event()
    n_asked = 0

    async def more(room: int) -> Helping:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:  # it looked while the first was there, and says so when it is gone
            await is_answered.wait()
            return Helping([], is_last=False)
        return Helping([coming.popleft()], is_last=not coming)

    async def answer_all() -> int:
        experts = {"small": InTurn("small", lambda call: "well")}
        waves = run_waves(more, experts, record_nothing, in_flight=8)
        n = 0
        async with aclosing(waves):
            async for some in waves:
                n += len(some)
                is_answered.set()
        return n

    assert asyncio.run(answer_all()) == 2


class Planner(FakeExpert):
    """Notes what it is told to expect, between the questions that it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name, lambda call: "well")
        self.heard: list[str | bool] = []

    def expect_more(self, more: bool) -> None:
        self.heard.append(more)

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        self.heard += [call.query_id for call in calls]
        return await super().complete(calls)


def heard_of_three(*, is_left: bool = False, budget: int = 9) -> list[str | bool]:
    """What it hears of a driver that has two runs in flight at a time."""
    planner = Planner("small")
    coming = deque(runs(3, lambda query, scores, pool: only(query, Arm("small"))))

    async def more(room: int) -> Helping:
        some = [coming.popleft() for _ in range(min(room, len(coming)))]
        return Helping(some, is_last=not coming)

    def may_ask(calls: Sequence[Call]) -> bool:
        nonlocal budget
        budget -= 1
        return budget >= 0

    async def answer_all() -> None:
        waves = run_waves(more, {"small": planner}, record_nothing, in_flight=2, may_ask=may_ask)
        async with aclosing(waves):
            async for _ in waves:
                if is_left:
                    return

    asyncio.run(answer_all())
    return planner.heard


def test_experts_that_plan_are_told_when_nothing_more_comes_and_when_that_is_over() -> None:
    assert heard_of_three() == ["0", "1", False, "2", True]


def test_who_is_left_early_is_not_left_with_the_belief_that_nothing_comes() -> None:
    assert True not in heard_of_three(is_left=True)[:-1]


def test_runs_that_are_held_back_are_still_to_come() -> None:
    assert False not in heard_of_three(budget=2)


def test_a_wave_s_error_in_recording_is_raised_and_not_the_experts() -> None:
    def full(completions: Sequence[Completion]) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(run_wave(runs(3), pool(3), full))
