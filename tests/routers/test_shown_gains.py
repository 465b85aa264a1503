"""What dearer plans were shown to gain: luck buys nothing, proof does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.shown_gains import believed_success

N = 600
COST = np.array([1.0, 2.0, 3.0])
ONE = np.zeros(N, int)


def success(right: np.ndarray, cost_usd: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n_plans, n_groups) where the router is always as sure."""
    return believed_success(right, cost_usd, group, np.zeros(len(group), int), 1)[:, :, 0]


def test_most_of_the_winners_luck_is_not_believed() -> None:
    """Twelve plans that differ on a tenth of the questions, by luck alone; 100 times."""
    looked, believed = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        usual = rng.random(N) < 0.8
        right = [np.where(rng.random(N) < 0.1, rng.random(N) < 0.8, usual) for _ in range(12)]
        rates = np.mean(right, axis=1)
        beliefs = success(np.array(right, float), np.arange(12.0), ONE)[:, 0]
        looked.append(rates.max() - rates[0])
        believed.append(beliefs.max() - beliefs[0])
    assert np.mean(believed) < 0.5 * np.mean(looked)


def test_a_gain_on_many_questions_is_believed() -> None:
    right = np.zeros((2, N))
    right[0, : N // 2], right[1, : N * 3 // 4] = 1, 1
    believed = success(right, COST[:2], ONE)[:, 0]
    assert believed[1] - believed[0] == pytest.approx(0.25, abs=0.005)


def test_a_plan_that_gains_in_one_skill_is_believed_there_only() -> None:
    skill = np.arange(N) % 4
    right = np.ones((2, N))
    right[0, (skill == 0) & (np.arange(N) % 8 == 0)] = 0
    believed = success(right, COST[:2], skill)
    gain = believed[1] - believed[0]
    assert gain[0] > 0.4
    assert abs(gain[1:]).max() < 0.02


def test_what_a_dearer_plan_loses_is_believed_at_once() -> None:
    right = np.ones((2, N))
    right[1, :5] = 0
    believed = success(right, COST[:2], ONE)[:, 0]
    assert believed[1] < believed[0]


def test_a_plan_is_measured_against_the_best_of_the_cheaper_ones() -> None:
    """It wins five over the first and loses three; that the second is bad says nothing."""
    right = np.ones((3, N))
    right[0, :60], right[1, :300], right[2, 5:63] = 0, 0, 0
    believed = success(right, COST, ONE)[:, 0]
    assert believed[2] == believed[0]


def test_differences_of_skills_that_are_luck_are_hardly_believed() -> None:
    looked, believed = [], []
    skill = np.arange(N) % 12
    for seed in range(100):
        rng = np.random.default_rng(seed)
        right = (rng.random((2, N)) < [[0.6], [0.8]]).astype(float)
        gain = np.subtract(*success(right, COST[:2], skill)[::-1])
        looked.append(np.std(np.bincount(skill, right[1] - right[0]) / (N / 12)))
        believed.append(np.std(gain))
    assert np.mean(believed) < 0.35 * np.mean(looked)


def test_a_skill_with_few_questions_is_believed_like_the_others() -> None:
    right = np.ones((1, 101))
    right[0, 100] = 0  # the only question of its skill
    often, once = success(right, COST[:1], np.arange(101) // 100)[0]
    assert often == pytest.approx((100 + 4 * 100 / 101) / 104)
    assert once == pytest.approx((0 + 4 * 100 / 101) / 5)


def test_a_plan_that_gains_where_the_router_is_torn_is_believed_there_only() -> None:
    skill, level = np.arange(N) % 4, np.arange(N) % 3
    right = np.ones((2, N))
    right[0, (level == 0) & (np.arange(N) // 12 % 2 == 0)] = 0
    believed = believed_success(right, COST[:2], skill, level, 3)
    gain = believed[1] - believed[0]
    assert (gain[:, 0] > 0.4).all()
    assert abs(gain[:, 1:]).max() < 0.02


def test_a_level_that_no_question_reached_is_believed_like_the_rest() -> None:
    right = (np.arange(N)[None] % 4 > 0).astype(float)
    believed = believed_success(right, COST[:1], ONE, np.arange(N) % 2, 3)[0, 0]
    assert believed[2] == pytest.approx(0.75, abs=0.01)


@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 3), st.integers(0, 999))
def test_beliefs_are_probabilities_whatever_the_order(
    plans: int, groups: int, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = groups * int(rng.integers(1, 20))
    right, cost = rng.random((plans, n)).round(), rng.random(plans)
    group, level = np.arange(n) % groups, rng.integers(0, levels, n)
    believed = believed_success(right, cost, group, level, levels)
    assert believed.shape == (plans, groups, levels)
    assert ((believed >= 0) & (believed <= 1)).all()
    order = rng.permutation(plans)
    again = believed_success(right[order], cost[order], group, level, levels)
    np.testing.assert_allclose(again, believed[order])
