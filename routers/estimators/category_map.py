"""Which experts to keep, and who serves which category, under a budget: solved exactly.

Composition of Experts (arXiv:2412.01868) chooses a subset of experts under a cumulative budget of
parameters (or dollars, or bytes) and a map from category to expert. With S the mean score per
category and expert and w the categories' traffic this is facility location: a small integer
programme, solved exactly by HiGHS; for large pools the greedy of a monotone submodular function,
within 1 - 1/e of the best for equal sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from experts.errors import DataError
from routers.estimators.base import PRIOR_QUERIES, arm_rates, require_fitted
from routers.outcomes import Features, Outcomes
from skills.annotate import NeighbourAnnotator

_EXACT_UP_TO = 200
"""Arms times categories beyond ten times this go to the greedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryMapping:
    """Who is kept and who serves what."""

    chosen: np.ndarray
    """(n_categories,) column of the arm that serves each category."""
    kept: np.ndarray
    """(n_arms,) bool."""
    value: float
    """Expected score, traffic-weighted."""
    exact: bool


def solve_category_map(
    scores: np.ndarray, traffic: np.ndarray, sizes: np.ndarray, budget: float
) -> CategoryMapping:
    """scores: (n_categories, n_arms) expected score; traffic: (n_categories,) summing to 1;
    sizes: (n_arms,) parameters, dollars or bytes of keeping an arm; budget in the same unit.

    Raises DataError when not even the smallest arm fits.
    """
    if sizes.min() > budget:
        raise DataError(
            f"No arm fits the budget of {budget:g}: the smallest needs {sizes.min():g}."
        )
    n_categories, n_arms = scores.shape
    exact = n_categories * n_arms <= 10 * _EXACT_UP_TO
    kept = (_exact if exact else greedy_subset)(scores, traffic, sizes, budget)
    allowed = np.where(kept, scores, -np.inf)
    chosen = allowed.argmax(axis=1)
    return CategoryMapping(
        chosen=chosen,
        kept=np.isin(np.arange(n_arms), chosen),
        value=float(traffic @ allowed.max(axis=1)),
        exact=exact,
    )


def _exact(scores: np.ndarray, traffic: np.ndarray, sizes: np.ndarray, budget: float) -> np.ndarray:
    """(n_arms,) bool: max sum w S z, sum_m z_cm = 1, z_cm <= u_m, sum sizes u <= budget."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_matrix

    c, m = scores.shape
    n = c * m + m  # z by category, then u
    gain = np.concatenate([(traffic[:, None] * scores).ravel(), np.zeros(m)])
    z = np.arange(c * m)
    one_each = coo_matrix((np.ones(c * m), (z // m, z)), shape=(c, n))
    rows = np.concatenate([z, z])
    columns = np.concatenate([z, c * m + z % m])
    signs = np.concatenate([np.ones(c * m), -np.ones(c * m)])
    only_kept = coo_matrix((signs, (rows, columns)), shape=(c * m, n))
    within = coo_matrix((sizes, (np.zeros(m, int), c * m + np.arange(m))), shape=(1, n))
    result = milp(
        -gain,
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(only_kept, -np.inf, 0),
            LinearConstraint(within, -np.inf, budget),
        ],
        integrality=np.concatenate([np.zeros(c * m), np.ones(m)]),  # z follows from u
        bounds=Bounds(0, 1),
    )
    kept: np.ndarray = result.x[c * m :] > 0.5
    return kept


def greedy_subset(
    scores: np.ndarray, traffic: np.ndarray, sizes: np.ndarray, budget: float
) -> np.ndarray:
    """(n_arms,) bool: add the arm with the best gain per size while it fits; or the best single
    one, if that is better: this makes it a constant-factor guarantee for unequal sizes."""
    n_arms = scores.shape[1]
    kept = np.zeros(n_arms, bool)
    best = np.zeros(len(scores))
    while True:
        fits = ~kept & (sizes[kept].sum() + sizes <= budget)
        gains = traffic @ np.maximum(scores - best[:, None], 0)
        rates = np.where(fits, gains / np.maximum(sizes, 1e-12), -1.0)
        if rates.max() <= 0:
            break
        kept[rates.argmax()] = True
        best = scores[:, kept].max(axis=1)
    alone = np.where(sizes <= budget, traffic @ scores, -np.inf)
    if alone.max() > traffic @ best:
        kept = np.arange(n_arms) == alone.argmax()
    return kept


class CategoryMap:
    """Routes each question to the arm that serves its category, and keeps to a budget.

    ``sizes``: (n_arms,) in the unit of ``budget``; without them the budget is unbounded and this is
    best-per-category.
    """

    def __init__(
        self,
        sizes: np.ndarray | None = None,
        budget: float = np.inf,
        *,
        k: int = 15,
        sharpness: float = 20.0,
    ) -> None:
        self.sizes, self.budget = sizes, budget
        self.k, self.sharpness = k, sharpness

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        prior = arm_rates(outcomes.scores)
        categories = tuple(dict.fromkeys(outcomes.skills))
        self.annotator_ = NeighbourAnnotator(k=self.k, sharpness=self.sharpness).fit(
            features.embeddings, outcomes.skills, categories
        )
        index = {c: i for i, c in enumerate(categories)}
        members = np.eye(len(categories))[[index[s] for s in outcomes.skills]]
        known = (~np.isnan(outcomes.scores)).astype(float)
        wins, counts = members.T @ np.nan_to_num(outcomes.scores), members.T @ known
        rates = (wins + PRIOR_QUERIES * prior) / (counts + PRIOR_QUERIES)
        sizes = np.zeros(len(prior)) if self.sizes is None else np.asarray(self.sizes, float)
        self.mapping_ = solve_category_map(rates, members.mean(axis=0), sizes, self.budget)
        self.rates_ = np.where(self.mapping_.kept, rates, 0.0)
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "rates_")
        label = self.annotator_.annotate(features.embeddings).p_skill.argmax(axis=1)
        result: np.ndarray = self.rates_[label]
        return result
