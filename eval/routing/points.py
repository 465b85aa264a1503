"""Routing judged on recorded outcomes: every router, its knob, and composition, beside baselines.

Everything is chosen on train and val (together: the development queries), by cross-fitting, and
reported on test, once. Points of a policy with a knob are its curve; two are picked on the
development queries: the most accurate one, and the cheapest that is not below the best single one.
Costs are the recorded ones, every call that a policy makes is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.outcomes.for_routers import for_routers
from eval.outcomes.matrix import OutcomeMatrix
from experts.errors import DataError
from routers.estimators import Estimator
from routers.outcomes import Features, Outcomes

N_FOLDS = 5
PRICE_FACTORS = (*np.geomspace(0.02, 0.8, 12), *np.geomspace(1, 100, 20))
"""Fallback prices V that a curve is drawn at, as multiples of what the best single model pays for
what it gets wrong: its mean cost over its error rate."""
_FREE_USD = 1e-6
"""Stands for that price where the best single model is free."""
TOLD = ("oracle", "best-per-task")
"""Baselines that are told what no router can know, who is right or the task: they set no frontier
and no largest cost."""
NOT_POLICIES = (*TOLD, "random")
"""With the one that nobody would choose."""
SPARE = 0.5
"""Standard errors of a paired difference within which two policies count as equally good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A policy at one setting of its knob: per-query scores and dollars, on both sides."""

    policy: str
    knob: float
    dev_score: np.ndarray
    dev_cost: np.ndarray
    test_score: np.ndarray
    test_cost: np.ndarray
    test_asked: np.ndarray
    """(n_test, n_arms) which arms were paid; bool, or a share where a policy is an expectation."""
    test_p: np.ndarray | None = None
    """(n_test,) what the policy believed of the answer that it gave; None where it says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """A pool's outcomes, ready for fitting and for judging."""

    matrix: OutcomeMatrix
    features: Features
    outcomes: Outcomes
    dev: np.ndarray
    test: np.ndarray
    fold: np.ndarray
    """(n_dev,) in [0, N_FOLDS)."""
    priced: bool = True
    """False: costs are unknown, and every policy is judged by accuracy alone."""

    @property
    def dev_matrix(self) -> OutcomeMatrix:
        return self.matrix[self.dev]

    @property
    def test_matrix(self) -> OutcomeMatrix:
        return self.matrix[self.test]


def sides_of(
    matrix: OutcomeMatrix, embeddings: np.ndarray, *, priced: bool = True, seed: int = 0
) -> Sides:
    """Split a complete pool; embeddings: (n_queries, n_dims) of the prompts.

    Raises DataError when a side is empty, an outcome is missing, or a cost is unknown (unless not
    ``priced``): a policy that pays an unknown price cannot be judged by what it costs.
    """
    if np.isnan(matrix.score).any():
        raise DataError(
            "Some outcomes are missing. Keep the queries that all models answered: "
            "OutcomeMatrix.complete()."
        )
    if not priced:
        matrix = replace(matrix, cost_usd=np.full_like(matrix.cost_usd, np.nan))
    elif np.isnan(matrix.cost_usd).any():
        unknown = [
            m for m, c in zip(matrix.models, matrix.cost_usd.T, strict=True) if np.isnan(c).any()
        ]
        raise DataError(
            f"Unknown costs of {', '.join(unknown)}. Fill them in (cost_usd in outcomes.csv), "
            "leave these models out of the pool, or judge by accuracy alone (--unpriced)."
        )
    split = np.array([q.split for q in matrix.queries])
    dev, test = np.flatnonzero(split != "test"), np.flatnonzero(split == "test")
    if not (len(dev) and len(test)):
        raise DataError("Both test and train/val queries are needed; one side is empty.")
    features, outcomes = for_routers(matrix, embeddings)
    fold = np.random.default_rng(seed).permutation(len(dev)) % N_FOLDS
    return Sides(
        matrix=matrix,
        features=features,
        outcomes=outcomes,
        dev=dev,
        test=test,
        fold=fold,
        priced=priced,
    )


