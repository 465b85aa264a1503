"""The category router on a pool whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from experts.cards import Prices
from experts.errors import NotFitted
from experts.values import Arm
from routers.category import CategoryRouter
from routers.outcomes import Features, Outcomes
from skills.embedders import HashingEmbedder
from tests import pools

ARMS = (Arm("sums"), Arm("cities"), Arm("generalist"))
PRICES = dict(zip(ARMS, (pools.DEAR, pools.DEAR, pools.CHEAP), strict=True))


def features(texts: list[str]) -> Features:
    return Features(
        embeddings=HashingEmbedder().embed(texts), n_chars=np.array([len(t) for t in texts])
    )


def outcomes(n: int = 60) -> tuple[Features, Outcomes]:
    asked = pools.questions(n)
    scores = np.array(
        [[q.skill == "addition", q.skill == "capital", i // 2 % 2] for i, q in enumerate(asked)],
        float,
    )
    constant = np.ones_like(scores)
    return features([q.question for q in asked]), Outcomes(
        arms=ARMS,
        skills=tuple(str(q.skill) for q in asked),
        scores=scores,
        input_tokens=constant * np.array([[len(q.question) / 4] for q in asked]),
        output_tokens=constant * 2,
        latency_s=constant * 0.1,
        logprob=constant * -1,
        own_odds=constant * np.nan,
    )


def fitted() -> CategoryRouter:
    return CategoryRouter(pools.CATEGORY_OF, PRICES).fit(*outcomes())


def test_specialists_are_believed_in_their_field() -> None:
    scores = fitted().score(
        features(["How much is 5 plus 6 plus 1?", "Which city is the capital of the country Xy?"])
    )
    sums, cities = scores.p_correct[:, :2].T
    assert sums[0] > 0.8 > 0.2 > sums[1]
    assert cities[1] > 0.8 > 0.2 > cities[0]
    assert (np.abs(scores.p_correct[:, 2] - 0.5) < 0.15).all()
    assert not scores.is_general.any()


def test_costs_grow_with_the_question_and_follow_todays_prices() -> None:
    router = fitted()
    short, long = "How much is 5 plus 6 plus 1?", "How much is 5 plus 6 plus 1? " * 20
    before = router.score(features([short, long])).cost_usd
    assert (before[1] > 5 * before[0]).all()
    router.prices = {arm: Prices(input_usd_per_mtok=0, output_usd_per_mtok=0) for arm in ARMS}
    assert not router.score(features([short])).cost_usd.any()


def test_what_is_unlike_everything_is_general() -> None:
    scores = fitted().score(features(["Sing me a lullaby, softly!"]))
    assert scores.is_general.all()
    assert np.ptp(scores.p_correct[0]) < 0.2  # nobody is a specialist for it


def test_removing_an_arm_does_not_change_the_others() -> None:
    asked, all_outcomes = outcomes()
    numbers = ("scores", "input_tokens", "output_tokens", "latency_s", "logprob", "own_odds")
    two = Outcomes(
        arms=ARMS[:2],
        skills=all_outcomes.skills,
        **{name: getattr(all_outcomes, name)[:, :2] for name in numbers},
    )
    whole = CategoryRouter(pools.CATEGORY_OF, PRICES, calibrate=False).fit(asked, all_outcomes)
    part = CategoryRouter(pools.CATEGORY_OF, PRICES, calibrate=False).fit(asked, two)
    np.testing.assert_allclose(whole.score(asked).p_correct[:, :2], part.score(asked).p_correct)


def test_state_survives_a_round_trip() -> None:
    router = fitted()
    again = CategoryRouter(pools.CATEGORY_OF, PRICES).load_state(router.state())
    asked = features(["How much is 5 plus 6 plus 1?", "Sing me a lullaby, softly!"])
    np.testing.assert_allclose(
        again.score(asked).p_correct, router.score(asked).p_correct, atol=0.01
    )
    np.testing.assert_allclose(again.score(asked).cost_usd, router.score(asked).cost_usd)


def test_score_before_fit_says_so() -> None:
    with pytest.raises(NotFitted):
        CategoryRouter({}, {}).score(features(["?"]))
