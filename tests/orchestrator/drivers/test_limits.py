"""Limits of calls and dollars, which no strategy passes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Completion, Limits, Query, Sampling
from orchestrator.answer import Answer, no_answer
from orchestrator.drivers.live import run_live
from orchestrator.drivers.run import Run
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from orchestrator.strategies.cascade import cascade
from tests import pools
from tests.orchestrator.drivers.cascades import believed, iter_only, pool, record_nothing, scores


@given(max_calls=st.integers(1, 6), n_samples=st.integers(1, 6))
def test_no_strategy_gets_past_its_limit_of_calls(max_calls: int, n_samples: int) -> None:
    done: list[Completion] = []

    def greedy(query: Query) -> Steps:
        for i in range(n_samples):
            done.extend(
                (yield [ask(query, Arm("small"), sample=i), ask(query, Arm("large"), sample=i)])
            )
        return no_answer("enough")

    experts = pool(1)
    run = Run(greedy(pools.query("?", query_id="0")), Limits(max_calls=max_calls))
    answer = asyncio.run(run_live(run, experts, record_nothing))
    asked = sum(len(b) for e in experts.values() for b in e.batches)
    assert asked == min(max_calls, 2 * n_samples)
    assert sum(c.error_code == "over_limit" for c in done) == 2 * n_samples - asked
    assert len(answer.completions) == asked


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
