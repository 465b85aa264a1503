"""Baselines of the demonstration: what a pool gives without a router.

They take the outcome matrix, its models being experts that were asked once, greedily, and
``seconds``, (n_models,): wall time of asking each all questions, in batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix

Outcome = tuple[np.ndarray, np.ndarray, float]
"""correct (n,), cost_usd (n,), seconds for all."""


def one_expert(matrix: OutcomeMatrix, seconds: np.ndarray, expert: str) -> Outcome:
    """Everything goes to one expert."""
    j = matrix.models.index(expert)
    return matrix.score[:, j], matrix.cost_usd[:, j], float(seconds[j])


def at_random(matrix: OutcomeMatrix, seconds: np.ndarray) -> Outcome:
    """The expectation of asking a uniformly random expert: no luck of one draw in it."""
    return matrix.score.mean(1), matrix.cost_usd.mean(1), float(seconds.mean())


def oracle(matrix: OutcomeMatrix, seconds: np.ndarray) -> Outcome:
    """The cheapest expert that is right; the cheapest of all where none is. Nobody can do better
    with one call."""
    priced = np.where(matrix.score > 0, matrix.cost_usd, np.inf)
    priced[np.isinf(priced).all(axis=1)] = matrix.cost_usd[np.isinf(priced).all(axis=1)]
    chosen = priced.argmin(axis=1)
    rows = np.arange(len(chosen))
    taken_s = float((seconds[chosen] / len(chosen)).sum())
    return matrix.score[rows, chosen], matrix.cost_usd[rows, chosen], taken_s


def vote_all(matrix: OutcomeMatrix, seconds: np.ndarray) -> Outcome:
    """Everybody is asked, the most frequent answer wins; ties go to the first expert's."""
    correct = np.empty(len(matrix.pred))
    for i, answers in enumerate(matrix.pred):
        said = list(answers)
        winner = max(said, key=said.count)
        correct[i] = matrix.score[i, said.index(winner)]
    return correct, matrix.cost_usd.sum(1), float(seconds.sum())


def per_skill(
    matrix: OutcomeMatrix, seconds: np.ndarray, skills: Sequence[str], chosen: dict[str, str]
) -> Outcome:
    """The expert that ``chosen`` names for the question's skill: routing by a perfect label."""
    columns = np.array([matrix.models.index(chosen[s]) for s in skills])
    rows = np.arange(len(columns))
    taken_s = float((seconds[columns] / len(columns)).sum())
    return matrix.score[rows, columns], matrix.cost_usd[rows, columns], taken_s
