"""RouterArena's figures: its score, its optimality, its robustness.

From the project's own scorer (RouteWorks/RouterArena, ``router_evaluation`` and
``global_utils/robustness.py``), with the bounds it uses for its leaderboard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

C_MIN, C_MAX = 0.0044, 200.0
"""Dollars per 1000 questions that count as free and as ruinous."""
BETA = 0.1


def arena_score(accuracy: float, cost_usd_per_1k: float, *, beta: float = BETA) -> float:
    """Weighted harmonic mean of accuracy and log-cost, in [0, 1].

    S = (1 + b) A C / (b A + C), C = (log2 Cmax - log2 c) / (log2 Cmax - log2 Cmin).

    >>> round(arena_score(0.6901, 0.0475), 4)
    0.6973
    """
    c = min(max(cost_usd_per_1k, C_MIN), C_MAX)
    cheapness = float(np.log2(C_MAX / c) / np.log2(C_MAX / C_MIN))
    below = beta * accuracy + cheapness
    return (1 + beta) * accuracy * cheapness / below if below > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimality:
    """How close choices come to the cheapest right model of the pool."""

    selection: float
    """Share of solvable questions that went to the cheapest model that is right."""
    accuracy: float
    """Points won over points that the pool could have won."""
    cost: float
    """Cheapest right dollars over dollars paid, on the questions that were won; NaN if none."""


def optimality(chosen: np.ndarray, scores: np.ndarray, cost_usd: np.ndarray) -> Optimality:
    """chosen: (n,) columns; scores, cost_usd: (n, n_models). A score above 0 counts as right."""
    rows = np.arange(len(chosen))
    return optimality_of(
        scores[rows, chosen],
        cost_usd[rows, chosen],
        np.arange(scores.shape[1]) == chosen[:, None],
        scores,
        cost_usd,
    )


def optimality_of(
    score: np.ndarray,
    paid_usd: np.ndarray,
    asked: np.ndarray,
    scores: np.ndarray,
    cost_usd: np.ndarray,
) -> Optimality:
    """The same for any policy, with all that it paid; score, paid_usd: (n,), asked: (n, n_models).

    A policy of several calls can win where no model of the pool does; its points still count. The
    selection is optimal where one model was asked, and that was a cheapest right one: what the
    decision itself cost is no matter of selection, and is in ``cost``.
    """
    right = scores > 0
    solvable = right.any(axis=1)
    cheapest = np.where(right, cost_usd, np.inf).min(axis=1)
    won, best = score > 0, scores.max(axis=1)
    priced = won & solvable
    ideal = right & (cost_usd <= cheapest[:, None])
    selected = (asked.astype(bool).sum(axis=1) == 1) & (asked.astype(bool) & ideal).any(axis=1)
    return Optimality(
        selection=float(selected[solvable].mean()) if solvable.any() else 0.0,
        accuracy=float(score.sum() / best.sum()) if best.sum() > 0 else 0.0,
        cost=(
            float(cheapest[priced].sum() / paid_usd[priced].sum())
            if paid_usd[priced].sum() > 0
            else float("nan")
        ),
    )


def robustness(original: np.ndarray, perturbed: np.ndarray) -> float:
    """Share of questions whose choice survives a rewording; choices are (n,), in one order."""
    return float((original == perturbed).mean())
