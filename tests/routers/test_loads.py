"""A cold expert's load is part of what asking it is expected to cost, shared among who waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.values import Arm, Limits, LoadOutlook
from routers.loads import Load, share_loads
from routers.plans import Plan, ReplayTally
from routers.policy import choose_plan
from routers.scores import LoadShare, QueryScores, Scores
from tests import pools

SMALL, LARGE = Arm("small"), Arm("large")
V = 1e-3
SURE = 0.9


def scores(p_large: list[float]) -> Scores:
    """small is right with 50 % for 1e-6 $; large, as told, for 1e-5 $."""
    n = len(p_large)
    return Scores(
        arms=(SMALL, LARGE),
        p_correct=np.column_stack([np.full(n, 0.5), p_large]),
        sd=np.zeros((n, 2)),
        cost_usd=np.tile([1e-6, 1e-5], (n, 1)),
        latency_s=np.tile([0.1, 0.2], (n, 1)),
        novelty=np.zeros(n),
        is_general=np.zeros(n, bool),
        skills=("sums",),
        p_skill=np.ones((n, 1)),
    )


def large(n_waiting: int = 0, load_s: float = 10.0) -> dict[str, Load]:
    outlook = LoadOutlook(load_s=load_s, n_waiting=n_waiting)
    return {"large": Load(outlook=outlook, load_s=load_s, usd_per_s=1e-4)}


def priced(n_waiting: int = 0, load_s: float = 10.0) -> QueryScores:
    table = scores([0.9])
    [share] = share_loads(table, [V], large(n_waiting, load_s))
    return table.row(0).with_loads(share)


def test_who_waits_shares_the_load() -> None:
    assert priced().cost_usd == pytest.approx([1e-6, 1e-5 + 1e-3])
    assert priced(n_waiting=3).cost_usd == pytest.approx([1e-6, 1e-5 + 1e-3 / 4])
    assert priced(n_waiting=3).latency_s == pytest.approx([0.1, 10.2])
    assert str(priced(n_waiting=3).loads["large"]) == "cold: load 10 s, 0.001 $ shared by 4"


def test_queries_that_are_decided_together_share_it_if_they_would_ask() -> None:
    table = scores([0.9, 0.9, 0.2])
    shares = [s["large"].n_sharing for s in share_loads(table, [V] * 3, large())]
    assert shares == [2, 2, 3]  # the third would ask the small one: it would come on top


def test_nothing_is_added_where_everything_is_loaded() -> None:
    assert share_loads(scores([0.9, 0.9]), [V, V], {}) == [{}, {}]
    assert scores([0.9]).row(0).with_loads({}).cost_usd == pytest.approx([1e-6, 1e-5])


def test_a_cold_expert_is_worth_its_load_only_when_enough_wait() -> None:
    alone = priced()
    assert int(alone.objective(V).argmin()) == 0
    assert int(priced(n_waiting=9).objective(V).argmin()) == 1


def test_a_plan_that_asks_one_expert_often_loads_it_once() -> None:
    vote = Plan.of("vote", n=3)
    tally = ReplayTally((V,), (vote,), ("sums",), (SMALL, LARGE))
    for _ in range(1000):
        tally.add(0, 0, "sums", sureness=SURE, score=1.0, cost_usd=3e-5, calls=[LARGE] * 3)
    [outlook] = tally.outlooks().expect(priced(), V)
    assert outlook.load_usd == pytest.approx(1e-3)
    assert outlook.cost_usd == pytest.approx(3e-5 + 1e-3)


def test_a_load_makes_nobody_abstain_and_is_not_in_a_limit_of_tokens_dollars() -> None:
    """Somebody must be the first to ask, or nobody ever is."""
    single = Plan("single")
    tally = ReplayTally((V,), (single,), ("sums",), (SMALL, LARGE))
    for _ in range(1000):
        tally.add(0, 0, "sums", sureness=SURE, score=1.0, cost_usd=1e-5, calls=[LARGE])
    query = replace(pools.query("?", fallback_price_usd=V), limits=Limits(max_cost_usd=2e-5))
    choice = choose_plan(query, priced(load_s=1000), tally.outlooks())
    assert choice.plan == single
    assert choice.cost_usd == pytest.approx(1e-5 + 0.1)


def test_a_share_says_what_it_is() -> None:
    share = LoadShare(load_s=0.06, load_usd=3.1e-6, n_sharing=4)
    assert str(share) == "cold: load 0.06 s, 3.1e-06 $ shared by 4"
    assert share.cost_usd == pytest.approx(3.1e-6 / 4)