def blind_and_test(make: Callable[[], Estimator], sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """P(right), (n_dev, n_arms) each predicted without its fold, and (n_test, n_arms)."""
    from threadpoolctl import threadpool_limits

    dev = sides.dev
    blind = np.zeros((len(dev), len(sides.matrix.models)))
    with threadpool_limits(1):  # on a busy machine spinning threads cost four times what they save
        for k in range(N_FOLDS):
            rest, here = dev[sides.fold != k], dev[sides.fold == k]
            fitted = make().fit(sides.features[rest], sides.outcomes[rest])
            blind[sides.fold == k] = fitted.predict(sides.features[here])
        everything = make().fit(sides.features[dev], sides.outcomes[dev])
        return blind, everything.predict(sides.features[sides.test])


def prices_usd(sides: Sides) -> list[float]:
    """The fallback prices of every curve."""
    dev = sides.dev_matrix
    best = int(dev.score.mean(axis=0).argmax())
    error = max(1e-3, 1 - float(dev.score[:, best].mean()))
    unit = float(dev.cost_usd[:, best].mean()) / error or _FREE_USD
    return [float(f) * unit for f in PRICE_FACTORS]


def routed(
    policy: str, blind: np.ndarray, test: np.ndarray, sides: Sides, *, decision_usd: float = 0.0
) -> list[Point]:
    """Argmax of P - cost / V at every V: expected cost is each model's mean on development."""
    dev_matrix, test_matrix = sides.dev_matrix, sides.test_matrix
    mean_cost = dev_matrix.cost_usd.mean(axis=0)
    points = []
    for price in [*(prices_usd(sides) if sides.priced else ()), np.inf]:
        fine = 0.0 if np.isinf(price) else mean_cost / price
        chosen = [(p - fine).argmax(axis=1) for p in (blind, test)]
        dev_rows, test_rows = np.arange(len(blind)), np.arange(len(test))
        points.append(
            Point(
                policy=policy,
                knob=price,
                dev_score=dev_matrix.score[dev_rows, chosen[0]],
                dev_cost=dev_matrix.cost_usd[dev_rows, chosen[0]] + decision_usd,
                test_score=test_matrix.score[test_rows, chosen[1]],
                test_cost=test_matrix.cost_usd[test_rows, chosen[1]] + decision_usd,
                test_asked=_only(chosen[1], test.shape[1]),
                test_p=test[test_rows, chosen[1]],
            )
        )
    return points


def baselines(sides: Sides) -> list[Point]:
    """Best single, cheapest, random, best per task (told it), oracle; chosen on development."""
    dev, test = sides.dev_matrix, sides.test_matrix
    best = int(dev.score.mean(axis=0).argmax())

    def told(name: str, pick: Callable[[OutcomeMatrix], np.ndarray]) -> Point:
        values = []
        for side in (dev, test):
            rows, chosen = np.arange(len(side)), pick(side)
            values += [side.score[rows, chosen], side.cost_usd[rows, chosen]]
        return Point(
            policy=name, knob=np.nan, dev_score=values[0], dev_cost=values[1],
            test_score=values[2], test_cost=values[3],
            test_asked=_only(pick(test), test.score.shape[1]),
        )  # fmt: skip

    by_task = {t: int(dev.score[dev.tasks == t].mean(axis=0).argmax()) for t in set(dev.tasks)}

    def oracle(side: OutcomeMatrix) -> np.ndarray:
        best_of_all: np.ndarray = side.score.argmax(axis=1)
        if not sides.priced:
            return best_of_all
        top = side.score.max(axis=1, keepdims=True)
        chosen: np.ndarray = np.where(side.score == top, side.cost_usd, np.inf).argmin(axis=1)
        return chosen

    points = [
        told("best-single", lambda side: np.full(len(side), best)),
        told("best-per-task", lambda side: np.array([by_task.get(t, best) for t in side.tasks])),
        told("oracle", oracle),
        Point(
            policy="random", knob=np.nan,
            dev_score=dev.score.mean(axis=1), dev_cost=dev.cost_usd.mean(axis=1),
            test_score=test.score.mean(axis=1), test_cost=test.cost_usd.mean(axis=1),
            test_asked=np.full(test.score.shape, 1 / test.score.shape[1]),
        ),
    ]  # fmt: skip
    if sides.priced:
        cheapest = int(dev.cost_usd.mean(axis=0).argmin())
        points.append(told("cheapest", lambda side: np.full(len(side), cheapest)))
    return points


def _only(chosen: np.ndarray, n_arms: int) -> np.ndarray:
    """(n, n_arms) bool: one arm a query."""
    asked: np.ndarray = np.arange(n_arms) == chosen[:, None]
    return asked


def by_policy(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points under their policies, both in the given order."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.policy, []).append(point)
    return found


def most_accurate(points: Sequence[Point]) -> Point:
    """By accuracy on development; the cheapest of those that are as good within ``SPARE`` standard
    errors: dollars count between equals, and the winner of many is lucky."""
    top = max(points, key=lambda p: float(p.dev_score.mean()))
    able = [p for p in points if ahead(p, top) >= -SPARE]
    return min(able, key=lambda p: float(np.nan_to_num(p.dev_cost).mean()))


def cheapest_as_good(points: Sequence[Point], single: Point) -> Point:
    """The cheapest on development that is not below the best single model there, with ``SPARE``
    standard errors of the paired difference in hand: the winner of many is lucky. The most accurate
    one where none is, or nothing is known of prices."""
    able = [p for p in points if p is single or ahead(p, single) >= SPARE]
    if not able or np.isnan(single.dev_cost).any():
        return most_accurate(points)
    return min(able, key=lambda p: float(p.dev_cost.mean()))


def ahead(point: Point, other: Point) -> float:
    """Mean paired difference on development, in standard errors."""
    gap = point.dev_score - other.dev_score
    error = float(gap.std()) / np.sqrt(len(gap))
    mean = float(gap.mean())
    return mean / error if error > 0 else np.sign(mean) * np.inf if mean else 0.0
