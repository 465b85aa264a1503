"""All figures of the field at once, on four questions and two models worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.json_ready import json_ready
from eval.metrics.arena import arena_score, optimality_of
from eval.metrics.curves import aiq, apgr, cpt, gain, gap, perf_gain, recovered_gap
from eval.metrics.reliability import reliability
from eval.outcomes.matrix import MatrixQuery, MatrixRow, OutcomeMatrix, matrix_of
from eval.routing.field_metrics import FieldMetrics, PolicyMetrics, field_metrics
from eval.routing.points import Point
from experts.errors import DataError

# Weak: right on 1 and 2, $0.001 each. Strong: right on 1, 2 and 3, $0.004 each. Nobody on 4.
WEAK, STRONG = np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 1, 0])
SCORES = np.column_stack([WEAK, STRONG])
COSTS = np.tile([0.001, 0.004], (4, 1))


def pool() -> OutcomeMatrix:
    queries = [
        MatrixQuery(query_id=str(i), task="ab"[i // 2], prompt=f"p{i}", split="test")
        for i in range(4)
    ]
    rows = [
        MatrixRow(query_id=str(i), model=m, score=SCORES[i, j], cost_usd=COSTS[i, j])
        for i in range(4)
        for j, m in enumerate(("weak", "strong"))
    ]
    return matrix_of(queries, rows, source="by hand")


def choosing(policy: str, chosen: list[int], p: list[float] | None = None) -> Point:
    """The same on development as on test."""
    rows = np.arange(4)
    score, cost = SCORES[rows, chosen], COSTS[rows, chosen]
    return Point(
        policy=policy, knob=0.0, dev_score=score, dev_cost=cost, test_score=score, test_cost=cost,
        test_asked=np.arange(2) == np.array(chosen)[:, None],
        test_p=None if p is None else np.array(p),
    )  # fmt: skip


def everybody() -> list[Point]:
    both = SCORES.mean(axis=1), COSTS.mean(axis=1)
    return [
        choosing("best-single", [1, 1, 1, 1]),
        choosing("router", [0, 0, 0, 0], [0.9, 0.9, 0.5, 0.5]),
        choosing("router", [0, 0, 1, 0], [0.9, 0.9, 0.7, 0.1]),
        Point(
            policy="random", knob=0.0, dev_score=both[0], dev_cost=both[1], test_score=both[0],
            test_cost=both[1], test_asked=np.full((4, 2), 0.5),
        ),
    ]  # fmt: skip


def found() -> tuple[FieldMetrics, dict[str, PolicyMetrics]]:
    told = field_metrics(everybody(), pool(), failure_prices_usd=[1.0])
    return told, {p.policy: p for p in told.policies}


def test_each_figure_of_a_router_by_hand() -> None:
    told, by_name = found()
    router = by_name["router"]
    # The better setting: right on 1, 2, 3; 3 weak calls and a strong one, 0.007 $ for 4.
    assert (router.n_settings, router.accuracy) == (2, 0.75)
    assert router.cost_usd_per_1k == pytest.approx(1.75)
    assert router.arena_score == arena_score(0.75, 1.75)
    # RouterArena: three can be solved, all three at their cheapest.
    assert router.optimal_selection == 1
    assert router.optimal_accuracy == 1
    assert router.optimal_cost == 1
    # Curve: (1, .5) and (1.75, .75); the dearest setting compared costs 4.
    assert told.max_cost_usd_per_1k == pytest.approx(4)
    own = (0.75 * 0.625 + 2.25 * 0.75) / 4
    assert router.aiq == pytest.approx(own)
    # The zero router: from (1, .5) to (4, .75), by a coin.
    assert told.zero_router_aiq == pytest.approx(3 * 0.625 / 4)
    assert router.aiq_over_zero_router == pytest.approx(own - 3 * 0.625 / 4)
    # Averages over tasks a (1, 2) and b (3, 4): random (1 + .25) / 2; all others (1 + .5) / 2.
    assert router.average_accuracy == 0.75
    assert router.gain_at_random == pytest.approx(0.75 / 0.625 - 1)
    assert (router.gain_at_best, router.gap_at_oracle) == (0, 0)
    assert (router.perf_gain, router.perf_gain_peak) == (0, 0)
    assert router.cost_save == router.cost_save_peak == pytest.approx(1 - 1.75 / 4)
    assert router.pareto_distance == 0
    assert router.regret == 0
    assert router.regret_usd == {1.0: pytest.approx(0)}
    # Beliefs .9 .9 .7 .1, the last one wrong.
    assert router.ece == pytest.approx((2 * 0.1 + 0.3 + 0.1) / 4)
    assert router.aurc == pytest.approx(0.25 / 4)
    # RouteLLM: shares 0, .25 and 1 of strong calls recover 0, 1 and 1 of the gap.
    assert router.apgr == pytest.approx(0.25 * 0.5 + 0.75)
    assert (router.cpt_50, router.cpt_80) == (pytest.approx(0.125), pytest.approx(0.2))


def test_what_does_not_apply_is_none() -> None:
    told, by_name = found()
    assert told.best_single == "strong"
    assert told.oracle_accuracy == 0.75
    single, random = by_name["best-single"], by_name["random"]
    assert single.ece is None
    assert single.optimal_selection == pytest.approx(1 / 3)  # two of three were dearer than needed
    assert single.optimal_cost == pytest.approx((1 + 1 + 4) / 12)
    assert single.regret_usd[1.0] == pytest.approx((3 + 3 + 0 + 3) / 4 * 0.001)
    assert (random.optimal_selection, random.apgr, random.robustness) == (None, None, None)
    assert random.cost_save_peak is None  # never as accurate
    assert random.regret == pytest.approx(0.5 / 4)
    assert random.pareto_distance
    assert random.pareto_distance > 0
    told_all = field_metrics([*everybody(), choosing("oracle", [0, 0, 1, 0])], pool())
    assert told_all.policies[-1].pareto_distance is None
    assert json_ready(told)["policies"][0]["policy"] == "best-single"
    with pytest.raises(DataError, match="no point best-single"):
        field_metrics(everybody()[1:], pool())


def test_robustness_is_of_choices_on_rewordings() -> None:
    choices = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    told = field_metrics(everybody(), pool(), reworded={"router": choices})
    assert {p.policy: p.robustness for p in told.policies}["router"] == 0.75


def test_pools_of_more_than_two_have_no_strong_share() -> None:
    three = pool()
    rows = [
        MatrixRow(query_id=q.query_id, model=m, score=float(s), cost_usd=0.001)
        for q in three.queries
        for m, s in (("weak", 0), ("middle", 1), ("strong", 1))
    ]
    wide = matrix_of(three.queries, rows, source="three")
    alone = [
        replace(p, test_asked=np.pad(p.test_asked, ((0, 0), (0, 1))))
        for p in everybody()  # the third is never asked
    ]
    told = field_metrics(alone, wide)
    assert {p.apgr for p in told.policies} == {None}


def test_several_calls_may_win_what_no_model_does() -> None:
    score, paid = np.array([1.0, 1.0, 0.0, 1.0]), np.full(4, 0.005)
    both = np.ones((4, 2), bool)
    told = optimality_of(score, paid, both, SCORES, COSTS)
    assert told.selection == 0
    assert told.accuracy == pytest.approx(3 / 3)
    assert told.cost == pytest.approx(0.002 / 0.01)
    nothing = optimality_of(np.zeros(4), paid, both, np.zeros((4, 2)), COSTS)
    assert (nothing.selection, nothing.accuracy) == (0, 0)
    assert np.isnan(nothing.cost)


def test_published_definitions_at_their_borders() -> None:
    # RouterBench: nothing is earned below the cheapest point, the last quality is kept above.
    assert aiq(np.array([2.0]), np.array([0.8]), max_cost_usd=4.0) == pytest.approx(0.4)
    assert aiq(np.array([2.0]), np.array([0.8]), max_cost_usd=2.0) == 0
    # Between two points it is what a coin reaches, also where the area ends: here half way.
    steep = np.array([1.0, 3.0]), np.array([0.5, 0.7])
    assert aiq(*steep, max_cost_usd=2.0) == pytest.approx((0.5 + 0.6) / 2 / 2)
    # RouteLLM: PGR is 0 at the weak and 1 at the strong model; a random router recovers the share.
    share = np.linspace(0, 1, 11)
    quality = 0.4 + 0.4 * share
    assert recovered_gap(np.array([0.4, 0.8]), 0.4, 0.8).tolist() == [0, 1]
    assert apgr(share, quality, 0.4, 0.8) == pytest.approx(0.5)
    assert cpt(share, quality, 0.4, 0.8, recovered=0.8) == pytest.approx(0.8)
    # Where the smallest share already recovers it, there is nothing before to go back to.
    assert cpt(np.array([0.3, 1.0]), np.array([0.7, 0.8]), 0.4, 0.8, recovered=0.5) == 0.3
    with pytest.raises(ValueError, match=r"ascend from 0 to 1; they go from 0\.1"):
        apgr(share[1:], quality[1:], 0.4, 0.8)
    # RouterArena: accuracy counts ten times as much as cheapness.
    assert arena_score(1.0, 0.0044) == 1
    assert arena_score(0.5, 200) == 0
    assert arena_score(0.5, 0.0044) == pytest.approx(1.1 * 0.5 / (0.05 + 1))
    # LLMRouterBench, relative.
    assert (gain(0.6133, 0.6725), gap(0.6, 0.8)) == pytest.approx((-0.088, 0.25), abs=1e-3)
    assert perf_gain(np.array([0.5]), 0.5) == 0
    assert np.isnan(gain(0.5, 0))
    # Guo et al.: bins are closed above, (0, .1], (.1, .2], ...
    bins = reliability(np.array([0.1, 0.2, 0.3, 1.0, 0.0]), np.ones(5), n_bins=10)
    assert [(b.n, round(b.predicted, 3)) for b in bins] == [(2, 0.05), (1, 0.2), (1, 0.3), (1, 1.0)]
    # 0.07 and 0.14 times 100 are above 7 and 14 in binary; they are still in the bins they close.
    edges = reliability(np.array([0.07, 0.0699, 0.14, 0.1399]), np.ones(4), n_bins=100)
    assert [b.n for b in edges] == [2, 2]


def test_a_decision_that_costs_is_no_worse_a_selection() -> None:
    """Routers pay for deciding; RouterArena's selection is about which model was chosen."""
    charged = [
        replace(p, test_cost=p.test_cost + 1e-9, dev_cost=p.dev_cost + 1e-9) for p in everybody()
    ]
    by_name = {p.policy: p for p in field_metrics(charged, pool()).policies}
    assert by_name["router"].optimal_selection == 1
    assert by_name["best-single"].optimal_selection == pytest.approx(1 / 3)
    optimal_cost = by_name["router"].optimal_cost
    assert optimal_cost is not None
    assert 0.999 < optimal_cost < 1  # dollars count what was paid


