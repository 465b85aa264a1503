"""Skill profiles: rates with a memory for how little was seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skills.profiles import SkillProfiles

CATEGORY_OF = {"sums": "arithmetic", "products": "arithmetic", "capitals": "countries"}


def profiles(labels: list[str], scores: list[list[float]]) -> SkillProfiles:
    arms = [f"arm{i}" for i in range(len(scores[0]))]
    return SkillProfiles.from_outcomes(
        arms, list(CATEGORY_OF), CATEGORY_OF, labels, np.array(scores)
    )


def test_many_observations_speak_for_themselves() -> None:
    mean, sd = profiles(["sums"] * 200, [[1.0]] * 180 + [[0.0]] * 20).posterior()
    assert abs(mean[0, 0] - 0.9) < 0.01
    assert sd[0, 0] < 0.03


def test_few_observations_lean_on_the_category_then_on_the_arm() -> None:
    labels = ["sums"] * 50 + ["products"] + ["capitals"] * 50
    scores = [[1.0]] * 50 + [[0.0]] + [[0.0]] * 50
    mean, sd = profiles(labels, scores).posterior()
    sums, products, capitals = mean[0]
    assert capitals < products < sums
    assert products > 0.5  # one failure in a category that the arm is otherwise good at
    assert sd[0, 1] > sd[0, 0]


def test_what_was_not_asked_is_not_a_failure() -> None:
    seen = profiles(["sums", "sums"], [[1.0, np.nan], [1.0, np.nan]])
    assert seen.trials.tolist() == [[2, 0, 0], [0, 0, 0]]
    assert seen.posterior()[0][1, 0] == 0.5


@given(st.lists(st.tuples(st.sampled_from(list(CATEGORY_OF)), st.booleans()), min_size=1))
def test_posteriors_are_probabilities(outcomes: list[tuple[str, bool]]) -> None:
    labels = [skill for skill, _ in outcomes]
    mean, sd = profiles(labels, [[float(right)] for _, right in outcomes]).posterior()
    assert ((mean > 0) & (mean < 1) & (sd > 0) & (sd < 0.5)).all()


def test_intervals_hold_the_mean_and_narrow_with_observations() -> None:
    few, many = (profiles(["sums"] * n, [[1.0]] * n) for n in (2, 200))
    widths = []
    for p in (few, many):
        mean, sd = p.posterior()
        low, high = p.interval(mean, sd)
        assert ((low >= 0) & (low <= mean) & (mean <= high) & (high <= 1)).all()
        widths.append((high - low)[0, 0])
    assert widths[1] < widths[0] / 5


def test_a_category_is_the_mean_of_its_skills() -> None:
    p = profiles(["sums"] * 40 + ["products"] * 40, [[1.0]] * 40 + [[0.0]] * 40)
    names, mean, sd, n = p.by_category()
    assert names == ("arithmetic", "countries")
    assert abs(mean[0, 0] - 0.5) < 0.03
    assert n.tolist() == [[80, 0]]
    assert sd[0, 0] < p.posterior()[1][0, 2]
