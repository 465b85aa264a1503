"""The routing experiment on matrices whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from eval.commands.routing import format_answers
from eval.json_ready import json_ready
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from eval.outcomes.pools import pool_of
from eval.report import fitted_beliefs, report_figures
from eval.report.words import title
from eval.routing.points import (
    Point,
    baselines,
    blind_and_test,
    cheapest_as_good,
    most_accurate,
    prices_usd,
    routed,
    sides_of,
)
from eval.routing.policies import all_points
from eval.routing.verdict import Paired, paired, verdict_object, verdict_of
from experts.errors import DataError
from routers.estimators import ESTIMATORS
from tests.eval.synthetic import (
    CROWD,
    SPECIALISTS,
    experiment,
    outcomes,
    points_of,
    sides,
    topic_embeddings,
    with_test,
)

TOLD = ("oracle", "best-per-task")


def by_hand() -> OutcomeMatrix:
    """Three models: dear (right on a), fair (right on b), and cheap, which is right once."""
    tasks = ["a", "a", "b", "b", "a", "a", "b", "b"]
    queries = tuple(
        MatrixQuery(query_id=str(i), task=t, prompt=f"{t} {i}", split="train" if i < 4 else "test")
        for i, t in enumerate(tasks)
    )
    score = np.array(
        [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]],
        float,
    )
    return OutcomeMatrix(
        queries=queries,
        models=("dear", "fair", "cheap"),
        score=score,
        pred=np.full(score.shape, "x", object),
        input_tokens=np.ones(score.shape),
        output_tokens=np.ones(score.shape),
        cost_usd=np.tile([4.0, 2.0, 1.0], (8, 1)),
    )


def named(points: list[Point]) -> dict[str, Point]:
    return {p.policy: p for p in points}


def test_baselines_by_hand() -> None:
    matrix = by_hand()
    points = named(baselines(sides_of(matrix, np.ones((8, 2)))))
    figures = {n: (p.test_score.mean(), p.test_cost.mean()) for n, p in points.items()}
    assert figures["best-single"] == (0.5, 4.0)  # dear: three of four on development
    assert figures["cheapest"] == (0.25, 1.0)
    assert figures["best-per-task"] == (0.75, 3.0)  # dear on a, fair on b
    assert figures["oracle"] == (0.75, (1 + 4 + 2 + 1) / 4)  # the cheapest where none is right
    assert figures["random"] == pytest.approx((1 / 3, 7 / 3))
    assert points["best-single"].test_asked.sum(axis=0).tolist() == [4, 0, 0]
    assert points["best-single"].dev_score.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("pool", ["specialists", "crowd"])
def test_nothing_beats_the_oracle(pool: str) -> None:
    _, points = experiment(pool)
    oracle = named(points)["oracle"]
    for point in points:
        assert (point.test_score <= oracle.test_score + 1e-12).all(), point.policy
        assert (point.dev_score <= oracle.dev_score + 1e-12).all(), point.policy


@pytest.mark.parametrize("pool", ["specialists", "crowd"])
def test_everything_asked_is_paid(pool: str) -> None:
    ready, points = experiment(pool)
    cost = ready.test_matrix.cost_usd
    for point in points:
        assert point.test_cost == pytest.approx((point.test_asked * cost).sum(axis=1))
        assert point.test_p is None or ((point.test_p >= 0) & (point.test_p <= 1)).all()


def test_routers_find_the_specialists() -> None:
    _, points = experiment("specialists")
    single = named(points)["best-single"]
    for name in ("knn", "ridge"):
        router = most_accurate([p for p in points if p.policy == name])
        assert router.test_score.mean() > single.test_score.mean() + 0.1


def test_composition_beats_the_best_single_where_errors_are_independent() -> None:
    _, points = experiment("crowd")
    composition = [p for p in points if p.policy.startswith("composition")]
    verdict = verdict_of(points)
    assert verdict.max_accuracy.policy.startswith("composition")
    assert verdict.max_paired.ci[0] > 0.05
    assert most_accurate(composition).test_asked.sum(axis=1).mean() > 2


def test_dearer_failures_buy_accuracy() -> None:
    _, points = experiment("specialists")
    knn = [p for p in points if p.policy == "knn"]
    assert [p.knob for p in knn] == sorted(p.knob for p in knn)
    assert knn[-1].knob == np.inf
    assert knn[-1].dev_score.mean() >= knn[0].dev_score.mean()
    assert knn[-1].dev_cost.mean() >= knn[0].dev_cost.mean()


def test_test_scores_change_no_choice() -> None:
    """Who is right on test may not be known to anyone but the oracle."""
    ready, points = experiment("specialists")
    n_test = len(ready.test)
    order = np.random.default_rng(3).permutation(n_test).tolist()
    other = points_of(sides(with_test(ready.matrix, order=order, fields=["score"])))
    assert len(other) == len(points)
    for before, after in zip(points, other, strict=True):
        assert (before.policy, before.dev_score.tolist()) == (
            after.policy,
            after.dev_score.tolist(),
        )
        assert before.knob == pytest.approx(after.knob, nan_ok=True)
        if before.policy != "oracle":
            np.testing.assert_array_equal(before.test_asked, after.test_asked)
            np.testing.assert_array_equal(before.test_cost, after.test_cost)
        if before.test_p is not None and after.test_p is not None:
            # Sums in single precision end in other digits on a busy machine.
            np.testing.assert_allclose(before.test_p, after.test_p, rtol=1e-6)


def test_test_outcomes_change_no_pick() -> None:
    """Answers, costs and scores of test: what was learned and picked stays what it was."""
    ready, points = experiment("specialists")
    order = np.random.default_rng(4).permutation(len(ready.test)).tolist()
    fields = ["score", "pred", "cost_usd", "output_tokens"]
    other = points_of(sides(with_test(ready.matrix, order=order, fields=fields)))
    for before, after in zip(points, other, strict=True):
        np.testing.assert_array_equal(before.dev_score, after.dev_score)
        np.testing.assert_array_equal(before.dev_cost, after.dev_cost)
    one, two = verdict_of(points), verdict_of(other)
    assert one.max_accuracy.policy == two.max_accuracy.policy
    assert one.equal_accuracy.policy == two.equal_accuracy.policy
    assert [f.policy for f in one.curve] == [f.policy for f in two.curve]


def test_predictions_on_development_are_blind() -> None:
    """A query's own outcome does not move what is predicted for it."""
    matrix = outcomes(SPECIALISTS, n=80)
    ready = sides(matrix)
    flipped = matrix.score.copy()
    row = int(ready.dev[0])
    flipped[row] = 1 - flipped[row]
    make = ESTIMATORS["ridge"]
    before, _ = blind_and_test(make, ready)
    after, _ = blind_and_test(make, sides(replace(matrix, score=flipped)))
    assert before[0] == pytest.approx(after[0])
    assert before[1:] != pytest.approx(after[1:])


