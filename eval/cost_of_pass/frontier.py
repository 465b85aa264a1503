"""The cost-of-pass frontier: what the cheapest right answer costs, and who makes it cheap.

``values`` are cost-of-pass, (n_problems, n_arms) in dollars, infinite where an arm is never right;
``human_usd`` is what a person costs a problem, a scalar or (n_problems,). A frontier is a mean over
problems of the per-problem minimum; it is another quantity than the pooled ratio of
``eval.cost_of_pass.figures``. Definitions: Erol et al. 2025, arXiv:2504.13359. The minimum of noisy
values is optimistic: feed it values of enough runs, or use
``eval.cost_of_pass.few_runs.chosen_and_paid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

Human = float | np.ndarray


def frontier(values: np.ndarray, human_usd: Human) -> float:
    """Mean over problems of the cheapest way to a right answer, a person included.

    >>> frontier(np.array([[1.0, 3.0], [np.inf, 9.0]]), human_usd=5.0)
    3.0
    """
    best = values.min(axis=1, initial=np.inf)
    return float(np.minimum(best, human_usd).mean())


def essentialness(
    values: np.ndarray, families: Sequence[str], human_usd: Human
) -> dict[str, float]:
    """How much dearer the frontier is without each family of arms, as a share in [0, 1].

    families: (n_arms,). (V without - V) / V without.
    """
    everyone = frontier(values, human_usd)
    shares = {}
    for family in dict.fromkeys(families):
        others = np.array([f != family for f in families])
        without = frontier(values[:, others], human_usd)
        shares[family] = (without - everyone) / without if without > 0 else 0.0
    return shares


def technique_gain(plain: np.ndarray, with_technique: np.ndarray, human_usd: Human) -> float:
    """Share by which a technique (voting, refining) lowers the frontier of the plain arms."""
    before = frontier(plain, human_usd)
    after = frontier(np.concatenate([plain, with_technique], axis=1), human_usd)
    return (before - after) / before if before > 0 else 0.0


def release_gains(
    values: np.ndarray, released: Mapping[int, date], human_usd: Human
) -> list[tuple[date, float, float]]:
    """The frontier over time: (day, V / V of people alone, gain of that day's releases).

    ``released`` gives the day of each arm's column; gains are (V before - V) / V before.
    """
    alone = frontier(values[:, :0], human_usd)
    rows, before = [], alone
    for day in sorted(set(released.values())):
        columns = [j for j, d in released.items() if d <= day]
        now = frontier(values[:, columns], human_usd)
        rows.append((day, now / alone, (before - now) / before if before > 0 else 0.0))
        before = now
    return rows
