"""Composition on recorded outcomes: how a matrix is put into its terms, and what is charged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from eval.routing.composing import blind_and_test_forms, recorded_of
from eval.routing.experiment import experiment_object, run_experiment
from eval.routing.points import sides_of
from eval.routing.policies import all_points
from orchestrator.config import Config
from routers.composer import MAX_DEVIATIONS
from routers.estimators import ESTIMATORS
from skills.embedders import HashingEmbedder
from tests.eval.synthetic import SPECIALISTS, outcomes, sides

KNN = {"knn": ESTIMATORS["knn"]}


def exam(n: int = 240, *, with_reference: bool = True) -> OutcomeMatrix:
    """Listed options, the longest is right; one model knows, the other says A or nothing."""
    rng = np.random.default_rng(0)
    queries, pred = [], np.full((n, 2), None, object)
    for i in range(n):
        right = int(rng.integers(3))
        listed = "\n".join(
            f"{'ABC'[j]}. {'iron ' * (6 if j == right else 1 + j % 2)}" for j in range(3)
        )
        queries.append(
            MatrixQuery(
                query_id=str(i),
                task="exam",
                prompt=f"Question {i}?\n{listed}",
                answer="ABC"[right] if with_reference else None,
                split="test" if i % 4 == 3 else "train",
            )
        )
        pred[i] = "ABC"[right], "A" if i % 2 else None
    score = np.array([[1.0, q.prompt.split("\n")[1].count("iron") > 2] for q in queries])
    score[1::2][:, 1] = [p == "A" for p in pred[1::2, 0]]
    score[0::2, 1] = 0
    shape = score.shape
    return OutcomeMatrix(
        queries=tuple(queries), models=("knows", "guesses"), score=score, pred=pred,
        input_tokens=np.full(shape, 10.0), output_tokens=np.full(shape, 10.0),
        cost_usd=np.full(shape, 0.01),
    )  # fmt: skip


@pytest.mark.parametrize("with_reference", [True, False])
def test_the_form_of_right_options_is_learned(with_reference: bool) -> None:
    # Without a reference the right letter is what a model that was right has said.
    ready = sides_of(exam(with_reference=with_reference), np.ones((240, 2)))
    for rows, forms in zip((ready.dev, ready.test), blind_and_test_forms(ready), strict=True):
        right, guessed = ready.matrix.score[rows].T > 0, ready.matrix.pred[rows, 1] == "A"
        assert forms.shape == (len(rows), 2)
        assert forms[:, 0].mean() > 0.1  # the longest option, more than chance
        assert forms[~guessed, 1].tolist() == [0] * int((~guessed).sum())  # no answer, no form
        wrong = guessed & ~right[1]
        assert (forms[wrong, 1] < forms[wrong, 0]).mean() > 0.9


def test_questions_without_options_have_no_form() -> None:
    for forms in blind_and_test_forms(sides(outcomes(SPECIALISTS, n=40))):
        assert forms.shape[1] == len(SPECIALISTS)
        assert not forms.any()


def test_effort_is_beside_what_is_usual_on_development() -> None:
    matrix = outcomes(SPECIALISTS, n=80)
    tokens = np.random.default_rng(0).integers(50, 200, matrix.score.shape).astype(float)
    ready = sides(replace(matrix, output_tokens=tokens))
    tokens[ready.test[0]] = 1e9
    tokens[ready.test[1]] = np.nan  # unknown
    p = np.full(matrix.score.shape, 0.5)
    dev, test = (recorded_of(ready, r, p[r], 0 * p[r]) for r in (ready.dev, ready.test))
    np.testing.assert_allclose(dev.effort.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(dev.effort.std(axis=0), 1)
    assert (test.effort[0] == MAX_DEVIATIONS).all()
    assert (test.effort[1] == 0).all()


def test_without_prices_there_is_no_curve_and_no_composition() -> None:
    matrix = outcomes(SPECIALISTS, n=96)
    ready = sides_of(matrix, np.eye(2)[np.arange(96) % 2], priced=False)
    points = all_points(ready, KNN)
    policies = [p.policy for p in points]
    assert policies.count("knn") == 1
    assert "composition" not in policies
    assert "cheapest" not in policies
    assert all(np.isnan(p.test_cost).all() for p in points)


def test_baselines_are_not_run_twice() -> None:
    ready = sides_of(outcomes(SPECIALISTS, n=48), np.ones((48, 2)), priced=False)
    points = all_points(ready, {name: ESTIMATORS[name] for name in ("best-single", "random")})
    assert [p.policy for p in points] == ["best-single", "best-per-task", "oracle", "random"]


def test_fewer_development_queries_than_folds_are_enough() -> None:
    matrix = outcomes({"good": (0.5, 0.5), "fair": (0.5, 0.5)}, n=16, seed=2)
    dev = [i for i, q in enumerate(matrix.queries) if q.split != "test"][:4]
    test = [i for i, q in enumerate(matrix.queries) if q.split == "test"]
    for forms in blind_and_test_forms(sides(matrix[np.array(dev + test)])):
        assert forms.shape == (4, 2)


def test_an_experiment_charges_every_call_and_decision_and_says_its_stages() -> None:
    told: list[str] = []
    matrix = outcomes({"good": (0.8, 0.8), "fair": (0.6, 0.6)}, n=96)
    config = Config(host_usd_per_s=100.0)  # dear enough to be seen beside a call
    with threadpool_limits(1):
        found = run_experiment(matrix, KNN, HashingEmbedder(16), config, tell=told.append)
    assert told[:2] == ["embedding 96 prompts", "knn"]
    assert told[-1].startswith("composition")
    assert 0 < found.decision_usd < 100
    for point in found.points:
        calls = (found.sides.test_matrix.cost_usd * point.test_asked).sum(axis=1)
        decides = point.policy in ("knn", "composition")
        np.testing.assert_allclose(point.test_cost, calls + decides * found.decision_usd)
        if point.policy == "composition":
            # Calls cost 0.001 and 0.002 dollars each.
            paid = (point.dev_cost - found.decision_usd).round(9)
            assert set(paid) <= {0.001, 0.002, 0.003}
            assert point.test_p is not None
            assert ((point.test_p >= 0) & (point.test_p <= 1)).all()
    ready = experiment_object(found)
    assert {p.policy for p in ready["field"].policies} >= {"knn", "composition"}
    assert (ready["n_models"], ready["n_dev"], ready["n_test"]) == (2, 72, 24)


def test_an_experiment_without_prices_has_no_figures_of_cost() -> None:
    matrix = outcomes({"good": (0.8, 0.8), "fair": (0.6, 0.6)}, n=48)
    unknown = replace(matrix, cost_usd=np.full_like(matrix.cost_usd, np.nan))
    found = run_experiment(unknown, KNN, HashingEmbedder(16), Config(), priced=False)
    assert not found.verdict.priced
    assert found.verdict.curve == ()
    assert "field" not in experiment_object(found)