def test_the_same_seed_gives_the_same_experiment() -> None:
    ready, points = experiment("crowd")
    again = points_of(ready)
    for a, b in zip(points, again, strict=True):
        np.testing.assert_array_equal(a.test_score, b.test_score)
        np.testing.assert_array_equal(a.test_cost, b.test_cost)


def test_the_prices_surround_what_the_best_single_model_pays_for_its_errors() -> None:
    ready, _ = experiment("crowd")
    dev = ready.dev_matrix
    best = int(dev.score.mean(axis=0).argmax())
    at = dev.cost_usd[:, best].mean() / (1 - dev.score[:, best].mean())
    prices = prices_usd(ready)
    assert prices[0] < at < prices[-1]
    assert any(p == pytest.approx(at) for p in prices)


def test_the_cheapest_as_good_is_not_the_luckiest() -> None:
    rng = np.random.default_rng(0)

    def point(policy: str, gain: float, cost: float) -> Point:
        score = np.clip(rng.normal(0.5 + gain, 0.1, 400), 0, 1)
        dollars = np.full(400, cost)
        return Point(
            policy=policy, knob=np.nan, dev_score=score, dev_cost=dollars, test_score=score,
            test_cost=dollars, test_asked=np.ones((400, 1), bool),
        )  # fmt: skip

    single, poor, good, dear = (
        point("single", 0, 4.0), point("poor", -0.1, 1.0), point("good", 0.1, 2.0),
        point("dear", 0.2, 9.0),
    )  # fmt: skip
    assert cheapest_as_good([single, poor, good, dear], single) is good
    assert cheapest_as_good([poor, dear], single) is dear
    assert cheapest_as_good([poor], single) is poor
    assert most_accurate([single, poor, good, dear]) is dear


