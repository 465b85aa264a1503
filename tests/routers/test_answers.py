"""The answer model on simulated pools: what agreement is worth, and of whom."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from eval.metrics.reliability import ece
from experts.errors import DataError, NotFitted
from routers.answers import AnswerModel, Candidates, Vote, Votes

TWIN, COPY, ADA, BOB, CYD = range(5)
"""TWIN and COPY say the same always; the others err independently of each other."""
RATE = 0.6
N_OPTIONS = 4


def votes_of(answer: np.ndarray, asked: np.ndarray) -> Votes:
    query, arm = np.nonzero(asked)
    zeros = np.zeros(len(query))
    return Votes(
        query=query, arm=arm, answer=answer[query, arm], effort=zeros, surprise=zeros, form=zeros,
        own_odds=zeros,
    )  # fmt: skip


def pool(n: int, seed: int) -> tuple[Votes, np.ndarray, np.ndarray]:
    """Votes of random subsets of the arms, what was believed of each, and the votes' scores.

    Every tenth answer is missing. Equally good arms, whose hits are believed a little in advance.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, N_OPTIONS, (n, 1))
    right = rng.random((n, 5)) < RATE
    wrong = (truth + rng.integers(1, N_OPTIONS, (n, 5))) % N_OPTIONS
    answer = np.where(right, truth, wrong)
    answer[:, COPY] = answer[:, TWIN]
    score = (answer == truth).astype(float)
    silent = rng.random((n, 5)) < 0.1
    answer[silent], score[silent] = -1, 0.0
    asked = rng.random((n, 5)) < 0.6
    asked[np.arange(n), rng.integers(0, 5, n)] = True
    votes = votes_of(answer, asked)
    return votes, np.full((n, 5), RATE), score[votes.query, votes.arm]


@pytest.fixture(scope="module")
def fitted() -> AnswerModel:
    with threadpool_limits(1):
        return AnswerModel().fit(*pool(3000, seed=0))


def p_of(model: AnswerModel, said: dict[int, int], p_arm: float = RATE) -> dict[int, float]:
    """P of each answer when these arms said this, and no others were asked."""
    answer, asked = np.full((1, 5), -1), np.zeros((1, 5), bool)
    for arm, what in said.items():
        answer[0, arm], asked[0, arm] = what, True
    found = model.predict(votes_of(answer, asked), np.full((1, 5), p_arm))
    return dict(zip(found.answer.tolist(), found.p_right.tolist(), strict=True))


def test_one_answer_is_as_right_as_its_arm(fitted: AnswerModel) -> None:
    for arm in (ADA, BOB, CYD):
        assert p_of(fitted, {arm: 2})[2] == pytest.approx(RATE, abs=0.12)  # shrunk


def test_agreement_raises_p_and_contradiction_lowers_it(fitted: AnswerModel) -> None:
    alone = p_of(fitted, {ADA: 2})[2]
    two = p_of(fitted, {ADA: 2, BOB: 2})[2]
    three = p_of(fitted, {ADA: 2, BOB: 2, CYD: 2})[2]
    against = p_of(fitted, {ADA: 2, BOB: 1})[2]
    assert against < alone < two < three
    # Bayes: 0.6^2 against 0.4^2 / 3, a wrong answer being any of three.
    assert two == pytest.approx(0.36 / (0.36 + 0.16 / 3), abs=0.08)


def test_who_errs_together_counts_less_together(fitted: AnswerModel) -> None:
    together = p_of(fitted, {TWIN: 2, COPY: 2})[2]
    apart = p_of(fitted, {ADA: 2, BOB: 2})[2]
    assert together < apart - 0.1
    outvoted = p_of(fitted, {TWIN: 2, COPY: 2, ADA: 1, BOB: 1})
    assert outvoted[1] > outvoted[2]


def test_what_is_believed_of_an_arm_counts() -> None:
    # The belief is the arm's chance here, and nothing else tells anything.
    rng = np.random.default_rng(3)
    p_arm = rng.uniform(0.1, 0.9, (1000, 2))
    right = rng.random(p_arm.shape) < p_arm
    answer = np.where(right, 0, rng.integers(1, 20, p_arm.shape))
    votes = votes_of(answer, np.ones(p_arm.shape, bool))
    model = AnswerModel().fit(votes, p_arm, right[votes.query, votes.arm].astype(float))
    split = votes_of(np.array([[4, 5]]), np.ones((1, 2), bool))
    found = model.predict(split, np.array([[0.85, 0.15]]))
    assert found.p_right[0] > 0.6 > 0.2 > found.p_right[1]


