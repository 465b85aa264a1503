"""One bargain for all estimators: the same suite runs over every one of them."""

from __future__ import annotations

import numpy as np
import pytest

from experts.errors import DataError, NotFitted
from experts.values import Arm
from routers.estimators import ESTIMATORS, Estimator, Growing
from routers.estimators.category_map import CategoryMap, greedy_subset, solve_category_map
from routers.estimators.ridge import Ridge
from routers.outcomes import Features, Outcomes

every = pytest.mark.parametrize("name", list(ESTIMATORS))
N_ARMS = 3


def features(embeddings: np.ndarray) -> Features:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Features(embeddings=unit, n_chars=np.full(len(unit), 40))


def outcomes(scores: np.ndarray, skills: tuple[str, ...]) -> Outcomes:
    unknown = np.full(scores.shape, np.nan)
    return Outcomes(
        arms=tuple(Arm(f"arm-{j}") for j in range(scores.shape[1])),
        skills=skills,
        scores=scores,
        input_tokens=unknown,
        output_tokens=unknown,
        latency_s=unknown,
        logprob=unknown,
        own_odds=unknown,
    )


def world(n: int = 240, seed: int = 0) -> tuple[Features, Outcomes]:
    """Two fields; arm 0 knows the first, arm 1 the second, arm 2 two thirds of everything."""
    rng = np.random.default_rng(seed)
    field = np.arange(n) % 2
    centres = np.array([[1.0, 0, 0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0, 0, 0]])
    embeddings = centres[field] + rng.normal(0, 0.15, (n, 8))
    chance = np.column_stack([field == 0, field == 1, np.full(n, 2 / 3)])
    scores = (rng.random((n, N_ARMS)) < 0.05 + 0.9 * chance).astype(float)
    return features(embeddings), outcomes(scores, tuple(f"field-{f}" for f in field))


def fitted(name: str, scores: np.ndarray | None = None) -> Estimator:
    asked, known = world()
    return ESTIMATORS[name]().fit(
        asked, known if scores is None else outcomes(scores, known.skills)
    )


@every
def test_predictions_are_probabilities_of_every_arm(name: str) -> None:
    asked, _ = world(50, seed=1)
    p = fitted(name).predict(asked)
    assert p.shape == (50, N_ARMS)
    assert ((p >= 0) & (p <= 1)).all()


@every
def test_it_is_deterministic_and_a_query_does_not_depend_on_its_batch(name: str) -> None:
    asked, _ = world(30, seed=1)
    one, two = fitted(name), fitted(name)
    whole = one.predict(asked)
    assert np.array_equal(whole, two.predict(asked))
    alone = np.concatenate([one.predict(asked[np.array([i])]) for i in range(len(asked))])
    assert np.allclose(whole, alone)


@every
def test_predicting_before_fitting_says_so(name: str) -> None:
    with pytest.raises(NotFitted, match="before fit"):
        ESTIMATORS[name]().predict(world(3)[0])


@every
def test_holes_in_the_record_are_not_failures(name: str) -> None:
    _, known = world()
    holes = np.random.default_rng(2).random(known.scores.shape) < 0.3
    patchy = np.where(holes, np.nan, known.scores)
    asked, truth = world(200, seed=3)
    p = fitted(name, patchy).predict(asked)
    assert np.isfinite(p).all()
    if name != "random":  # holes taken for failures would make all arms look alike
        assert truth.scores[np.arange(200), p.argmax(axis=1)].mean() > 0.6


@every
def test_an_arm_without_any_outcome_is_refused(name: str) -> None:
    _, known = world()
    scores = known.scores.copy()
    scores[:, 1] = np.nan
    if name == "random":
        pytest.skip("chance learns nothing")
    with pytest.raises(DataError, match="Arm number 1 has no outcome"):
        fitted(name, scores)


@every
def test_one_class_only_is_learned_as_such(name: str) -> None:
    """Everybody always right, or nobody ever: no crash, and no certainty out of thin air."""
    asked, known = world()
    if name == "random":
        pytest.skip("chance learns nothing")
    for value in (0.0, 1.0):
        p = fitted(name, np.full(known.scores.shape, value)).predict(asked)
        assert np.isfinite(p).all()


@every
def test_empty_outcomes_are_refused(name: str) -> None:
    asked, known = world()
    nothing = np.array([], int)
    if name == "random":
        pytest.skip("chance learns nothing")
    with pytest.raises(DataError, match="no outcomes"):
        ESTIMATORS[name]().fit(asked[nothing], known[nothing])


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"best-single", "random"}))
def test_who_looks_at_the_question_beats_the_best_single_arm(name: str) -> None:
    asked, truth = world(400, seed=4)
    rows = np.arange(len(asked))
    routed = truth.scores[rows, fitted(name).predict(asked).argmax(axis=1)].mean()
    single = truth.scores[rows, fitted("best-single").predict(asked).argmax(axis=1)].mean()
    assert routed > single + 0.15


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if isinstance(ESTIMATORS[n](), Growing)])
def test_an_arm_joins_from_probes_and_leaves_without_a_trace(name: str) -> None:
    asked, _ = world(60, seed=1)
    estimator = fitted(name)
    before = estimator.predict(asked)
    probes, truth = world(20, seed=5)
    grown = estimator.with_arm(probes, truth.scores[:, 1])  # a twin of arm 1
    after = grown.predict(asked)
    assert after.shape == (60, N_ARMS + 1)
    assert np.allclose(after[:, :N_ARMS], before)
    if name != "best-single":
        assert np.corrcoef(after[:, 3], before[:, 1])[0, 1] > 0.5
    assert np.allclose(grown.without_arm(N_ARMS).predict(asked), before)
    assert np.allclose(estimator.without_arm(0).predict(asked), before[:, 1:])


def test_ridge_learns_a_stream_as_it_learns_the_whole() -> None:
    asked, known = world()
    half = np.arange(len(asked)) < 120
    whole = Ridge().fit(asked, known)
    stream = Ridge().fit(asked[half], known[half]).add(asked[~half], known.scores[~half])
    assert np.allclose(whole.weights_, stream.weights_)


def test_the_map_under_a_budget_is_the_best_there_is() -> None:
    """Against trying every subset."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        scores, sizes = rng.random((4, 6)), rng.uniform(1, 5, 6)
        traffic = rng.dirichlet(np.ones(4))
        budget = float(rng.uniform(sizes.min(), sizes.sum()))
        found = solve_category_map(scores, traffic, sizes, budget)
        best = max(
            float(traffic @ scores[:, list(kept)].max(axis=1))
            for bits in range(1, 64)
            if sizes[kept := [j for j in range(6) if bits >> j & 1]].sum() <= budget
        )
        assert found.exact
        assert found.value == pytest.approx(best)
        assert sizes[found.kept].sum() <= budget + 1e-9
        greedy = greedy_subset(scores, traffic, sizes, budget)
        assert float(traffic @ scores[:, greedy].max(axis=1)) >= 0.3 * best


def test_a_budget_that_nobody_fits_is_refused() -> None:
    asked, known = world()
    with pytest.raises(DataError, match="No arm fits the budget of 1: the smallest needs 2"):
        CategoryMap(np.array([2.0, 3.0, 4.0]), 1.0).fit(asked, known)


def test_a_budget_for_one_keeps_the_best_one() -> None:
    asked, known = world()
    router = CategoryMap(np.ones(3), 1.0).fit(asked, known)
    assert router.mapping_.kept.sum() == 1
    assert len(set(router.predict(asked).argmax(axis=1))) == 1