def test_a_model_that_is_never_right_is_survived_and_costs_infinitely_much() -> None:
    _, points = experiment("specialists")  # "never" is its cheapest
    verdict = verdict_of(points)
    rows = {f.policy: f for f in verdict.rows}
    assert rows["cheapest"].accuracy == 0
    assert rows["cheapest"].cost_of_pass_usd == np.inf
    never = list(SPECIALISTS).index("never")
    knn = most_accurate([p for p in points if p.policy == "knn"])
    assert knn.test_asked[:, never].mean() == 0


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"random"}))
def test_every_router_survives_models_of_one_class(name: str) -> None:
    ready = sides(outcomes({"never": (0, 0), "always": (1, 1), "some": (0.5, 0.5)}, n=64))
    with threadpool_limits(1):
        blind, test = blind_and_test(ESTIMATORS[name], ready)
        points = routed(name, blind, test, ready)
    # cluster-ranks: a mean rank of 1 comes out as 1 + 2e-16
    assert ((blind >= 0) & (blind <= 1 + 1e-12)).all()
    assert np.isfinite(test).all()
    assert most_accurate(points).test_score.mean() == 1


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_outcomes_that_are_all_alike_leave_composition_out(score: float) -> None:
    """Nothing is learned from them, and all that needs no learning is still told."""
    matrix = outcomes(SPECIALISTS, n=64)
    alike = sides(replace(matrix, score=np.full_like(matrix.score, score)))
    notes: list[str] = []
    with threadpool_limits(1):
        points = all_points(alike, {"knn": ESTIMATORS["knn"]}, on_note=notes.append)
    [note] = notes
    assert note.startswith("Composition is left out. All recorded answers are right, or all are")
    assert {p.policy for p in points} >= {"knn", "best-single", "cheapest", "oracle"}
    verdict = verdict_of(points)
    assert report_figures(points, alike, verdict, fitted_beliefs(alike)).best_router == "knn"


def test_without_recorded_answers_routers_still_work() -> None:
    matrix = outcomes(SPECIALISTS, n=80)
    points = points_of(sides(replace(matrix, pred=np.full(matrix.pred.shape, None, object))))
    verdict = verdict_of(points)
    assert not verdict.max_accuracy.policy.startswith("composition")
    assert {p.policy for p in points} >= {"knn", "ridge", "best-single", "oracle"}


def test_some_missing_answers_are_no_answers() -> None:
    matrix = outcomes(CROWD, n=80)
    pred = matrix.pred.copy()
    pred[::3, 0] = None
    composition = [p for p in points_of(sides(replace(matrix, pred=pred)))
                   if p.policy.startswith("composition")]  # fmt: skip
    assert max(p.test_score.mean() for p in composition) > 0.6


def test_unknown_costs_are_refused_by_name() -> None:
    matrix = outcomes(SPECIALISTS, n=40)
    cost = matrix.cost_usd.copy()
    cost[3, 1] = cost[5, 4] = np.nan
    with pytest.raises(DataError, match=r"Unknown costs of gardener, poor\. Fill them in"):
        sides(replace(matrix, cost_usd=cost))


@pytest.mark.parametrize("kept", ["test", "train"])
def test_an_empty_side_is_refused(kept: str) -> None:
    matrix = outcomes(SPECIALISTS, n=40)
    only = matrix[np.array([q.split == kept for q in matrix.queries])]
    with pytest.raises(DataError, match="one side is empty"):
        sides(only)


def test_queries_that_not_every_model_answered_are_left_out() -> None:
    matrix = outcomes(SPECIALISTS, n=80)
    score = matrix.score.copy()
    score[[4, 9], [0, 2]] = np.nan
    pool = pool_of(replace(matrix, score=score), None)
    assert len(pool) == 78
    assert not {"q4", "q9"} & {q.query_id for q in pool.queries}
    assert len(points_of(sides(pool))) > 5


def test_the_verdict_has_the_shape_that_was_promised() -> None:
    ready, points = experiment("crowd")
    told: dict[str, Any] = verdict_object(verdict_of(points))
    assert {p["name"] for p in told["policies"]} == {p.policy for p in points}
    for row in [*told["policies"], *told["curve"], told["best_single"]]:
        assert row["n"] == len(ready.test)
        assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
        low, high = row["cost_of_pass_ci"]
        assert low <= row["cost_of_pass_usd"] <= high
        assert list(row["objective_usd"].values()) == sorted(row["objective_usd"].values())
    assert set(told["against"]) == {"composition"}  # the most accurate; no default router here
    assert set(told["against"]["composition"]) == {"knn", "best-per-task"}


@pytest.mark.parametrize("n_models", [1, 2, 3, 5])
def test_small_pools(n_models: int) -> None:
    rates = {f"m{i}": (0.7, 0.6) for i in range(n_models)}
    assert points_of(sides(outcomes(rates, n=80)))