def test_who_asks_several_has_selected_none() -> None:
    both = replace(everybody()[1], policy="both", test_asked=np.ones((4, 2), bool))
    told = field_metrics([*everybody(), both], pool())
    assert told.policies[-1].optimal_selection == 0
    assert told.policies[-1].optimal_accuracy == 2 / 3


def test_beside_a_free_best_model_nothing_is_saved() -> None:
    free = [replace(p, test_cost=np.zeros(4)) if p.policy == "best-single" else p
            for p in everybody()]  # fmt: skip
    for metrics in field_metrics(free, pool()).policies:
        assert (metrics.cost_save, metrics.cost_save_peak) == (None, None)


def test_settings_are_picked_on_development() -> None:
    """The setting that is best on test, and worse on development, is not the one that is judged."""
    lucky = replace(
        choosing("router", [0, 0, 1, 0]), dev_score=np.zeros(4), dev_cost=np.full(4, 0.001)
    )
    solid = replace(choosing("router", [0, 0, 0, 0]), dev_score=np.array([1.0, 1, 1, 0]))
    single = choosing("best-single", [1, 1, 1, 1])
    [router] = [p for p in field_metrics([single, lucky, solid], pool()).policies
                if p.policy == "router"]  # fmt: skip
    assert router.accuracy == 0.5


def test_points_in_part_count_in_part() -> None:
    graded, paid = np.array([[0.5, 1.0], [0.2, 0.4]]), np.ones((2, 2))
    told = optimality_of(graded[:, 0], paid[:, 0], np.array([[True, False]] * 2), graded, paid)
    assert told.accuracy == pytest.approx(0.7 / 1.4)
