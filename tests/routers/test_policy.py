"""The policy: one objective, and what limits do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.values import Arm, Limits
from routers.plans import GENERAL, Plan, PlanOutlooks, ReplayTally
from routers.policy import ABSTAIN, choose_plan
from routers.scores import QueryScores
from tests import pools

CHEAP, DEAR = Arm("cheap"), Arm("dear")
SINGLE, CASCADE = Plan("single"), Plan.of("cascade", stop_at=0.9)
V = 1e-3
SURE = 0.9


def scores() -> QueryScores:
    return QueryScores(
        arms=(CHEAP, DEAR),
        p_correct=np.array([0.5, 0.99]),
        sd=np.zeros(2),
        cost_usd=np.array([1e-6, 1e-4]),
        latency_s=np.zeros(2),
        novelty=0.1,
        is_general=False,
        skills={"sums": 1.0},
    )


def outlooks(n: int = 1000) -> PlanOutlooks:
    """single is always right with the dear arm; the cascade asks the cheap one first and stops
    there half of the time. For general questions the cascade is never right."""
    tally = ReplayTally((V,), (SINGLE, CASCADE), ("sums",), (CHEAP, DEAR))
    for i in range(n):
        tally.add(0, 0, "sums", sureness=SURE, score=1.0, cost_usd=1e-4, calls=[DEAR])
        both = [CHEAP] if i % 2 else [CHEAP, DEAR]
        tally.add(
            0, 1, "sums", sureness=SURE, score=1.0, cost_usd=1e-6 + (i % 2 == 0) * 1e-4, calls=both
        )
        tally.add(0, 0, GENERAL, sureness=SURE, score=1.0, cost_usd=1e-4, calls=[DEAR])
        tally.add(0, 1, GENERAL, sureness=SURE, score=0.0, cost_usd=1.01e-4, calls=[CHEAP, DEAR])
    return tally.outlooks()


def test_the_plan_with_the_least_expected_cost_wins() -> None:
    choice = choose_plan(pools.query("?", fallback_price_usd=V), scores(), outlooks())
    assert choice.plan == CASCADE
    assert choice.cost_usd == pytest.approx(1e-6 + 0.5 * 1e-4)
    assert [o.plan for o in choice.considered] == [CASCADE, SINGLE]


def test_general_questions_are_judged_by_the_general_record() -> None:
    strange = replace(scores(), is_general=True)
    choice = choose_plan(pools.query("?", fallback_price_usd=V), strange, outlooks())
    assert choice.plan == SINGLE
    assert "unlike any" in choice.reason


def test_a_limit_of_dollars_excludes_dearer_plans() -> None:
    query = replace(pools.query("?"), limits=Limits(max_cost_usd=1e-7))
    choice = choose_plan(query, scores(), outlooks())
    assert choice.plan == ABSTAIN
    assert "limit" in choice.reason


def test_nothing_is_asked_when_no_plan_is_worth_its_price() -> None:
    query = pools.query("?", fallback_price_usd=1e-6)
    choice = choose_plan(query, scores(), outlooks())
    assert choice.plan == ABSTAIN
    assert "a wrong answer costs" in choice.reason


def test_with_experts_excluded_single_calls_are_judged_by_their_scores() -> None:
    only_cheap = scores().allowed(frozenset({"cheap"}))
    choice = choose_plan(pools.query("?", fallback_price_usd=V), only_cheap, outlooks())
    assert choice.plan == SINGLE
    assert choice.p_correct == 0.5


def test_small_records_are_shrunk_towards_the_plans_overall_rate() -> None:
    tally = ReplayTally((V,), (SINGLE,), ("often", "once"), (DEAR,))
    for _ in range(100):
        tally.add(0, 0, "often", sureness=SURE, score=1.0, cost_usd=1e-4, calls=[DEAR])
    tally.add(0, 0, "once", sureness=SURE, score=0.0, cost_usd=1e-4, calls=[DEAR])
    p = tally.outlooks().p_correct[0, 0, :, 0]
    assert 0.6 < p[1] < 0.9 < p[0]


def test_where_the_router_is_torn_a_second_answer_is_worth_its_price() -> None:
    """Twice as dear, and right where a single call is not; the router knows where that is."""
    single, both = SINGLE, Plan.of("recruit", k=2)
    tally = ReplayTally((V,), (single, both), ("sums",), (CHEAP, DEAR))
    for i in range(999):
        sure = (0.5, 0.9, 0.95)[i % 3]
        right = float(sure > 0.5 or i % 2)
        tally.add(0, 0, "sums", sureness=sure, score=right, cost_usd=1e-4, calls=[DEAR])
        tally.add(0, 1, "sums", sureness=sure, score=1.0, cost_usd=1.01e-4, calls=[CHEAP, DEAR])
    found = tally.outlooks()

    def chosen(p_dear: float) -> Plan:
        believed = replace(scores(), p_correct=np.array([0.4, p_dear]))
        return choose_plan(pools.query("?", fallback_price_usd=V), believed, found).plan

    assert [chosen(p) for p in (0.3, 0.6, 0.92, 0.99)] == [both, both, single, single]


def test_outlooks_survive_a_round_trip() -> None:
    again = PlanOutlooks.from_state(outlooks().state(), outlooks().about())
    assert again.plans == (SINGLE, CASCADE)
    assert again.expect(scores(), V)[1].cost_usd == pytest.approx(
        outlooks().expect(scores(), V)[1].cost_usd
    )


def test_plans_are_written_as_they_are_read() -> None:
    for plan in (SINGLE, CASCADE, Plan.of("vote", n=3, arms=2)):
        assert Plan.parse(str(plan)) == plan
