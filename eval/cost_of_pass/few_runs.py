"""Cost-of-pass from few runs: estimators, what they are biased by, and what to use instead.

v = E[cost] / P(right) is a ratio, and a ratio of two small samples misleads in three ways (each is
shown by ``conclave eval estimators``): dividing means is biased, dropping the problems that were
never solved is worse, and choosing the cheapest of many arms on the runs that one then reports pays
far more than it claims. Here are the plain estimators, for comparison with what others report, and
those that are unbiased for something that one can buy.

Arrays are (..., n_runs): ``cost_usd`` dollars and ``right`` 0 or 1 of each run of one arm on one
problem; leading axes are problems, arms, or both.
"""

from __future__ import annotations

import numpy as np


def plug_in(cost_usd: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean cost over success rate; infinite when nothing was right.

    What arXiv:2504.13359 computes. Its expectation is infinite, because nothing may be right.

    >>> float(plug_in(np.array([1.0, 1.0, 1.0, 1.0]), np.array([1, 0, 0, 1])))
    2.0
    """
    spent, n_right = cost_usd.sum(axis=-1), right.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n_right > 0, spent / n_right, np.inf)


def plug_in_where_solved(cost_usd: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``plug_in`` with NaN where nothing was right: the common way of ignoring k = 0.

    Hard problems look cheap: with 8 runs of a success rate of .05 its mean is 7.3 costs instead
    of 20. Here to show that, not to be used.
    """
    values = plug_in(cost_usd, right)
    return np.where(np.isfinite(values), values, np.nan)


def until_successes(cost_usd: np.ndarray, right: np.ndarray, r: int) -> np.ndarray:
    """Dollars per success when one arm is run until it was right ``r`` times: unbiased.

    Negative binomial sampling: the number of runs has mean r / P, so by Wald's identity the total
    paid, over r, has mean E[cost] / P. Runs after the r-th success are not looked at. NaN where
    the recorded runs end before it; leaving those out would bring the bias back, so record on.
    """
    if r < 1:
        raise ValueError(f"r must be at least 1, not {r}: the arm is run until its r-th success.")
    n_right = np.cumsum(right, axis=-1)
    before = np.concatenate([np.zeros_like(n_right[..., :1]), n_right[..., :-1]], axis=-1)
    total = np.where(before < r, cost_usd, 0.0).sum(axis=-1)
    return np.where(n_right[..., -1] >= r, total / r, np.nan)


def over_all_orders(cost_usd: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``until_successes`` averaged over all orders of the runs; the same for every r.

    A failure stands before the r-th of k successes with probability r / (k + 1), so the mean is
    what a right run costs plus all failures over k + 1. Finite also at k = 0, where a right run,
    of which nothing is known, is taken to cost what a failed one does. With cost 1 a run it is
    (n + 1) / (k + 1), whose mean is (1 - (1 - P)^(n + 1)) / P: short of 1 / P by exactly the share
    of problems that n + 1 tries do not solve.

    >>> float(over_all_orders(np.array([1.0, 1.0, 4.0]), np.array([0, 0, 1])))
    5.0
    """
    n_right = right.sum(axis=-1)
    failed = (cost_usd * (1 - right)).sum(axis=-1)
    of_right = (cost_usd * right).sum(axis=-1) / np.maximum(n_right, 1)
    of_right = np.where(n_right > 0, of_right, cost_usd.mean(axis=-1))
    result: np.ndarray = of_right + failed / (n_right + 1)
    return result


def jackknife_bias(cost_usd: np.ndarray, right: np.ndarray) -> float:
    """How much a pooled ratio of n questions overstates dollars per right answer, in dollars.

    cost_usd, right: (n,). First order in 1 / n (Quenouille 1956); infinite ratios have none (NaN).
    """
    n, spent, won = len(right), cost_usd.sum(), right.sum()
    without = won - right
    if n < 2 or (without <= 0).any():
        return float("nan")
    return float((n - 1) * (((spent - cost_usd) / without).mean() - spent / won))


def with_human(
    cost_usd: np.ndarray, right: np.ndarray, human_usd: float | np.ndarray, tries: int
) -> np.ndarray:
    """Dollars for one right answer when an arm is tried up to ``tries`` times, then a person asked.

    Mean over all orders of the recorded runs, which is unbiased for every ``tries`` up to n_runs
    (a U-statistic), solved problem or not. As ``tries`` grows it tends to E[cost] / P.

    A run of which f of the other n - 1 failed stands at place j behind failures only with
    probability C(f, j-1) / C(n-1, j-1) / n, and is then paid.
    """
    n = right.shape[-1]
    if not 1 <= tries <= n:
        raise ValueError(f"tries must lie in 1..{n}, the number of recorded runs; got {tries}.")
    wrong = 1 - np.asarray(right, int)
    failed = wrong.sum(axis=-1, keepdims=True)
    # By number of failures, of which there are few: the same for all problems.
    place = np.array([_choose_ratio(np.arange(n), n - 1, j) for j in range(tries)]).sum(axis=0) / n
    paid = (cost_usd * place[failed - wrong]).sum(axis=-1)
    result: np.ndarray = (
        paid + human_usd * _choose_ratio(np.arange(n + 1), n, tries)[failed[..., 0]]
    )
    return result


def chosen_and_paid(
    cost_usd: np.ndarray,
    right: np.ndarray,
    human_usd: float | np.ndarray,
    *,
    n_splits: int = 16,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Frontier of many arms without the winner's curse: chosen on one half, paid on the other.

    cost_usd, right: (n_problems, n_arms, n_runs). Returns what the chosen arm claimed on the half
    that chose it and what it really pays on the other, each (n_problems,), in dollars for one
    right answer, mean over ``n_splits`` random halvings. A person (``human_usd``, one price or
    (n_problems,)) is an arm, too, and steps in when all tries of a half have failed.
    """
    n = right.shape[-1]
    if n < 2:
        raise ValueError("Choosing on one half and paying on the other needs at least 2 runs.")
    half, rng = n // 2, np.random.default_rng(seed)
    human = np.broadcast_to(np.asarray(human_usd, float), (len(right),))
    claimed, paid = np.zeros(len(right)), np.zeros(len(right))
    rows = np.arange(len(right))
    for _ in range(n_splits):
        order = rng.permutation(n)
        choose, pay = order[:half], order[half : 2 * half]
        claims = with_human(cost_usd[..., choose], right[..., choose], human[:, None], half)
        prices = with_human(cost_usd[..., pay], right[..., pay], human[:, None], half)
        best = claims.argmin(axis=1)
        by_person = claims[rows, best] >= human
        claimed += np.where(by_person, human, claims[rows, best])
        paid += np.where(by_person, human, prices[rows, best])
    return claimed / n_splits, paid / n_splits


def chosen_by_group(
    cost_usd: np.ndarray,
    right: np.ndarray,
    group: np.ndarray,
    human_usd: np.ndarray,
    *,
    n_splits: int = 16,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The same honesty where every problem was run once: an arm is chosen for a group of problems.

    cost_usd, right: (n_problems, n_arms); group: (n_problems,) integers, a task each; human_usd:
    (n_problems,). The price of an arm is one try, and a person where it fails. On random halves of
    each group: what the arm chosen on one half claimed there, and what it is paid on the other,
    (n_problems,) each, mean over ``n_splits``. A group's half with no problem in it takes the
    choice over all groups. A person alone is an arm, too.
    """
    prices = np.column_stack([cost_usd + (1 - right) * human_usd[:, None], human_usd])
    n, n_groups = len(prices), int(group.max()) + 1
    rng, rows = np.random.default_rng(seed), np.arange(n)
    claimed, paid = np.zeros(n), np.zeros(n)
    for _ in range(n_splits):
        half = np.empty(n, int)
        half[np.lexsort((rng.random(n), group))] = rows % 2
        best = np.empty((2, n_groups), int)
        for h in (0, 1):
            here = half == h
            counts = np.bincount(group[here], minlength=n_groups)[:, None]
            sums = np.column_stack(
                [np.bincount(group[here], column[here], n_groups) for column in prices.T]
            )
            overall = prices[here if here.any() else slice(None)].mean(axis=0)
            best[h] = np.where(counts > 0, sums / np.maximum(counts, 1), overall).argmin(axis=1)
        claimed += prices[rows, best[half, group]]
        paid += prices[rows, best[1 - half, group]]
    return claimed / n_splits, paid / n_splits


def _choose_ratio(of: np.ndarray, n: int, j: int) -> np.ndarray:
    """C(of, j) / C(n, j), in [0, 1]: the chance that j draws out of n all fall among ``of``."""
    from scipy.special import gammaln

    of = np.asarray(of, float)
    possible = of >= j
    safe = np.where(possible, of, j)
    log = gammaln(safe + 1) - gammaln(safe - j + 1) - gammaln(n + 1.0) + gammaln(n - j + 1.0)
    return np.where(possible, np.exp(log), 0.0)
