"""Cost-of-pass: dollars for one correct answer.

Erol et al. 2025, arXiv:2504.13359: v = E[cost] / P(correct). Any policy counts as a model and is
charged for all it spends. Over many questions two quantities carry the name; this module has the
pooled one, sum of costs over sum of correct answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.statistics import Interval, bootstrap_interval, mean_interval

FAILURE_PRICES_USD = (0.001, 0.01, 0.1, 1.0)
"""Prices V of a failure that the objective, cost + (1 - score) V, is shown at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyFigures:
    """What a policy achieved on a set of questions, and what it cost."""

    name: str
    n: int
    accuracy: float
    accuracy_ci: Interval
    cost_usd: float
    """Total over the n questions."""
    cost_of_pass_usd: float
    """Infinite when nothing was right."""
    cost_of_pass_ci: Interval
    seconds: float
    """Total over the n questions, on the machine at hand."""

    @property
    def cost_usd_per_1k(self) -> float:
        """Mean for 1000 questions."""
        return 1000 * self.cost_usd / self.n


def policy_figures(
    name: str, correct: np.ndarray, cost_usd: np.ndarray, seconds: float, *, seed: int = 0
) -> PolicyFigures:
    """correct: (n,) scores in [0, 1]; cost_usd: (n,) everything spent on each question."""
    n = len(correct)
    return PolicyFigures(
        name=name,
        n=n,
        accuracy=float(correct.mean()),
        accuracy_ci=mean_interval(correct, seed=seed),
        cost_usd=float(cost_usd.sum()),
        cost_of_pass_usd=float(pooled(cost_usd, correct)),
        cost_of_pass_ci=bootstrap_interval(
            lambda rows: pooled(cost_usd[rows], correct[rows]), n, seed=seed
        ),
        seconds=seconds,
    )


def pooled(cost_usd: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Sum of costs over sum of correct answers, along the last axis; infinite where none is right.

    >>> float(pooled(np.array([1.0, 1.0, 2.0]), np.array([1, 0, 1])))
    2.0
    """
    spent, right = cost_usd.sum(axis=-1), correct.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(right > 0, spent / right, np.inf)


def cost_ratio(of_usd: np.ndarray | float, to_usd: np.ndarray | float) -> np.ndarray:
    """of / to; NaN where ``to`` is free: nothing is any share of nothing.

    >>> cost_ratio(np.array([1.0, 1.0]), np.array([4.0, 0.0])).tolist()
    [0.25, nan]
    """
    of, to = np.asarray(of_usd, float), np.asarray(to_usd, float)
    return np.where(to > 0, of / np.where(to > 0, to, 1.0), np.nan)
