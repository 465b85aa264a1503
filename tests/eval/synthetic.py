"""Outcome matrices with a known truth: two topics, experts for each, and answers to vote on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np
from threadpoolctl import threadpool_limits

from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from eval.routing.points import Point, Sides, sides_of
from eval.routing.policies import all_points
from routers.estimators import ESTIMATORS

for library in ("scipy.optimize", "sklearn.ensemble"):
    import_module(library)  # one that is not loaded cannot be kept to one thread

TOPICS = ("algebra", "botany")
WORDS = {"algebra": "Solve the equation for x, case", "botany": "Which plant has leaves like"}
N_OPTIONS = 10
Rates = Mapping[str, tuple[float, float]]
"""P(right) of each model on the two topics."""
SPECIALISTS: Rates = {
    "solver": (0.95, 0.3),
    "gardener": (0.3, 0.95),
    "both": (0.7, 0.7),
    "middling": (0.5, 0.5),
    "poor": (0.3, 0.3),
    "never": (0.0, 0.0),
}
CROWD: Rates = dict.fromkeys(("ada", "bob", "cyd", "dan", "eve", "fay", "gus"), (0.65, 0.65))
"""Equally good, with independent errors: nobody can be routed to, everybody can be voted with."""


def outcomes(rates: Rates, *, n: int = 240, seed: int = 0) -> OutcomeMatrix:
    """``n`` queries, half of them of each topic, a quarter of them for the test.

    A wrong answer is any of nine. The models cost 1, 2, 3, ... thousandths of a dollar a query, in
    reverse order: the last is the cheapest.
    """
    rng = np.random.default_rng(seed)
    topic = np.arange(n) % 2
    truth = rng.integers(0, N_OPTIONS, n)
    p = np.array(list(rates.values()))[:, topic].T
    right = rng.random(p.shape) < p
    slip = rng.integers(1, N_OPTIONS, p.shape)
    said = np.where(right, truth[:, None], (truth[:, None] + slip) % N_OPTIONS)
    cost = np.tile(np.arange(len(rates), 0, -1) / 1000, (n, 1))
    tokens = np.full(p.shape, 10.0)
    queries = tuple(
        MatrixQuery(
            query_id=f"q{i}",
            task=TOPICS[topic[i]],
            prompt=f"{WORDS[TOPICS[topic[i]]]} {i}?",
            answer=str(truth[i]),
            split="test" if i % 8 >= 6 else "val" if i % 8 == 5 else "train",
        )
        for i in range(n)
    )
    return OutcomeMatrix(
        queries=queries,
        models=tuple(rates),
        score=right.astype(float),
        pred=said.astype(str).astype(object),
        input_tokens=tokens,
        output_tokens=tokens,
        cost_usd=cost,
    )


def topic_embeddings(matrix: OutcomeMatrix) -> np.ndarray:
    """(n, 4) unit vectors that tell the topic, and a little else."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(scale=0.2, size=(len(matrix), 4))
    vectors[:, :2] += np.array([[t == topic for topic in TOPICS] for t in matrix.tasks])
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def sides(matrix: OutcomeMatrix) -> Sides:
    return sides_of(matrix, topic_embeddings(matrix))


def points_of(sides: Sides, routers: Sequence[str] = ("knn", "ridge")) -> list[Point]:
    """The experiment with a few routers, on one thread: the arrays are tiny."""
    with threadpool_limits(1):
        return all_points(sides, {name: ESTIMATORS[name] for name in routers})


@cache
def experiment(pool: str) -> tuple[Sides, list[Point]]:
    """``specialists`` or ``crowd``, run once for all tests that look at it."""
    ready = sides(outcomes({"specialists": SPECIALISTS, "crowd": CROWD}[pool]))
    return ready, points_of(ready)


def with_test(
    matrix: OutcomeMatrix, *, order: Sequence[int], fields: Sequence[str]
) -> OutcomeMatrix:
    """The test queries' outcomes dealt out anew: the n-th test query gets those of ``order[n]``."""
    test = np.flatnonzero([q.split == "test" for q in matrix.queries])
    changed = {}
    for name in fields:
        changed[name] = getattr(matrix, name).copy()
        changed[name][test] = changed[name][test[np.asarray(order)]]
    return replace(matrix, **changed)