def test_p_is_calibrated_at_every_stage(fitted: AnswerModel) -> None:
    votes, p_arm, score = pool(3000, seed=1)
    found = fitted.predict(votes, p_arm)
    answer, p = found.leading(len(p_arm))
    said = votes.answer >= 0
    scores = dict(
        zip(zip(votes.query[said], votes.answer[said], strict=True), score[said], strict=True)
    )
    right = np.array([scores.get((i, a), 0.0) for i, a in enumerate(answer)])
    assert ece(p, right) < 0.04
    asked = np.bincount(votes.query, minlength=len(p))
    for n_asked in (1, 3):  # early and late in a cascade
        rows = asked == n_asked
        assert abs(p[rows].mean() - right[rows].mean()) < 0.05


def test_an_answer_that_is_graded_right_as_often_as_wrong_is_not_right() -> None:
    votes = votes_of(np.zeros((300, 2), int), np.ones((300, 2), bool))
    p_arm = np.full((300, 2), 0.5)
    model = AnswerModel().fit(votes, p_arm, np.tile([1.0, 0.0], 300))
    assert model.predict(votes, p_arm).p_right.max() < 0.5


def test_effort_surprise_form_and_own_odds_are_learned_from() -> None:
    rng = np.random.default_rng(4)
    n = 500
    right = rng.random((n, 1)) < 0.5
    answer = np.where(right, 0, 1)
    votes = votes_of(answer, np.ones((n, 1), bool))
    for told in ("effort", "surprise", "form", "own_odds"):
        sign = -1 if told in ("effort", "surprise") else 1
        values = sign * np.where(right, 1.0, -1.0)[:, 0] + rng.normal(0, 0.5, n)
        informed = Votes(
            **{name: getattr(votes, name) for name in Votes.__slots__ if name != told},
            **{told: values},
        )
        model = AnswerModel().fit(informed, np.full((n, 1), 0.5), right[:, 0].astype(float))
        p = model.predict(informed, np.full((n, 1), 0.5)).p_right
        assert p[right[:, 0]].mean() > p[~right[:, 0]].mean() + 0.2, told


def test_candidates_are_the_distinct_answers(fitted: AnswerModel) -> None:
    answer = np.array([[7, 7, 3, 3, 0], [-1, -1, -1, -1, -1], [5, -1, 5, 5, 5]])
    votes = votes_of(answer, np.ones((3, 5), bool))
    found = fitted.predict(votes, np.full((3, 5), RATE))
    assert list(zip(found.query.tolist(), found.answer.tolist(), strict=True)) == [
        (0, 0), (0, 3), (0, 7), (2, 5),
    ]  # fmt: skip
    assert ((found.p_right > 0) & (found.p_right < 1)).all()
    assert (np.bincount(found.query, found.p_right, 3) <= 1).all()


def test_the_numbers_of_answers_mean_nothing(fitted: AnswerModel) -> None:
    votes, p_arm, _ = pool(50, seed=5)
    renumbered = Votes(
        **{name: getattr(votes, name) for name in Votes.__slots__ if name != "answer"},
        answer=np.where(votes.answer >= 0, 100 - votes.answer, -1),
    )
    ours, theirs = (fitted.predict(v, p_arm).leading(50) for v in (votes, renumbered))
    np.testing.assert_allclose(ours[1], theirs[1])


def test_the_order_of_votes_means_nothing(fitted: AnswerModel) -> None:
    votes, p_arm, _ = pool(50, seed=6)
    turned = votes[np.random.default_rng(0).permutation(len(votes))]
    np.testing.assert_allclose(
        fitted.predict(turned, p_arm).p_right, fitted.predict(votes, p_arm).p_right
    )


def test_the_leading_answer_is_the_most_probable_one() -> None:
    candidates = Candidates(
        query=np.array([0, 0, 2]),
        answer=np.array([4, 9, 1]),
        p_right=np.array([0.6, 0.3, 0.2]),
    )
    answer, p = candidates.leading(4)
    assert answer.tolist() == [4, -1, 1, -1]
    assert p.tolist() == [0.6, 0, 0.2, 0]


