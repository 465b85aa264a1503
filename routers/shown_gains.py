"""What dearer plans were shown to gain: the luck of the winner taken out of replayed plans.

A dozen plans replayed on a few hundred questions differ by luck, and whoever takes the best of them
pays more for it. So plans are lined up by their price, and each is believed to be as right as the
best cheaper one plus what it was shown to gain over it, question by question: over all questions by
the non-negative garrote (Breiman 1995: a gain within its standard error is none), and per skill as
far as skills differ by more than luck (empirical Bayes, method of moments; Efron and Morris 1975).

Biased on purpose: gains of one to two standard errors are believed about half, losses in full, so a
plan that is as good as a cheaper one is believed to be a little worse. Dollars are certain.
"""

from __future__ import annotations

import numpy as np

_PRIOR_QUERIES = 4.0


def believed_success(right: np.ndarray, cost_usd: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n_plans, n_groups) P(right).

    right: (n_plans, n_queries) scores in [0, 1] on the same queries; cost_usd: (n_plans,) means;
    group: (n_queries,) in [0, n_groups), every group with at least one query.
    """
    n_groups = int(group.max()) + 1
    n = np.bincount(group, minlength=n_groups).astype(float)
    p, overall = np.zeros((len(right), n_groups)), np.zeros(len(right))
    done: list[int] = []
    for j in np.argsort(cost_usd, kind="stable"):
        if not done:
            overall[j] = right[j].mean()
            p[j] = (np.bincount(group, right[j]) + _PRIOR_QUERIES * overall[j]) / (
                n + _PRIOR_QUERIES
            )
        else:
            rival = max(done, key=lambda k: overall[k])
            gained = right[j] - right[rival]
            shown, by_group = _shown(gained, group, n)
            overall[j] = overall[rival] + shown
            p[j] = np.clip(p[rival] + by_group, 0.0, 1.0)
        done.append(int(j))
    return p


def _shown(gained: np.ndarray, group: np.ndarray, n: np.ndarray) -> tuple[float, np.ndarray]:
    """Gain over all queries, and per group (n_groups,)."""
    mean = float(gained.mean())
    means = np.bincount(group, gained) / n
    error = float(((gained - means[group]) ** 2).mean()) / n
    between = max(0.0, float(np.mean((means - mean) ** 2 - error))) if len(n) > 1 else 0.0
    shown = garrote(mean, float(gained.var()) / len(gained))
    weight = between / np.maximum(between + error, 1e-12)
    return shown, shown + weight * (means - mean)


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
