"""Symbolic-MoE's weights, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experts.values import Arm
from routers.competency import Competency
from routers.outcomes import Outcomes

A, B, C = Arm("a"), Arm("b"), Arm("c")


def counted(margin: list[list[float]]) -> Competency:
    return Competency(arms=(A, B, C), skills=("sums", "words"), margin=np.array(margin))


def test_margins_are_right_minus_wrong_per_skill() -> None:
    scores = np.array([[1, 0, np.nan], [1, 1, 0], [0.5, 0, 1]])
    unknown = np.full((3, 3), np.nan)
    outcomes = Outcomes(
        arms=(A, B, C), skills=("sums", "sums", "words"), scores=scores, input_tokens=unknown,
        output_tokens=unknown, latency_s=unknown, logprob=unknown, own_odds=unknown,
    )  # fmt: skip
    assert Competency.of(outcomes).margin.tolist() == [[2, 0], [0, -1], [-1, 1]]


def test_local_suitability_times_the_power_share_of_global_competency() -> None:
    # L = 4, 2, 1; g = 6, 3, 3; gamma = 36 : 9 : 9 at T = 0.5; w = 144 : 18 : 9.
    weights = counted([[4, 2], [2, 1], [1, 2]]).weights({"sums": 1.0}, (A, B, C))
    assert weights == pytest.approx(np.array([144, 18, 9]) / 171)


def test_only_arms_that_are_right_more_often_than_wrong_are_drawn() -> None:
    weights = counted([[4, 0], [-2, 9], [1, 0]]).weights({"sums": 1.0}, (A, B, C))
    assert weights[1] == 0
    assert weights.sum() == pytest.approx(1)


def test_where_nobody_is_the_least_wrong_are_likeliest() -> None:
    weights = counted([[-1, 9], [-3, 9], [-5, 9]]).weights({"sums": 1.0}, (A, B, C))
    assert weights[0] > weights[1] > weights[2] > 0


@pytest.mark.parametrize("skills", [{}, {"unheard of": 1.0}])
def test_without_a_known_skill_all_are_alike(skills: dict[str, float]) -> None:
    assert counted([[4, 2], [2, 1], [1, 2]]).weights(skills, (A, B)) == pytest.approx([0.5, 0.5])