@pytest.mark.parametrize("hears_own", [False, True])
def test_one_question_is_told_what_many_are(hears_own: bool) -> None:
    votes, p_arm, right = pool(200, seed=7)
    rng = np.random.default_rng(7)
    numbers = ("effort", "surprise", "form", "own_odds")
    told = {name: rng.normal(size=len(votes)) for name in numbers}
    if not hears_own:
        told["own_odds"] = np.zeros(len(votes))
    votes = Votes(query=votes.query, arm=votes.arm, answer=votes.answer, **told)
    p_arm = rng.random(p_arm.shape)
    fitted = AnswerModel().fit(votes, p_arm, right)
    answers, p = fitted.predict(votes, p_arm).leading(len(p_arm))
    columns = (votes.arm, votes.answer, *(told[name] for name in numbers))
    for q in range(len(p_arm)):
        its = zip(*(c[votes.query == q].tolist() for c in columns), strict=True)
        answer, p_right = fitted.to_one(p_arm[q].tolist()).leading([Vote(*row) for row in its])
        assert answer == answers[q]
        assert p_right == pytest.approx(p[q])
    with pytest.raises(NotFitted):
        AnswerModel().to_one([0.5])


def test_silent_arms_lead_nowhere(fitted: AnswerModel) -> None:
    assert p_of(fitted, {ADA: -1, BOB: -1}) == {}
    assert set(p_of(fitted, {ADA: -1, BOB: 2})) == {2}


def test_silence_of_others_is_no_agreement(fitted: AnswerModel) -> None:
    alone, agreed = p_of(fitted, {ADA: 2})[2], p_of(fitted, {ADA: 2, BOB: 2})[2]
    assert p_of(fitted, {ADA: 2, BOB: -1})[2] == pytest.approx(alone, abs=0.1)
    assert p_of(fitted, {ADA: 2, BOB: -1})[2] < agreed


def test_silence_is_learned_where_it_tells() -> None:
    # Arm 1 is silent exactly where arm 0 is wrong.
    right = np.arange(500) % 2 == 0
    answer = np.column_stack([np.where(right, 0, 1), np.where(right, 2, -1)])
    votes = votes_of(answer, np.ones((500, 2), bool))
    score = np.where(votes.arm == 0, right[votes.query], False).astype(float)
    model = AnswerModel().fit(votes, np.full((500, 2), 0.5), score)
    found = model.predict(votes, np.full((500, 2), 0.5))
    p = found.p_right[found.answer < 2]
    assert p[right].mean() > p[~right].mean() + 0.3


def test_nobody_asked_is_nothing_said(fitted: AnswerModel) -> None:
    nobody = votes_of(np.zeros((3, 5), int), np.zeros((3, 5), bool))
    assert len(nobody) == 0
    answer, p = fitted.predict(nobody, np.full((3, 5), RATE)).leading(3)
    assert answer.tolist() == [-1, -1, -1]
    assert p.tolist() == [0, 0, 0]


def test_beliefs_of_zero_and_one_are_bearable(fitted: AnswerModel) -> None:
    for p_arm in (0.0, 1.0):
        p = p_of(fitted, {ADA: 2, BOB: 1}, p_arm)
        assert np.isfinite(list(p.values())).all()


def test_the_state_is_the_model(fitted: AnswerModel) -> None:
    votes, p_arm, _ = pool(100, seed=7)
    restored = AnswerModel.from_state(fitted.state())
    assert (restored.predict(votes, p_arm).p_right == fitted.predict(votes, p_arm).p_right).all()
    assert all(isinstance(a, np.ndarray) for a in fitted.state().values())  # what a file can hold
    with pytest.raises(DataError, match="Fitted for 5 arms, asked about 4"):
        restored.predict(votes[votes.arm < 4], p_arm[:, :4])


@pytest.mark.parametrize("score", [0.0, 1.0, float("nan")])
def test_where_there_is_nothing_to_tell_apart_nothing_is_learned(score: float) -> None:
    votes, p_arm, scores = pool(20, seed=8)
    with pytest.raises(DataError, match="nothing to learn"):
        AnswerModel().fit(votes, p_arm, np.full(len(scores), score))


def test_predict_before_fit_says_so() -> None:
    votes, p_arm, _ = pool(5, seed=9)
    with pytest.raises(NotFitted, match="before fit"):
        AnswerModel().predict(votes, p_arm)
