"""Figures of the field, each from its published definition, on cases worked by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.cost_of_pass.frontier import essentialness, frontier, release_gains, technique_gain
from eval.metrics.arena import arena_score, optimality, robustness
from eval.metrics.curves import (
    accuracy_at,
    aiq,
    apgr,
    cost_at,
    cost_save,
    cpt,
    hull,
    pareto,
    pareto_distance,
    perf_gain,
)
from eval.metrics.reliability import aurc, ece, reliability, risk_coverage

COST = np.array([1.0, 2.0, 3.0, 4.0])
ACCURACY = np.array([0.5, 0.4, 0.8, 0.7])


def test_the_frontier_of_points_and_its_hull() -> None:
    assert pareto(COST, ACCURACY).tolist() == [0, 2]
    assert hull(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.75, 0.8])).tolist() == [0, 1, 2]
    assert accuracy_at(COST, ACCURACY, 2.0) == pytest.approx(0.65)  # half of each, by a coin
    assert cost_at(COST, ACCURACY, 0.65) == pytest.approx(2.0)
    assert np.isinf(cost_at(COST, ACCURACY, 0.9))


points = st.lists(st.tuples(st.floats(0.01, 9), st.floats(0, 1)), min_size=1, max_size=20)


@given(points)
def test_no_point_lies_above_the_hull(drawn: list[tuple[float, float]]) -> None:
    cost, accuracy = np.array(drawn).T
    reachable = accuracy_at(cost, accuracy, cost)
    assert (reachable >= accuracy - 1e-9).all()


def test_aiq_is_the_area_under_the_hull() -> None:
    # 0 before 1; 0.5 to 0.8 between 1 and 3: 1.3; 0.8 from 3 to 4.
    assert aiq(COST, ACCURACY, max_cost_usd=4.0) == pytest.approx((1.3 + 0.8) / 4)


def test_routellm_figures() -> None:
    share = np.array([0.0, 0.5, 1.0])
    assert apgr(share, np.array([0.4, 0.6, 0.8]), weak=0.4, strong=0.8) == pytest.approx(0.5)
    assert cpt(share, np.array([0.4, 0.7, 0.8]), 0.4, 0.8, recovered=0.5) == pytest.approx(1 / 3)
    assert np.isnan(cpt(share, np.array([0.4, 0.5, 0.6]), 0.4, 0.8, recovered=0.9))
    with pytest.raises(ValueError, match="no gap to recover"):
        apgr(share, share, weak=0.8, strong=0.8)


def test_llmrouterbench_figures() -> None:
    assert perf_gain(np.array([0.6, 0.66]), best_single=0.6) == pytest.approx(0.1)
    cost, accuracy = np.array([1.0, 4.0, 9.0]), np.array([0.5, 0.6, 0.7])
    assert cost_save(cost, accuracy, 0.6, best_single_cost_usd=8.0) == pytest.approx(0.5)
    assert np.isnan(cost_save(cost, accuracy, 0.9, 8.0))
    assert pareto_distance(cost, accuracy, cost, accuracy) == 0.0
    behind = pareto_distance(np.array([9.0]), np.array([0.5]), cost, accuracy)
    assert behind == pytest.approx(np.hypot(5 / 8, 0.5))


@pytest.mark.parametrize(
    ("accuracy", "cost_usd_per_1k", "published"),
    [(0.5234, 0.176, 0.5332), (0.6901, 0.0475, 0.6973), (0.7851, 0.49, 0.7575)],
)
def test_routerarenas_score(accuracy: float, cost_usd_per_1k: float, published: float) -> None:
    assert arena_score(accuracy, cost_usd_per_1k) == pytest.approx(published, abs=6e-4)


def test_routerarenas_optimality_and_robustness() -> None:
    scores = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], float)
    cost = np.array([[1.0, 4.0]] * 4)
    told = optimality(np.array([1, 1, 0, 1]), scores, cost)
    assert told.selection == pytest.approx(1 / 3)  # of three solvable, one at its cheapest
    assert told.accuracy == pytest.approx(2 / 3)
    assert told.cost == pytest.approx((1 + 4) / (4 + 4))
    assert robustness(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == 0.75


def test_the_frontier_with_a_person_and_who_is_essential_to_it() -> None:
    values = np.array([[1.0, 2.0], [np.inf, 4.0], [np.inf, np.inf]])
    assert frontier(values, human_usd=10.0) == pytest.approx(5.0)
    shares = essentialness(values, ["light", "large"], human_usd=10.0)
    assert shares["large"] == pytest.approx((7 - 5) / 7)
    assert shares["light"] == pytest.approx((16 / 3 - 5) / (16 / 3))
    better = np.array([[5.0], [1.0], [10.0]])
    assert technique_gain(values, better, human_usd=10.0) == pytest.approx((5 - 4) / 5)


def test_releases_move_the_frontier() -> None:
    values = np.array([[4.0, 1.0], [10.0, 5.0]])
    days = {0: date(2024, 5, 1), 1: date(2025, 2, 1)}
    rows = release_gains(values, days, human_usd=10.0)
    assert [r[0] for r in rows] == sorted(days.values())
    assert [r[1] for r in rows] == pytest.approx([0.7, 0.3])
    assert [r[2] for r in rows] == pytest.approx([0.3, 4 / 7])


def test_calibration_error_and_reliability() -> None:
    predicted, right = np.array([0.95, 0.95, 0.15, 0.15]), np.array([1, 0, 0, 0])
    assert ece(predicted, right) == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)
    assert [(b.n, b.observed) for b in reliability(predicted, right)] == [(2, 0.0), (2, 0.5)]
    assert ece(np.array([1.0]), np.array([1.0])) == 0.0


def test_risk_and_coverage() -> None:
    coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0]))
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3])
    assert aurc(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0])) == pytest.approx(1 / 9)


@given(st.permutations(range(6)))
def test_ties_in_confidence_share_their_risk(order: list[int]) -> None:
    confidence = np.array([0.5, 0.5, 0.5, 0.5, 0.9, 0.9])
    right = np.array([1, 0, 1, 0, 1, 0])
    assert aurc(confidence[order], right[order]) == pytest.approx(aurc(confidence, right))
