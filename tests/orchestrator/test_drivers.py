"""One strategy body, three drivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import DataError
from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Delta, Limits, Query, Sampling, Usage
from orchestrator.answer import Answer
from orchestrator.drivers.calling import call_experts
from orchestrator.drivers.live import run_live, stream_live
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave, run_waves
from orchestrator.ledger import Ledger
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.cascade import cascade
from orchestrator.strategies.single import single
from routers.scores import QueryScores
from tests import pools

NAMES = ("small", "medium", "large")


def record_nothing(completions: Sequence[Completion]) -> None:
    """For runs whose books are not looked at."""


def scores() -> QueryScores:
    return QueryScores(
        arms=tuple(map(Arm, NAMES)),
        p_correct=np.array([0.5, 0.7, 0.9]),
        sd=np.zeros(3),
        cost_usd=np.array([1e-6, 1e-5, 1e-4]),
        latency_s=np.zeros(3),
        novelty=0.0,
        is_general=False,
        skills={},
    )


def believed(completion: Completion, _: QueryScores) -> float:
    """Confidence as the experts below state it in their log-probability."""
    return 0.95 if (completion.logprob or -9) > -1 else 0.4


def pool(n: int) -> dict[str, FakeExpert]:
    """Question i is sure at the small expert when i % 3 == 0, at the medium when i % 3 == 1."""

    def sure_when(remainder: int | None):
        def logprob(call: Call) -> float:
            i = int(call.query_id)
            return -0.1 if remainder is None or i % 3 == remainder else -5.0

        return logprob

    def says(name: str):
        return lambda call: f"{name} on {call.query_id}"

    surest = {"small": 0, "medium": 1, "large": None}
    return {n: FakeExpert(n, says(n), logprob=sure_when(surest[n])) for n in NAMES}


CASCADE = cascade(believed, stop_at=0.9)


def runs(n: int, strategy: Strategy = CASCADE) -> list[Run]:
    cards = Pool.of(pool(1).values())
    queries = [pools.query(f"question {i}", query_id=str(i)) for i in range(n)]
    return [Run(strategy(q, scores(), cards), Limits()) for q in queries]


def test_the_same_cascade_answers_alike_live_in_a_wave_and_in_replay() -> None:
    n = 200
    completions: list[Completion] = []

    async def live() -> list[Answer]:
        experts = pool(n)
        return [await run_live(run, experts, completions.extend) for run in runs(n)]

    one_by_one = asyncio.run(live())
    experts = pool(n)
    in_a_wave = asyncio.run(run_wave(runs(n), experts, record_nothing))
    recording = Recording(completions)
    replayed = [run_replay(run, recording) for run in runs(n)]

    assert [a.text for a in one_by_one] == [a.text for a in in_a_wave] == [a.text for a in replayed]
    for one, other in ((one_by_one, in_a_wave), (one_by_one, replayed)):
        assert [a.cost_usd for a in one] == [a.cost_usd for a in other]
        assert [a.contributors for a in one] == [a.contributors for a in other]
        assert [a.p_correct for a in one] == [a.p_correct for a in other]
    waves = max(len(a.completions) for a in in_a_wave)
    assert waves == 3
    for name, expert in experts.items():
        assert len(expert.batches) <= waves, name
    assert [len(expert.batches[0]) for expert in experts.values()] == [200, 133, 66]


@pytest.mark.parametrize("in_flight", [1, 8, 30])
def test_only_so_many_runs_are_in_flight_however_many_there_are(in_flight: int) -> None:
    n, taken, answered, most = 300, 0, 0, 0
    coming = iter(runs(n))

    async def more(room: int) -> list[Run]:
        nonlocal taken
        some = list(islice(coming, room))
        taken += len(some)
        return some

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

    async def more(room: int) -> list[Run]:
        return list(islice(coming, room))

    async def answer_all() -> int:
        waves = run_waves(more, pool(9), record_nothing, in_flight=9, may_ask=may_ask)
        async with aclosing(waves):
            return sum([len(some) async for some in waves])

    # Four waves of one run each: the first is sure at once, the second asks twice, ...
    assert 1 <= asyncio.run(answer_all()) < 4


def test_a_wave_s_error_in_recording_is_raised_and_not_the_experts() -> None:
    def full(completions: Sequence[Completion]) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(run_wave(runs(3), pool(3), full))


def test_calls_that_are_known_are_not_made_again() -> None:
    """A cascade of three calls goes on after the two that a killed process had paid."""
    paid: list[Completion] = []
    whole = asyncio.run(run_live(runs(3)[2], pool(3), paid.extend))
    known = {c.call.arm: c for c in paid[:2]}
    query = pools.query("question 2", query_id="2")
    cards = Pool.of(pool(1).values())
    limits = Limits(max_calls=3, max_cost_usd=1.0)
    steps = CASCADE(query, scores(), cards)
    made: list[Completion] = []
    run = Run(steps, limits, cards, lambda call: known.get(call.arm))
    again = asyncio.run(run_live(run, pool(3), made.extend))
    assert [c.call.arm.expert for c in made] == ["large"]
    assert (again.text, again.cost_usd) == (whole.text, whole.cost_usd)
    assert len(run.made) == 3


def test_replay_refuses_to_invent_an_outcome() -> None:
    with pytest.raises(DataError, match="conclave record"):
        run_replay(runs(1)[0], Recording([]))


def test_a_failing_expert_is_one_failed_completion() -> None:
    def broken(call: Call) -> str:
        raise ConnectionError("no route to host")

    experts = {**pool(1), "small": FakeExpert("small", broken)}
    answer = asyncio.run(run_live(runs(1)[0], experts, record_nothing))
    assert answer.succeeded
    assert answer.notes == ("small failed: no route to host",)
    assert [c.call.arm.expert for c in answer.completions] == ["small", "medium", "large"]


def test_an_expert_that_raises_loses_nothing_of_the_others() -> None:
    class Bug(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            raise KeyError("bug")

    experts = {**pool(3), "small": Bug("small", {})}
    answers = asyncio.run(run_wave(runs(3), experts, record_nothing))
    assert [a.succeeded for a in answers] == [True] * 3
    assert all("small failed: KeyError" in a.notes[0] for a in answers)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"usage": Usage(input_tokens=10**30)},
        {"cost_usd": float("nan")},
        {"text": "half a \ud800"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_no_ledger_can_hold_takes_nobody_with_it(nonsense: dict[str, object]) -> None:
    class Broken(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            first, *rest = await super().complete(calls)
            return [replace(first, **nonsense), *rest]

    experts = {"small": Broken("small", str), "large": FakeExpert("large", str)}
    calls = [ask(pools.query("Q", query_id=q), Arm(n)) for n in experts for q in "ab"]
    with Ledger(":memory:") as ledger:
        keep = lambda made: ledger.add_calls(made, [None] * len(made))  # noqa: E731
        made = asyncio.run(call_experts(calls, experts, keep))
        assert len(ledger.rows("SELECT * FROM calls")) == 4
    assert [c.ok for c in made] == [False, True, True, True]


def test_every_call_is_recorded_before_the_strategy_sees_it() -> None:
    seen: list[str] = []

    def strategy(query: Query, scores: QueryScores, cards: Pool) -> Steps:
        yield [ask(query, Arm("small"))]
        seen.append("strategy")
        [last] = yield [ask(query, Arm("large"))]
        return Answer(
            text=last.text, answer="", p_correct=None, contributors=(), completions=(last,)
        )

    experts = pool(1)
    asyncio.run(run_live(runs(1, strategy)[0], experts, lambda done: seen.append("record")))
    assert seen == ["record", "strategy", "record"]


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


def test_a_stream_that_breaks_keeps_its_words_its_bill_and_says_so() -> None:
    class Breaks(FakeExpert):
        async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
            yield Delta(text="half an", usage=Usage(input_tokens=3, output_tokens=2))
            raise ConnectionError("line cut")

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
    assert "line cut" in str(answer.broken_off)
    assert [c.call.arm.expert for c in answer.completions] == ["large", "small"]
    assert paid[-1].usage.output_tokens == 2
    assert paid[-1].cost_usd == pytest.approx(5e-6)


def fails(call: Call) -> str:
    raise ConnectionError("nobody there")


def test_an_expert_that_forgets_its_timeout_is_late_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forgets(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            return await super().complete([replace(c, timeout_s=None) for c in calls])

    monkeypatch.setattr("orchestrator.drivers.calling._GRACE_S", 0.01)
    paid: list[Completion] = []
    query = replace(pools.query("?", query_id="0"), limits=Limits(timeout_s=0.01))
    experts = {"small": Forgets("small", {}, latency_s=600)}
    answer = asyncio.run(run_live(Run(iter_only(query), Limits()), experts, paid.extend))
    assert [c.error_code for c in answer.completions] == ["timeout"]
    assert paid[0].cost_usd > 0


def iter_only(query: Query) -> Steps:
    [c] = yield [ask(query, Arm("small"), streams_answer=True)]
    return Answer(text=c.text, answer=c.text, p_correct=None, contributors=(), completions=(c,))


@given(max_calls=st.integers(1, 6), n_samples=st.integers(1, 6))
def test_no_strategy_gets_past_its_limit_of_calls(max_calls: int, n_samples: int) -> None:
    def greedy(query: Query) -> Steps:
        done: list[Completion] = []
        for i in range(n_samples):
            done += yield [ask(query, Arm("small"), sample=i), ask(query, Arm("large"), sample=i)]
        return Answer(text="", answer="", p_correct=None, contributors=(), completions=tuple(done))

    experts = pool(1)
    run = Run(greedy(pools.query("?", query_id="0")), Limits(max_calls=max_calls))
    answer = asyncio.run(run_live(run, experts, record_nothing))
    asked = sum(len(b) for e in experts.values() for b in e.batches)
    assert asked == min(max_calls, 2 * n_samples)
    assert sum(c.error_code == "over_limit" for c in answer.completions) == 2 * n_samples - asked


def test_spending_stops_at_the_limit_of_dollars() -> None:
    experts = pool(1)
    strategy = cascade(believed, stop_at=0.99)
    query = pools.query("a b c", query_id="2")
    cards = Pool.of(experts.values())
    one_call = cards.card("small").most_usd(ask(query, Arm("small")))
    run = Run(strategy(query, scores(), cards), Limits(max_cost_usd=one_call), cards)
    answer = asyncio.run(run_live(run, experts, record_nothing))
    assert [c.call.arm.expert for c in answer.completions] == ["small"]
    assert answer.text == "small on 2"
    assert "is too little for medium" in answer.notes[0]


@given(limit=st.floats(1e-7, 1e-2), n_at_once=st.integers(1, 5), max_tokens=st.integers(1, 60))
def test_no_limit_of_dollars_is_ever_passed(limit: float, n_at_once: int, max_tokens: int) -> None:
    """Whatever the experts say, and also within one batch."""

    def greedy(query: Query) -> Steps:
        done: list[Completion] = []
        for wave in range(3):
            done += yield [
                ask(query, Arm("small"), sample=n_at_once * wave + i) for i in range(n_at_once)
            ]
        return Answer(text="", answer="", p_correct=None, contributors=(), completions=tuple(done))

    talker = FakeExpert("small", lambda call: "word " * 200)
    cards = Pool.of([talker])
    query = replace(pools.query("how much", query_id="0"), sampling=Sampling(max_tokens=max_tokens))
    run = Run(greedy(query), Limits(max_cost_usd=limit), cards)
    asyncio.run(run_live(run, {"small": talker}, record_nothing))
    assert sum(c.cost_usd for c in run.made) <= limit


def test_a_limit_of_dollars_without_prices_is_a_bug_and_says_so() -> None:
    with pytest.raises(ValueError, match="without the pool's prices"):
        Run(iter_only(pools.query("?", query_id="0")), Limits(max_cost_usd=1.0))


def test_a_strategy_that_yields_nothing_is_a_bug_and_says_so() -> None:
    def idle() -> Steps:
        yield []
        raise AssertionError

    with pytest.raises(RuntimeError, match="yielded no calls"):
        Run(idle(), Limits())
