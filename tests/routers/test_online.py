"""Beliefs move with outcomes: how far, how quickly, and whose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.values import Arm
from routers.drift import DriftRates, PageHinkley
from routers.exploration import chances, explore
from routers.online import (
    Credit,
    FeedbackCaps,
    LearningRates,
    Observation,
    OnlineBeliefs,
    Shifts,
    shifted,
)
from routers.plans import Plan, PlanOutlooks
from routers.scores import QueryScores, Scores

SUMS, WORDS, GENERAL = np.eye(3)
RATES = LearningRates(half_life_n=50, prior_n=10)


def beliefs(rates: LearningRates = RATES, n_arms: int = 2) -> OnlineBeliefs:
    return OnlineBeliefs(np.full((n_arms, 3), 30.0), rates)


def scores(p: float = 0.9, *, is_general: bool = False) -> Scores:
    return Scores(
        arms=(Arm("a"), Arm("b")), p_correct=np.full((1, 2), p), sd=np.full((1, 2), 0.1),
        cost_usd=np.full((1, 2), 1e-4), latency_s=np.ones((1, 2)), novelty=np.zeros(1),
        is_general=np.array([is_general]), skills=("sums", "words"), p_skill=SUMS[None, :2],
    )  # fmt: skip


def test_an_arm_that_fails_is_believed_less_and_others_as_before() -> None:
    online = beliefs()
    for _ in range(10):
        online.observe(0, SUMS, 0.9, 0.0)
    moved = online.shifts().apply(scores())
    assert moved.p_correct[0, 0] < 0.5
    assert moved.p_correct[0, 1] == 0.9
    assert moved.shift is not None
    assert moved.shift[0, 0] < -1
    assert moved.shift[0, 1] == 0


def test_what_came_as_expected_moves_nothing_much() -> None:
    online = beliefs()
    for i in range(40):
        online.observe(0, SUMS, 0.75, float(i % 4 > 0))
    assert abs(online.shifts().logits[0]).max() < 0.1


def test_a_skill_that_fails_casts_some_doubt_on_the_arm_s_others() -> None:
    online = beliefs()
    for _ in range(10):
        online.observe(0, SUMS, 0.9, 0.0)
    sums, words, general = online.shifts().logits[0]
    assert sums < words < 0
    assert words == general


def test_the_rate_is_the_beta_posterior_s() -> None:
    """With no calibration of the arm as a whole: k q + y against k (1 - q) + n - y."""
    rates = LearningRates(half_life_n=1e9, prior_n=10, arm_sd=1e-6, max_shift=9)
    online = beliefs(rates)
    for i in range(20):
        online.observe(0, SUMS, 0.8, float(i < 5))
    posterior = (10 * 0.8 + 5) / (10 + 20)
    shift = online.shifts().logits[0, 0]
    assert shifted(np.array(0.8), np.array(shift)) == pytest.approx(posterior, abs=1e-3)


def test_an_observation_counts_half_after_a_half_life() -> None:
    online = beliefs()
    online.observe(0, SUMS, 0.9, 0.0)
    for _ in range(50):
        online.observe(0, WORDS, 0.9, 1.0)
    assert online.n[0, 0] == pytest.approx(0.5)
    assert online.shifts().n[1].sum() == 0  # an arm that is not asked forgets nothing


def test_shifts_have_a_bound_whatever_comes() -> None:
    online = beliefs(LearningRates(max_shift=2.0, prior_n=1))
    for _ in range(500):
        online.observe(0, SUMS, 0.99, 0.0)
        online.observe(1, SUMS, 0.01, 1.0)
    logits = online.shifts().logits
    assert logits[:, 0] == pytest.approx([-2.0, 2.0])
    assert np.isfinite(logits).all()


def test_a_general_question_has_beliefs_of_its_own() -> None:
    online = beliefs()
    for _ in range(20):
        online.observe(0, GENERAL, 0.5, 1.0)
    moved = online.shifts()
    assert moved.apply(scores(0.5, is_general=True)).p_correct[0, 0] > 0.7
    assert moved.apply(scores(0.5)).p_correct[0, 0] < moved.logits[0, 2] + 0.5


def test_a_caller_s_day_is_full_and_another_begins() -> None:
    caps = FeedbackCaps(2, 100)

    def of(caller: str | None, at: float, arm: int = 0) -> float:
        one = Observation(
            subject="s", query_id="q", at=at, score=1, credits=(), p_skill=SUMS, caller=caller
        )
        return caps.weight(one, Credit(arm=arm, share=1.0, p=0.5, sd=0.1))

    assert [of("me", 0) for _ in range(3)] == [1, 1, 0]
    assert of("you", 0) == 1
    assert of("me", 0, arm=1) == 1
    assert of("me", 86_400) == 1
    assert [of(None, 0) for _ in range(5)] == [1] * 5  # graders


def test_a_day_of_lies_of_one_caller_has_the_bound_that_the_page_tells() -> None:
    online, caps = beliefs(LearningRates()), FeedbackCaps(5, 100)
    credit = Credit(arm=0, share=1.0, p=0.9, sd=0.05)
    for i in range(1000):
        lie = Observation(
            subject=f"{i}", query_id="q", at=0, score=0.0, credits=(credit,), p_skill=SUMS,
            caller="me",
        )  # fmt: skip
        if weight := caps.weight(lie, credit):
            online.observe(0, SUMS, credit.p, lie.score, weight)
    assert online.shifts().apply(scores()).p_correct[0, 0] == pytest.approx(0.53, abs=0.03)


# Plans.


def outlooks() -> PlanOutlooks:
    calls = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return PlanOutlooks(
        fallback_prices_usd=(1e-2,),
        plans=(Plan("single"), Plan.of("recruit", k=2), Plan("other")),
        skills=("sums", "words"),
        arms=(Arm("a"), Arm("b")),
        sure_from=(),
        p_correct=np.full((1, 3, 3, 1), 0.9),
        n_calls=np.repeat(calls[:, None, :], 3, axis=1)[None, :, :, None],
    )


def test_plans_move_with_the_arms_that_they_call() -> None:
    shifts = Shifts(
        logits=np.array([[-2.0] * 3, [0.0] * 3]), n=np.ones((2, 3)), prior_n=np.ones((2, 3))
    )
    row = shifts.apply(scores()).row(0)
    single, recruit, other = outlooks().expect(row, 1e-2)
    assert single.p_correct == pytest.approx(0.9)  # it asks b now
    assert 0.7 < recruit.p_correct < 0.9
    assert other.p_correct == pytest.approx(0.9)
    before = outlooks().expect(scores().row(0), 1e-2)
    assert [o.p_correct for o in before] == pytest.approx([0.9] * 3)


def test_a_shift_moves_a_plan_once() -> None:
    """And not again, by taking the router for torn."""
    levels = replace(
        outlooks(),
        sure_from=(0.7,),
        p_correct=np.repeat(np.array([0.2, 0.9]), 9).reshape(2, 1, 3, 3).transpose(1, 2, 3, 0),
        n_calls=np.repeat(outlooks().n_calls, 2, axis=3),
    )
    down = Shifts(logits=np.full((2, 3), -2.0), n=np.ones((2, 3)), prior_n=np.ones((2, 3)))
    row = down.apply(scores()).row(0)
    assert row.p_correct.max() < 0.7
    odds = 9 * np.exp(-2)
    assert [o.p_correct for o in levels.expect(row, 1e-2)] == pytest.approx([odds / (1 + odds)] * 3)


# Drift.


def test_a_change_is_noticed_and_told_for_better_or_worse() -> None:
    for p, score, kind in ((0.9, 0.0, "worse"), (0.2, 1.0, "better")):
        test = PageHinkley(DriftRates())
        found = [test.observe(p, 0.05, score) for _ in range(20)]
        assert kind in found
        assert found.index(kind) < 12  # type: ignore[arg-type]


def test_no_change_is_no_alarm() -> None:
    rng = np.random.default_rng(0)
    test = PageHinkley(DriftRates())
    for right in rng.random(2000) < 0.8:
        test.observe(0.8, 0.05, float(right))
    assert test.n_alarms == 0


# Exploration.


def row(p: list[float], cost: list[float]) -> QueryScores:
    return QueryScores(
        arms=tuple(Arm(f"arm{i}") for i in range(len(p))), p_correct=np.array(p),
        sd=np.full(len(p), 0.1), cost_usd=np.array(cost), latency_s=np.ones(len(p)), novelty=0.0,
        is_general=False, skills={},
    )  # fmt: skip


def test_propensities_are_the_shares_of_what_is_done() -> None:
    known, beliefs_ = np.array([20.0, 3.0, 3.0]), row([0.8, 0.7, 0.1], [1e-4] * 3)
    rng, n = np.random.default_rng(0), 4000
    done: dict[str, list[float]] = {}
    for _ in range(n):
        found = explore(
            beliefs_, known, 1e-2, np.full(3, 1e-3), rng, share=0.5, min_sd=0.05, left_usd=1.0
        )
        done.setdefault(str(found.arm), []).append(found.propensity)
    for propensities in done.values():
        assert len(propensities) / n == pytest.approx(np.mean(propensities), abs=0.03)
    assert len(done.get("arm1", [])) > len(done.get("arm2", []))


def test_only_what_is_wide_and_fits_the_budget_is_explored() -> None:
    beliefs_, known = row([0.8, 0.75, 0.75], [1e-4] * 3), np.array([20.0, 1000.0, 3.0])
    rng = np.random.default_rng(0)

    def arms(left_usd: float) -> set[str]:
        most = np.array([1e-3, 1e-3, 2e-3])
        return {
            str(
                explore(
                    beliefs_, known, 1e-2, most, rng, share=1, min_sd=0.05, left_usd=left_usd
                ).arm
            )
            for _ in range(50)
        }

    assert arms(1.0) == {"None", "arm2"}
    assert arms(1.9e-3) == {"None"}
    assert chances(beliefs_, known, 1e-2, rng).sum() == pytest.approx(1)