def test_a_free_best_model() -> None:
    matrix = outcomes(SPECIALISTS, n=80)
    cost = matrix.cost_usd.copy()
    cost[:, int(sides(matrix).dev_matrix.score.mean(axis=0).argmax())] = 0
    ready = sides(replace(matrix, cost_usd=cost))
    points = points_of(ready)
    verdict = verdict_of(points)
    assert (verdict.equal_accuracy.policy, verdict.equal_paired.cost_ratio) == ("best-single", 1.0)
    assert verdict.max_accuracy.policy in ("knn", "ridge", "composition")
    assert np.isnan(verdict.max_paired.cost_ratio)
    [line] = [x for x in format_answers(verdict) if x.startswith("At any price")]
    assert " (the best single model is free). On test +" in line
    told = json_ready(verdict_object(verdict))
    assert told["max_accuracy"]["cost_ratio"] is None
    with threadpool_limits(1):
        figures = report_figures(points, ready, verdict, fitted_beliefs(ready))
    assert "is free" in title(figures)


def test_embeddings_decide_what_routers_can_know() -> None:
    """With nothing to tell queries apart, no router beats the best single model by much."""
    matrix = outcomes(SPECIALISTS)
    blank = sides_of(matrix, np.ones_like(topic_embeddings(matrix)))
    points = baselines(blank) + routed("knn", *blind_and_test(ESTIMATORS["knn"], blank), blank)
    knn = most_accurate([p for p in points if p.policy == "knn"])
    assert knn.test_score.mean() <= named(points)["best-single"].test_score.mean() + 0.15


def point_of(policy: str, dev_score: np.ndarray, test_score: np.ndarray, cost: float) -> Point:
    return Point(
        policy=policy, knob=np.nan, dev_score=dev_score, dev_cost=np.full(len(dev_score), cost),
        test_score=test_score, test_cost=np.full(len(test_score), cost),
        test_asked=np.ones((len(test_score), 1), bool),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [
        ((0.001, 0.02), "better"), ((-0.02, -0.001), "worse"), ((-0.004, 0.01), "as good"),
        ((-0.146, 0.114), "cannot tell"), ((0.0, 0.0), "as good"),
    ],
)  # fmt: skip
def test_the_interval_says_what_test_has_shown(ci: tuple[float, float], outcome: str) -> None:
    assert Paired(difference=0.0, ci=ci, p_value=0.5, cost_ratio=0.5).outcome == outcome


def test_what_fails_on_test_is_not_called_as_good() -> None:
    half, good = np.tile([0.0, 1.0], 100), np.tile([0.0, 1.0, 1.0, 1.0], 50)
    verdict = verdict_of([point_of("best-single", half, good, 4.0),
                          point_of("knn", good, half, 1.0)])  # fmt: skip
    first, second, *_ = format_answers(verdict)
    assert first.startswith(
        "As good as the best single model on train and val: knn at 25% of its cost. On test -25.0 "
    )
    assert first.endswith(": worse.")
    assert second.endswith(": worse.")
    assert verdict_object(verdict)["equal_accuracy"]["verdict"] == "worse"
    assert verdict.few_queries is None


def test_as_good_on_development_takes_half_a_standard_error_to_spare() -> None:
    """As many won as lost may be luck: not enough to be called as good, however cheap."""
    single = np.tile([1.0, 1.0, 1.0, 0.0], 100)
    even = single.copy()
    even[:4] = [0, 1, 1, 1]
    cheap, dear = point_of("cheap", even, single, 1.0), point_of("best-single", single, single, 4)
    assert cheapest_as_good([dear, cheap], dear) is dear


def test_the_cheapest_is_by_cost_on_development() -> None:
    """What test would charge is not known when one chooses."""
    score, better = np.tile([1.0, 0.0], 50), np.ones(100)
    single = point_of("best-single", score, score, 9.0)
    chosen = replace(point_of("a", better, score, 1.0), test_cost=np.full(100, 8.0))
    lucky = replace(point_of("b", better, score, 5.0), test_cost=np.full(100, 0.1))
    assert cheapest_as_good([single, lucky, chosen], single) is chosen


def test_a_decision_is_charged_on_both_sides() -> None:
    ready, _ = experiment("specialists")
    p = np.ones((len(ready.dev), 6)), np.ones((len(ready.test), 6))
    free, charged = (routed("r", *p, ready, decision_usd=usd) for usd in (0.0, 7.0))
    for before, after in zip(free, charged, strict=True):
        assert after.dev_cost == pytest.approx(before.dev_cost + 7)
        assert after.test_cost == pytest.approx(before.test_cost + 7)


def test_resamples_are_the_same_however_they_are_drawn() -> None:
    """Drawn in chunks, for memory; published intervals were drawn at once."""
    rng = np.random.default_rng(5)
    n = 700
    one, other = rng.integers(0, 2, (2, n)).astype(float)
    found = paired(point_of("a", one, one, 1.0), point_of("b", other, other, 1.0))
    rows = np.random.default_rng(0).integers(0, n, size=(5000, n))
    means = np.sort((one - other)[rows].mean(axis=1))
    assert found.ci == (means[125], means[4874])
    assert found.p_value == (means <= 0).mean()
