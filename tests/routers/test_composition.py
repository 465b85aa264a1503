"""Learned composition on simulated pools: what is asked, when it stops, and what it pays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from threadpoolctl import threadpool_limits

from experts.errors import DataError
from routers.composition import (
    MAX_SEARCHED,
    N_BINS,
    BlindAnswers,
    Composition,
    Isotonic,
    Recorded,
    Stage,
    Waves,
    expected_loss,
    fit_composition,
    last_stage,
    play,
    play_blind,
    random_subsets,
    search_sequences,
    search_waves,
    stages_of,
    worth_searching,
)

CHEAP, DEAR, POOR = range(3)
COST_USD = np.array([0.001, 0.01, 0.012])
PRICES_USD = [0.002 * 3**k for k in range(6)]
"""From where no second call pays to where all of them do."""


def recorded(n: int = 210, *, seed: int = 0) -> Recorded:
    """CHEAP is sure of four questions in five and right about those; DEAR is right nearly always,
    POOR hardly ever, at the highest price. Wrong answers are any of nine."""
    rng = np.random.default_rng(seed)
    sure = rng.random(n) < 0.8
    chance = np.column_stack([np.where(sure, 0.98, 0.1), np.full(n, 0.96), np.full(n, 0.2)])
    right = rng.random((n, 3)) < chance
    answer = np.where(right, 0, rng.integers(1, 10, (n, 3)))
    # A little different each time: beliefs of only two values leave nothing to interpolate.
    p_arm = np.column_stack([np.where(sure, 0.93, 0.2), np.full(n, 0.93), np.full(n, 0.2)])
    p_arm += rng.uniform(-0.05, 0.05, p_arm.shape)
    return Recorded(
        p_arm=p_arm,
        answer=answer,
        score=right.astype(float),
        cost_usd=np.tile(COST_USD, (n, 1)),
        effort=np.zeros((n, 3)),
        form=np.zeros((n, 3)),
    )


def of_arms(record: Recorded, n_arms: int) -> Recorded:
    told = {name: getattr(record, name) for name in Recorded.__slots__}
    return Recorded(**{n: None if a is None else a[:, :n_arms] for n, a in told.items()})


@cache
def small(n_arms: int) -> BlindAnswers:
    """A few queries to the first arms."""
    with threadpool_limits(1):
        return BlindAnswers.fit(of_arms(recorded(60), n_arms))


@pytest.fixture(scope="module")
def blind() -> BlindAnswers:
    with threadpool_limits(1):
        return BlindAnswers.fit(recorded())


@pytest.fixture(scope="module")
def sequences(blind: BlindAnswers) -> list[tuple[tuple[int, ...], ...]]:
    return search_sequences(blind, PRICES_USD)


# The search.


def searched(blind: BlindAnswers, arms: list[int], start: Waves, prices_usd: list[float]) -> Waves:
    return search_waves(lambda waves: expected_loss(blind, waves, prices_usd), arms, start)


def test_cheap_then_dear_is_found(blind: BlindAnswers) -> None:
    assert searched(blind, [CHEAP, DEAR, POOR], ((CHEAP,),), [0.05]) == ((CHEAP,), (DEAR,))
    assert searched(blind, [CHEAP, DEAR, POOR], ((DEAR,),), [0.05]) == ((CHEAP,), (DEAR,))


def test_cheap_then_dear_is_as_good_as_dear_and_far_cheaper(blind: BlindAnswers) -> None:
    [(score, cost)] = play_blind(blind, ((CHEAP,), (DEAR,)), [0.05])
    dear = blind.recorded.score[:, DEAR]
    assert score.mean() >= dear.mean() - 0.01
    assert cost.mean() < 0.5 * COST_USD[DEAR]


def test_a_cascade_is_among_the_sequences(
    blind: BlindAnswers, sequences: list[tuple[tuple[int, ...], ...]]
) -> None:
    assert ((CHEAP,), (DEAR,)) in sequences
    assert sequences[-1] == ((CHEAP, DEAR, POOR),)  # everybody at once
    assert len(set(sequences)) == len(sequences)
    for waves in sequences:
        arms = [arm for wave in waves for arm in wave]
        assert len(set(arms)) == len(arms)


def test_the_search_only_improves(blind: BlindAnswers) -> None:
    for start in (((CHEAP,),), ((POOR,),), ((CHEAP, DEAR, POOR),), ((POOR,), (DEAR,), (CHEAP,))):
        found = searched(blind, [CHEAP, DEAR, POOR], start, [0.02, 0.2])
        assert expected_loss(blind, found, [0.02, 0.2]) <= expected_loss(blind, start, [0.02, 0.2])
        assert POOR not in {arm for wave in found[:1] for arm in wave}


def test_where_a_wrong_answer_is_cheap_one_cheap_arm_does_it(blind: BlindAnswers) -> None:
    found = searched(blind, [CHEAP, DEAR], ((CHEAP,),), [0.0005])
    [(_, cost)] = play_blind(blind, found, [0.0005])
    assert cost == pytest.approx(COST_USD[CHEAP])


@pytest.mark.parametrize("n_arms", [1, 2, 3])
def test_pools_of_any_size_are_searched(n_arms: int, blind: BlindAnswers) -> None:
    pool = blind if n_arms == 3 else small(n_arms)
    for prices_usd in ([0.05], PRICES_USD):
        found = search_sequences(pool, prices_usd)
        assert (tuple(range(n_arms)),) in found
        if n_arms == 1:
            assert found == [((0,),)]
        for waves in found:
            assert {arm for wave in waves for arm in wave} <= set(range(n_arms))


def test_arms_on_the_frontier_are_searched_then_the_most_accurate() -> None:
    accuracy = np.array([0.5, 0.4, 0.9, 0.85, 0.2])
    cost = np.array([1.0, 2.0, 3.0, 4.0, 0.5])
    assert worth_searching(accuracy, cost) == [0, 2, 3]  # the two weakest are not
    many = worth_searching(np.linspace(0.1, 0.9, 30), np.linspace(1, 2, 30))
    assert many == list(range(30 - MAX_SEARCHED, 30))


# Playing.


def constant(gain: float) -> Isotonic:
    return Isotonic(np.array([0.0, 1.0]), np.array([gain, gain]))


as_told = Isotonic(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def by_hand(n: int = 5, n_stages: int = 3) -> list[Stage]:
    rng = np.random.default_rng(0)
    return [(rng.random(n), rng.random(n), rng.random(n)) for _ in range(n_stages)]


def test_exactly_the_asked_waves_are_paid() -> None:
    unsure = Isotonic(np.array([0.0, 1.0]), np.array([1.0, 0.0]))  # gain 1 - P
    composition = Composition(
        waves=((0,), (1, 2), (3,)),
        beliefs=(as_told,) * 3,
        gains=((unsure, constant(0)), (unsure,), ()),
        wave_cost_usd=(1.0, 2.0, 5.0),
    )
    stages: list[Stage] = [
        (np.array([0.9, 0.5, 0.1]), np.array([1.0, 0, 0]), np.array([1.0, 1.5, 2])),
        (np.array([0.9, 0.9, 0.2]), np.array([0.0, 1, 0]), np.array([2.0, 2.5, 3])),
        (np.array([0.9, 0.9, 0.9]), np.array([0.0, 0, 1]), np.array([5.0, 5.5, 6])),
    ]
    assert last_stage(composition, stages, 10.0).tolist() == [0, 1, 2]
    score, cost = play(composition, stages, 10.0)
    assert score.tolist() == [1, 1, 1]
    assert cost.tolist() == [1, 1.5 + 2.5, 2 + 3 + 6]


def test_a_wave_without_gain_is_crossed_for_a_later_one() -> None:
    worth = Composition(
        waves=((0,), (1,), (2,)),
        beliefs=(as_told,) * 3,
        gains=((constant(0), constant(0.5)), (constant(0.5),), ()),
        wave_cost_usd=(1.0, 1.0, 1.0),
    )
    assert last_stage(worth, by_hand(), 4.1).tolist() == [2] * 5  # 0.5 V against 2 dollars
    assert last_stage(worth, by_hand(), 3.9).tolist() == [0] * 5


def test_who_stops_does_not_start_again() -> None:
    composition = Composition(
        waves=((0,), (1,), (2,)),
        beliefs=(as_told,) * 3,
        gains=((constant(-0.1), constant(-0.1)), (constant(1.0),), ()),
        wave_cost_usd=(1.0, 1.0, 1.0),
    )
    score, cost = play(composition, stages := by_hand(), 1e9)
    assert (score == stages[0][1]).all()
    assert (cost == stages[0][2]).all()


def test_what_is_played_is_what_was_recorded(blind: BlindAnswers) -> None:
    waves = ((CHEAP,), (DEAR, POOR))
    composition = fit_composition(blind, waves)
    score, cost = play(composition, stages_of(blind, waves), 0.05)
    paid = {COST_USD[CHEAP], COST_USD.sum()}
    assert {round(c, 9) for c in cost} == {round(c, 9) for c in paid}
    assert set(score) <= {0.0, 1.0}
    assert composition.wave_cost_usd == pytest.approx((0.001, 0.022))
    assert [len(gains) for gains in composition.gains] == [1, 0]


def test_dearer_failures_buy_calls_and_accuracy(
    blind: BlindAnswers, sequences: list[tuple[tuple[int, ...], ...]]
) -> None:
    for waves in sequences:
        plays = play_blind(blind, waves, PRICES_USD)
        costs = [cost.mean() for _, cost in plays]
        scores = [score.mean() for score, _ in plays]
        assert costs == sorted(costs)  # who is asked at some V is asked at every dearer one
        assert (np.diff(scores) >= -0.01).all()


def test_a_dear_arm_that_brings_nothing_is_not_asked(blind: BlindAnswers) -> None:
    [(_, cost)] = play_blind(blind, ((DEAR,), (POOR,)), [0.05])
    assert (cost > COST_USD[DEAR]).mean() < 0.1


def test_what_is_played_on_a_query_was_learned_without_it() -> None:
    ours = small(2)
    record, here = ours.recorded, ours.fold == 0
    other = replace(record, score=np.where(here[:, None], 1 - record.score, record.score))
    theirs = BlindAnswers.fit(other)
    for arms in (frozenset({CHEAP}), frozenset({CHEAP, DEAR})):
        believed = [b.leading(arms)[0][here] for b in (ours, theirs)]
        np.testing.assert_allclose(*believed, rtol=1e-6)  # threads add up in any order
    waves = ((CHEAP,), (DEAR,))
    [(_, cost)], [(_, cost_theirs)] = (play_blind(b, waves, [0.05]) for b in (ours, theirs))
    assert (cost[here] == cost_theirs[here]).all()


def test_a_composition_without_a_fold_knows_nothing_of_it() -> None:
    ours = small(2)
    here = (ours.fold == 0)[:, None]
    other = replace(
        ours.recorded,
        score=np.where(here, 1 - ours.recorded.score, ours.recorded.score),
        cost_usd=np.where(here, 1e3, ours.recorded.cost_usd),
    )
    theirs = BlindAnswers(other, ours.fold, ours.models)
    waves = ((CHEAP,), (DEAR,))
    without, with_it = (fit_composition(ours, waves, without=k) for k in (0, None))
    assert told_of(without) == told_of(fit_composition(theirs, waves, without=0))
    assert told_of(with_it) != told_of(fit_composition(theirs, waves))


def told_of(composition: Composition) -> list[object]:
    curves = [*composition.beliefs, *(g for stage in composition.gains for g in stage)]
    return [composition.wave_cost_usd, *((c.x.tolist(), c.y.tolist()) for c in curves)]


def test_nobody_asked_is_nothing_known(blind: BlindAnswers) -> None:
    p, score = blind.leading(frozenset())
    assert not p.any()
    assert not score.any()


def test_answers_that_are_all_right_teach_nothing() -> None:
    record = recorded(50)
    with pytest.raises(DataError, match="nothing to learn"):
        BlindAnswers.fit(replace(record, score=np.ones_like(record.score)))


def test_an_answer_scores_what_its_arms_do() -> None:
    nothing = np.zeros((2, 3))
    record = Recorded(
        p_arm=nothing, cost_usd=nothing, effort=nothing, form=nothing,
        answer=np.array([[0, 0, 1], [0, -1, -1]]), score=np.array([[1.0, 0.5, 0], [0.3, 1, 1]]),
    )  # fmt: skip
    assert record.score_of(np.array([0, 0])).tolist() == [0.75, 0.3]
    assert record.score_of(np.array([1, -1])).tolist() == [0, 0]  # silence is never right
    votes, scores = record.votes(np.array([[True, False, True], [False, True, False]]))
    assert (votes.query.tolist(), votes.arm.tolist()) == ([0, 0, 1], [0, 2, 1])
    assert (votes.answer.tolist(), scores.tolist()) == ([0, 1, -1], [1, 0, 1])


# Its parts.


@given(
    cost_usd=st.lists(st.sampled_from([0.0, 1e-6, 0.01, 0.01, 3.0]), min_size=1, max_size=8),
    n=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_random_subsets_are_never_empty(cost_usd: list[float], n: int, seed: int) -> None:
    asked = random_subsets(np.array(cost_usd), n, np.random.default_rng(seed))
    assert asked.shape == (n, len(cost_usd))
    assert asked.dtype == bool
    assert asked.any(axis=1).all()
    again = random_subsets(np.array(cost_usd), n, np.random.default_rng(seed))
    assert (asked == again).all()


def test_cheap_arms_are_in_more_subsets_and_all_are_in_some() -> None:
    asked = random_subsets(np.array([1e-3, 1e-1, 1e-2]), 2000, np.random.default_rng(0))
    shares = asked.mean(axis=0)
    assert shares[0] > shares[2] > shares[1] > 0.1
    sizes = asked.sum(axis=1)
    assert all((sizes == k).any() for k in (1, 2, 3))


probabilities = st.lists(st.integers(0, 1000), min_size=1, max_size=N_BINS, unique=True)


@given(probabilities, st.data())
def test_few_points_are_isotonic_regression(grid: list[int], data: st.DataObject) -> None:
    p = np.array(grid) / 1000
    gains = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])
    target = np.array(data.draw(st.lists(gains, min_size=len(p), max_size=len(p))))
    reference = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(p, target)
    asked = np.linspace(0, 1, 33)
    ours = Isotonic.fit(p, target, rising=False)
    np.testing.assert_allclose(ours(p), reference.predict(p), atol=1e-9)
    np.testing.assert_allclose(ours(asked), reference.predict(asked), atol=1e-9)


@given(st.integers(1, 300), st.integers(0, 1000), st.booleans())
def test_a_falling_function_falls(n: int, seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    p, target = rng.random(n), rng.normal(size=n)
    if tied:
        p = p.round(1)
    gains = Isotonic.fit(p, target, rising=False)(np.linspace(0, 1, 101))
    assert (np.diff(gains) <= 1e-12).all()
    assert target.min() - 1e-9 <= gains.min() <= gains.max() <= target.max() + 1e-9


@given(st.integers(1, 300), st.integers(0, 1000))
def test_a_belief_rises_and_stays_a_probability(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    beliefs = Isotonic.fit(p, (rng.random(n) < p).astype(float), rising=True)(np.linspace(0, 1, 99))
    assert (np.diff(beliefs) >= -1e-12).all()
    assert 0 <= beliefs[0] <= beliefs[-1] <= 1


def test_what_is_believed_came_true_for_others() -> None:
    """Whoever is sure of .9 and right in .6 of the cases is believed .6."""
    sure = np.full(1000, 0.9)
    right = np.arange(1000) % 10 < 6
    belief = Isotonic.fit(sure, right.astype(float), rising=True)
    assert belief(np.array([0.9]))[0] == pytest.approx(0.6)


def test_many_points_are_close_to_isotonic_regression() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(4000)
    target = (1 - p) ** 2 + rng.normal(0, 0.3, 4000)
    reference = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(p, target)
    asked = np.linspace(0.05, 0.95, 40)
    np.testing.assert_allclose(
        Isotonic.fit(p, target, rising=False)(asked), reference.predict(asked), atol=0.06
    )
