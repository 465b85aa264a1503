"""Estimators of cost-of-pass: the known biases are reproduced, and ours do not have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.cost_of_pass.few_runs import (
    chosen_and_paid,
    jackknife_bias,
    plug_in,
    plug_in_where_solved,
    until_successes,
    with_human,
)

HUMAN_USD = 50.0


def runs(p_right: float, n_problems: int, n_runs: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Cost 1 a run, right with probability ``p_right``."""
    right = (np.random.default_rng(seed).random((n_problems, n_runs)) < p_right).astype(int)
    return np.ones(right.shape), right


@pytest.mark.parametrize(
    ("p_right", "looks_like", "truth"), [(0.05, 7.3, 20), (0.1, 6.6, 10), (0.3, 4.0, 10 / 3)]
)
def test_ignoring_unsolved_problems_is_as_wrong_as_is_known(
    p_right: float, looks_like: float, truth: float
) -> None:
    cost, right = runs(p_right, 100_000, 8)
    assert np.nanmean(plug_in_where_solved(cost, right)) == pytest.approx(looks_like, abs=0.05)
    assert np.isinf(plug_in(cost, right)).mean() == pytest.approx((1 - p_right) ** 8, abs=0.01)
    long_cost, long_right = runs(p_right, 10_000, 500)
    ours = until_successes(long_cost, long_right, 3)
    assert not np.isnan(ours).any()
    assert ours.mean() == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("p_right", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("tries", [1, 3, 8])
def test_trying_and_then_asking_a_person_is_priced_without_bias(p_right: float, tries: int) -> None:
    cost, right = runs(p_right, 40_000, 8)
    fails = (1 - p_right) ** tries
    truth = (1 - fails) / p_right + fails * HUMAN_USD
    assert with_human(cost, right, HUMAN_USD, tries).mean() == pytest.approx(truth, rel=0.02)


def test_it_is_unbiased_also_when_right_answers_cost_more() -> None:
    rng = np.random.default_rng(1)
    right = (rng.random((40_000, 6)) < 0.3).astype(int)
    cost = np.where(right == 1, 5.0, 1.0)
    # In order, as a buyer pays: until the first right answer, at most three times.
    first = np.where(right[:, :3].any(axis=1), right[:, :3].argmax(axis=1), 2)
    paid = np.cumsum(cost, axis=1)[np.arange(len(cost)), first]
    truth = (paid + np.where(right[:, :3].any(axis=1), 0, HUMAN_USD)).mean()
    assert with_human(cost, right, HUMAN_USD, 3).mean() == pytest.approx(truth, rel=0.02)


@given(st.lists(st.booleans(), min_size=2, max_size=8), st.data())
def test_the_order_of_runs_does_not_matter(outcomes: list[bool], data: st.DataObject) -> None:
    right = np.array(outcomes, int)
    shuffled = np.array(data.draw(st.permutations(outcomes)), int)
    cost = np.ones(len(right))
    tries = data.draw(st.integers(1, len(right)))
    assert with_human(cost, right, 9.0, tries) == pytest.approx(
        with_human(cost, shuffled, 9.0, tries)
    )


def test_choosing_on_the_runs_that_one_reports_claims_too_little() -> None:
    """The winner's curse, and that paying on the other half shows what is really paid."""
    rng = np.random.default_rng(2)
    p = rng.beta(1, 3, (4000, 12, 1))
    price = np.exp(rng.normal(0, 1, (1, 12, 1)))
    right = (rng.random((4000, 12, 16)) < p).astype(int)
    cost = np.broadcast_to(price, right.shape)
    claimed, paid = chosen_and_paid(cost, right, HUMAN_USD)
    assert paid.mean() > 1.1 * claimed.mean()
    # What the choice really costs, from the truth: choose on 8 runs, buy for ever after.
    claims = with_human(cost[..., :8], right[..., :8], HUMAN_USD, 8)
    chosen = claims.argmin(axis=1)
    rows = np.arange(len(p))
    fails = (1 - p[rows, chosen, 0]) ** 8
    truth = price[0, chosen, 0] * (1 - fails) / p[rows, chosen, 0] + fails * HUMAN_USD
    truth = np.where(claims[rows, chosen] >= HUMAN_USD, HUMAN_USD, truth)
    assert paid.mean() == pytest.approx(truth.mean(), rel=0.05)


def test_what_cannot_be_estimated_is_refused() -> None:
    cost, right = runs(0.5, 3, 4)
    with pytest.raises(ValueError, match=r"tries must lie in 1\.\.4"):
        with_human(cost, right, HUMAN_USD, 5)
    with pytest.raises(ValueError, match="r must be at least 1"):
        until_successes(cost, right, 0)
    with pytest.raises(ValueError, match="at least 2 runs"):
        chosen_and_paid(cost[:, None, :1], right[:, None, :1], HUMAN_USD)
    assert np.isnan(until_successes(cost, np.zeros_like(right), 1)).all()


def test_the_bias_of_a_pooled_ratio_by_hand() -> None:
    """Quenouille: (n - 1) (mean of the ratios without one question - the ratio)."""
    cost, right = np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0])
    # Without each in turn: 5 / 1, 4 / 1, 3 / 2; all: 6 / 2.
    assert jackknife_bias(cost, right) == pytest.approx(2 * ((5 + 4 + 1.5) / 3 - 3))
    assert np.isnan(jackknife_bias(cost, np.array([1, 0, 0])))


def test_a_person_is_asked_where_every_arm_claims_more() -> None:
    """Two tries of 10 $ that fail, and then the person of 30 $: 50 $, so the person at once."""
    never = np.zeros((1, 1, 4), int)
    claimed, paid = chosen_and_paid(np.full(never.shape, 10.0), never, 30.0)
    assert (claimed.tolist(), paid.tolist()) == ([30.0], [30.0])
