"""Cost-of-pass, intervals, graders and baselines, on numbers that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.bundled.baselines import at_random, one_expert, oracle, per_skill, vote_all
from eval.cost_of_pass.figures import policy_figures, pooled
from eval.graders import exact, exact_case, grader
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from eval.statistics import bootstrap_interval, wilson_interval
from experts.errors import UnknownName

SECONDS = np.array([3.0, 6.0, 9.0])


def matrix_of(pred: np.ndarray, score: np.ndarray, cost_usd: np.ndarray) -> OutcomeMatrix:
    queries = [MatrixQuery(query_id=str(i), task="t", prompt="?") for i in range(len(score))]
    unknown = np.full(score.shape, np.nan)
    return OutcomeMatrix(
        queries=tuple(queries),
        models=tuple("abcd"[: score.shape[1]]),
        pred=pred.astype(object),
        score=score,
        cost_usd=cost_usd,
        input_tokens=unknown,
        output_tokens=unknown,
    )


MATRIX = matrix_of(
    pred=np.array([["1", "1", "2"], ["x", "y", "y"], ["no", "no", "no"]]),
    score=np.array([[0.0, 0, 1], [0, 1, 1], [0, 0, 0]]),
    cost_usd=np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3]]),
)


def test_cost_of_pass_is_dollars_over_right_answers() -> None:
    figures = policy_figures("p", np.array([1.0, 0, 1, 0]), np.ones(4), 2.0)
    assert figures.accuracy == 0.5
    assert figures.cost_of_pass_usd == 2.0
    low, high = figures.cost_of_pass_ci
    assert low < 2.0 < high


def test_never_right_costs_infinitely_much() -> None:
    figures = policy_figures("p", np.zeros(4), np.ones(4), 1.0)
    assert math.isinf(figures.cost_of_pass_usd)
    assert math.isinf(figures.cost_of_pass_ci[1])
    assert pooled(np.zeros(2), np.zeros(2)) == np.inf


def test_wilson_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    right = rng.binomial(60, 0.9, size=2000)
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(k, 60) for k in right)]
    assert 0.93 < np.mean(covered) < 0.98


def test_the_bootstrap_covers_a_ratio() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for seed in range(200):
        costs, right = rng.exponential(size=150), (rng.random(150) < 0.7).astype(float)
        low, high = bootstrap_interval(
            lambda rows, c=costs, r=right: pooled(c[rows], r[rows]), 150, n_resamples=400, seed=seed
        )
        covered.append(low <= 1 / 0.7 <= high)
    assert 0.88 < np.mean(covered) <= 1


def test_baselines_by_hand() -> None:
    correct, cost, seconds = one_expert(MATRIX, SECONDS, "b")
    assert (correct.tolist(), cost.tolist(), seconds) == ([0, 1, 0], [2, 2, 2], 6.0)
    assert at_random(MATRIX, SECONDS)[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    correct, cost, _ = oracle(MATRIX, SECONDS)
    assert (correct.tolist(), cost.tolist()) == ([1, 1, 0], [3, 2, 1])
    correct, cost, seconds = vote_all(MATRIX, SECONDS)
    assert (correct.tolist(), cost.tolist(), seconds) == ([0, 1, 0], [6, 6, 6], 18.0)
    correct, cost, _ = per_skill(MATRIX, SECONDS, ["s", "s", "t"], {"s": "c", "t": "a"})
    assert (correct.tolist(), cost.tolist()) == ([1, 1, 0], [3, 3, 1])


def test_nothing_with_one_call_beats_the_oracle() -> None:
    rng = np.random.default_rng(2)
    correct = rng.integers(0, 2, size=(50, 4)).astype(float)
    matrix, seconds = matrix_of(correct, correct, rng.random((50, 4))), np.ones(4)
    best = oracle(matrix, seconds)[0].sum()
    assert all(one_expert(matrix, seconds, e)[0].sum() <= best for e in "abcd")


def test_graders() -> None:
    assert exact("7 + 5 = 12", "12") == 1
    assert exact("  south  america.", "South America") == 1
    assert exact_case("planet", "PLANET") == 0
    with pytest.raises(UnknownName, match="Did you mean 'exact'"):
        grader("exakt")
