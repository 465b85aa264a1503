"""One strategy body, three drivers."""

from __future__ import annotations

import asyncio

import pytest

from experts.errors import DataError
from experts.expert import Pool
from experts.values import Arm, Completion, Limits, Query
from orchestrator.answer import Answer
from orchestrator.drivers.live import run_live
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from routers.scores import QueryScores
from tests import pools
from tests.orchestrator.drivers.cascades import CASCADE, pool, record_nothing, runs, scores


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


def test_a_strategy_that_yields_nothing_is_a_bug_and_says_so() -> None:
    def idle() -> Steps:
        yield []
        raise AssertionError

    with pytest.raises(RuntimeError, match="yielded no calls"):
        Run(idle(), Limits())
