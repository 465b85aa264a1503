"""What dearer plans were shown to gain: the luck of the winner taken out of replayed plans.

A dozen plans replayed on a few hundred questions differ by luck, and whoever takes the best of them
pays more for it. So plans are lined up by their price, and each is believed to be as right as the
best cheaper one plus what it was shown to gain over it, question by question: over all questions by
the non-negative garrote (Breiman 1995: a gain within its standard error is none), and by how sure
the router was and per skill as far as these differ by more than luck (empirical Bayes, method of
moments; Efron and Morris 1975). The two add up: a skill is told by what its level does not explain.

Biased on purpose: gains of one to two standard errors are believed about half, losses in full, so a
plan that is as good as a cheaper one is believed to be a little worse. Dollars are certain.
"""

from __future__ import annotations

import numpy as np

_PRIOR_QUERIES = 4.0


def believed_success(
    right: np.ndarray, cost_usd: np.ndarray, group: np.ndarray, level: np.ndarray, n_levels: int
) -> np.ndarray:
    """(n_plans, n_groups, n_levels) P(right).

    right: (n_plans, n_queries) scores in [0, 1] on the same queries; cost_usd: (n_plans,) means;
    group: (n_queries,) in [0, n_groups), every group with at least one query; level: (n_queries,)
    in [0, n_levels), how sure the router was.
    """
    n_groups = int(group.max()) + 1
    p, overall = np.zeros((len(right), n_groups, n_levels)), np.zeros(len(right))
    done: list[int] = []
    for j in np.argsort(cost_usd, kind="stable"):
        if not done:
            overall[j] = right[j].mean()
            of_level = _beyond_the_mean(right[j], level, n_levels)
            left = right[j] - overall[j] - of_level[level]
            n = np.bincount(group, minlength=n_groups)
            of_group = np.bincount(group, left, minlength=n_groups) / (n + _PRIOR_QUERIES)
            p[j] = overall[j] + of_group[:, None] + of_level
        else:
            rival = max(done, key=lambda k: overall[k])
            gained = right[j] - right[rival]
            shown = garrote(float(gained.mean()), float(gained.var()) / len(gained))
            overall[j] = overall[rival] + shown
            of_level = _beyond_the_mean(gained, level, n_levels)
            of_group = _beyond_the_mean(gained - of_level[level], group, n_groups)
            p[j] = p[rival] + shown + of_group[:, None] + of_level
        p[j] = np.clip(p[j], 0.0, 1.0)
        done.append(int(j))
    return p


def _beyond_the_mean(gained: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """(n_groups,) gains beyond the mean, as far as groups differ by more than luck; 0 for one
    without queries."""
    n = np.bincount(group, minlength=n_groups).astype(float)
    seen = n > 0
    if seen.sum() < 2:
        return np.zeros(n_groups)
    n = np.maximum(n, 1.0)
    mean = float(gained.mean())
    means = np.bincount(group, gained, minlength=n_groups) / n
    error = float(((gained - means[group]) ** 2).mean()) / n
    between = max(0.0, float(np.mean(((means - mean) ** 2 - error)[seen])))
    weight = between / np.maximum(between + error, 1e-12)
    result: np.ndarray = np.where(seen, weight * (means - mean), 0.0)
    return result


def garrote(gain: float, error_variance: float) -> float:
    """A gain as far as it is shown; a loss is believed: the dearer plan has the burden of proof.

    >>> garrote(0.02, 0.01**2)
    0.015
    >>> garrote(0.02, 0.03**2)
    0.0
    """
    if gain <= 0:
        return gain
    return gain * max(0.0, 1 - error_variance / gain**2)
