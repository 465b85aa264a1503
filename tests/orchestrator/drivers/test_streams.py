"""Answers as they come: what is streamed, and what is paid when a stream ends early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Delta, Limits, Query, Usage
from orchestrator.answer import Answer
from orchestrator.drivers.live import stream_live
from orchestrator.drivers.run import Run
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from orchestrator.strategies.single import single
from tests import pools
from tests.orchestrator.drivers.cascades import (
    CASCADE,
    believed,
    iter_only,
    pool,
    record_nothing,
    scores,
)


def streamed(experts: dict[str, FakeExpert], steps: Steps) -> list[Delta | Answer]:
    async def collect() -> list[Delta | Answer]:
        return [p async for p in stream_live(Run(steps, Limits()), experts, record_nothing)]

    return asyncio.run(collect())


def test_tokens_are_streamed_when_the_call_is_the_answer() -> None:
    def only(query: Query) -> Steps:
        [c] = yield [ask(query, Arm("small"), streams_answer=True)]
        return Answer(text=c.text, answer=c.text, p_correct=None, contributors=(), completions=(c,))

    *deltas, answer = streamed(pool(1), only(pools.query("?", query_id="0")))
    assert [d.text for d in deltas if isinstance(d, Delta)] == ["small", " on", " 0"]
    assert isinstance(answer, Answer)


def test_other_answers_are_streamed_whole() -> None:
    steps = CASCADE(pools.query("?", query_id="1"), scores(), Pool.of(pool(1).values()))
    deltas = [p for p in streamed(pool(1), steps) if isinstance(p, Delta)]
    assert [d.text for d in deltas] == ["medium on 1"]


def test_a_closed_stream_is_paid_for() -> None:
    paid: list[Completion] = []

    async def leave_early() -> None:
        steps = iter_only(pools.query("?", query_id="0"))
        stream = stream_live(Run(steps, Limits()), pool(1), paid.extend)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave_early())
    assert [c.finish_reason for c in paid] == ["cancelled"]
    assert paid[0].usage.output_tokens == 1
    assert paid[0].cost_usd > 0


def test_a_stream_that_is_left_before_its_first_word_is_paid_for() -> None:
    paid: list[Completion] = []

    async def leave_at_once() -> None:
        slow = {"small": FakeExpert("small", {}, latency_s=30)}
        run = Run(iter_only(pools.query("three words here", query_id="0")), Limits())
        stream = stream_live(run, slow, paid.extend)
        first = asyncio.ensure_future(anext(stream))
        while not slow["small"].batches:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(leave_at_once())
    assert [c.finish_reason for c in paid] == ["cancelled"]
    assert paid[0].usage.input_tokens == 3
    assert paid[0].cost_usd == pytest.approx(3e-6)


@pytest.mark.parametrize(
    ("problem", "said"),
    [(ConnectionError("line cut"), "line cut"), (None, "ended without a completion")],
)
def test_a_stream_that_breaks_keeps_its_words_its_bill_and_says_so(
    problem: Exception | None, said: str
) -> None:
    class Breaks(FakeExpert):
        async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
            yield Delta(text="half an", usage=Usage(input_tokens=3, output_tokens=2))
            if problem:
                raise problem

    paid: list[Completion] = []

    async def collect() -> list[Delta | Answer]:
        strategy = single(believed)
        query = pools.query("?", query_id="0")
        dead = FakeExpert("large", fails)
        experts = {"large": dead, "small": Breaks("small", {})}
        cards = Pool.of(experts.values())
        run = Run(strategy(query, scores().allowed(frozenset(experts)), cards), Limits())
        return [p async for p in stream_live(run, experts, paid.extend)]

    *deltas, answer = asyncio.run(collect())
    assert [d.text for d in deltas if isinstance(d, Delta)] == ["half an"]
    assert isinstance(answer, Answer)
    assert answer.text == "half an"
    assert said in str(answer.broken_off)
    assert [c.call.arm.expert for c in answer.completions] == ["large", "small"]
    assert paid[-1].usage.output_tokens == 2
    assert paid[-1].cost_usd == pytest.approx(5e-6)


def fails(call: Call) -> str:
    raise ConnectionError("nobody there")
