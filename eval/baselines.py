"""Baselines on an outcome matrix: what a pool gives without a router.

Rows are questions, columns experts. Each baseline is a pair of vectors, correct and cost_usd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeMatrix:
    """What every expert made of every question, asked once, greedily."""

    experts: tuple[str, ...]
    answers: np.ndarray
    """(n_questions, n_experts) extracted answers, objects."""
    correct: np.ndarray
    """(n_questions, n_experts) in [0, 1]."""
    cost_usd: np.ndarray
    """(n_questions, n_experts)."""
    seconds: np.ndarray
    """(n_experts,) wall time of asking each expert all questions, in batches."""


Outcome = tuple[np.ndarray, np.ndarray, float]
"""correct (n,), cost_usd (n,), seconds for all."""


def one_expert(matrix: OutcomeMatrix, expert: str) -> Outcome:
    """Everything goes to one expert."""
    j = matrix.experts.index(expert)
    return matrix.correct[:, j], matrix.cost_usd[:, j], float(matrix.seconds[j])


def at_random(matrix: OutcomeMatrix) -> Outcome:
    """The expectation of asking a uniformly random expert: no luck of one draw in it."""
    return matrix.correct.mean(1), matrix.cost_usd.mean(1), float(matrix.seconds.mean())


def oracle(matrix: OutcomeMatrix) -> Outcome:
    """The cheapest expert that is right; the cheapest of all where none is. Nobody can do better
    with one call."""
    priced = np.where(matrix.correct > 0, matrix.cost_usd, np.inf)
    priced[np.isinf(priced).all(axis=1)] = matrix.cost_usd[np.isinf(priced).all(axis=1)]
    chosen = priced.argmin(axis=1)
    rows = np.arange(len(chosen))
    seconds = float((matrix.seconds[chosen] / len(chosen)).sum())
    return matrix.correct[rows, chosen], matrix.cost_usd[rows, chosen], seconds


def vote_all(matrix: OutcomeMatrix) -> Outcome:
    """Everybody is asked, the most frequent answer wins; ties go to the first expert's."""
    correct = np.empty(len(matrix.answers))
    for i, answers in enumerate(matrix.answers):
        said = list(answers)
        winner = max(said, key=said.count)
        correct[i] = matrix.correct[i, said.index(winner)]
    return correct, matrix.cost_usd.sum(1), float(matrix.seconds.sum())


def per_skill(matrix: OutcomeMatrix, skills: Sequence[str], chosen: dict[str, str]) -> Outcome:
    """The expert that ``chosen`` names for the question's skill: routing by a perfect label."""
    columns = np.array([matrix.experts.index(chosen[s]) for s in skills])
    rows = np.arange(len(columns))
    seconds = float((matrix.seconds[columns] / len(columns)).sum())
    return matrix.correct[rows, columns], matrix.cost_usd[rows, columns], seconds
