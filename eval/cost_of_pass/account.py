"""A cost-of-pass account: what a right answer costs with every arm, and what keeps that honest.

The quantities of Erol et al. 2025 (arXiv:2504.13359) with intervals, next to the figures without
which they mislead: accuracy, cost at equal accuracy, accuracy at equal cost, and the price of
failure. The bare ratio crowns the weakest model, because giving up on a hard question is free.

Two quantities are called cost-of-pass, and both are here under names of their own: the *pooled*
ratio, sum of costs over sum of right answers, and the *mean over problems* of E[cost] / P(right),
which is infinite as soon as one problem is never solved and therefore has a person in it.
What the frontier adds is in ``eval.cost_of_pass.pool_frontier``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.cost_of_pass.few_runs import (
    jackknife_bias,
    over_all_orders,
    plug_in,
    plug_in_where_solved,
    with_human,
)
from eval.cost_of_pass.figures import FAILURE_PRICES_USD, pooled
from eval.metrics.curves import accuracy_at, cost_at, hull, pareto
from eval.outcomes.runs import Arm
from eval.statistics import Interval, Resamples, percentile_interval
from experts.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class PerProblem:
    """Dollars for one right answer, problem by problem, from few runs; means over problems."""

    n_runs: int
    unsolved_share: float
    """Problems that no run solved."""
    mean_ratio_usd: float
    """Mean of C / R: infinite when a problem is unsolved."""
    mean_where_solved_usd: float
    """The same with unsolved problems left out, as is often reported: too low, for comparison."""
    over_all_orders_usd: float
    """Run until right, all orders of the runs, at most one run more than there are."""
    with_human_usd: float
    """min(C / R, a person): V of arXiv:2504.13359 for this arm alone. NaN without a price."""
    with_human_ci: Interval
    tries_then_human_usd: float
    """All runs as tries until one is right, then a person: unbiased. NaN without a price."""
    tries_then_human_ci: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """An arm beside the reference arm, on the same problems."""

    reference: str
    accuracy_difference: float
    accuracy_difference_ci: Interval
    p_not_better: float
    """Share of resamples in which it is not more accurate."""
    cost_ratio: float
    cost_ratio_ci: Interval
    pooled_ratio: float
    """Of the two pooled cost-of-pass."""
    pooled_ratio_ci: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmAccount:
    """One arm's account."""

    name: str
    n_problems: int
    accuracy: float
    accuracy_ci: Interval
    cost_usd_per_1k: float
    cost_usd_per_1k_ci: Interval
    pooled_usd: float
    """Sum of costs over sum of right answers; infinite when nothing was right."""
    pooled_ci: Interval
    pooled_bias_usd: float
    """Jackknife estimate of how much the ratio of these few problems overstates it."""
    per_problem: PerProblem
    objective_usd: Mapping[float, float]
    """Mean cost + (1 - score) V, at several prices V of a failure."""
    cost_at_equal_accuracy_usd_per_1k: float
    """The cheapest mix of the other arms that is as accurate; infinite when none is."""
    accuracy_at_equal_cost: float
    """The most accurate mix of the other arms that costs no more; NaN when none is as cheap."""
    on_frontier: bool
    """No other arm is at least as accurate for no more."""
    on_hull: bool
    """No mix of other arms is: a coin cannot replace it."""
    against: Against


def accounts_of(
    arms: Sequence[Arm],
    *,
    human_usd: np.ndarray | None,
    reference: str | None = None,
    failure_prices_usd: Sequence[float] = FAILURE_PRICES_USD,
    seed: int = 0,
) -> list[ArmAccount]:
    """human_usd: (n_problems,) what a person costs; reference: the most accurate arm when None."""
    named = {arm.name: arm for arm in arms}
    if reference is not None and reference not in named:
        raise DataError(
            f"No arm {reference!r} to compare with.{did_you_mean(reference, named)} "
            f"Known: {', '.join(named)}."
        )
    score = np.column_stack([arm.score.mean(axis=1) for arm in arms])
    cost = np.column_stack([arm.cost_usd.mean(axis=1) for arm in arms])
    base = (
        list(named).index(reference)
        if reference is not None
        else int(np.lexsort((cost.mean(axis=0), -score.mean(axis=0)))[0])
    )
    draws = Resamples(len(score), seed=seed)
    drawn_score, drawn_cost = draws.means(score), draws.means(cost)
    drawn_ratio = pooled(drawn_cost[..., None], drawn_score[..., None])
    x, y = cost.mean(axis=0) * 1000, score.mean(axis=0)
    frontier, corners = set(pareto(x, y)), set(hull(x, y))
    rows = []
    for j, arm in enumerate(arms):
        others = np.arange(len(arms)) != j
        rows.append(
            ArmAccount(
                name=arm.name,
                n_problems=len(score),
                accuracy=float(y[j]),
                accuracy_ci=percentile_interval(drawn_score[:, j]),
                cost_usd_per_1k=float(x[j]),
                cost_usd_per_1k_ci=percentile_interval(drawn_cost[:, j] * 1000),
                pooled_usd=float(pooled(cost[:, j], score[:, j])),
                pooled_ci=percentile_interval(drawn_ratio[:, j]),
                pooled_bias_usd=jackknife_bias(cost[:, j], score[:, j]),
                per_problem=_per_problem(arm, human_usd, draws),
                objective_usd={
                    v: float((cost[:, j] + (1 - score[:, j]) * v).mean())
                    for v in failure_prices_usd
                },
                cost_at_equal_accuracy_usd_per_1k=(
                    float(cost_at(x[others], y[others], y[j])) if others.any() else np.inf
                ),
                accuracy_at_equal_cost=(
                    float(accuracy_at(x[others], y[others], x[j])) if others.any() else np.nan
                ),
                on_frontier=j in frontier,
                on_hull=j in corners,
                against=_against(
                    arms[base].name, j, base, drawn_score, drawn_cost, drawn_ratio, x, y
                ),
            )
        )
    return rows


def _per_problem(arm: Arm, human_usd: np.ndarray | None, draws: Resamples) -> PerProblem:
    ratio = plug_in(arm.cost_usd, arm.right)
    solved = plug_in_where_solved(arm.cost_usd, arm.right)
    if human_usd is None:
        with_person = tries = np.full(len(ratio), np.nan)
        intervals = [(float("nan"), float("nan"))] * 2
    else:
        with_person = np.minimum(ratio, human_usd)
        tries = with_human(arm.cost_usd, arm.right, human_usd, arm.n_runs)
        intervals = [percentile_interval(draws.means(v)) for v in (with_person, tries)]
    return PerProblem(
        n_runs=arm.n_runs,
        unsolved_share=float(np.isinf(ratio).mean()),
        mean_ratio_usd=float(ratio.mean()),
        mean_where_solved_usd=float(np.nanmean(solved)) if (~np.isnan(solved)).any() else np.inf,
        over_all_orders_usd=float(over_all_orders(arm.cost_usd, arm.right).mean()),
        with_human_usd=float(with_person.mean()),
        with_human_ci=intervals[0],
        tries_then_human_usd=float(tries.mean()),
        tries_then_human_ci=intervals[1],
    )


def _against(
    reference: str,
    j: int,
    base: int,
    score: np.ndarray,
    cost: np.ndarray,
    ratio: np.ndarray,
    cost_per_1k: np.ndarray,
    accuracy: np.ndarray,
) -> Against:
    """score, cost, ratio: (n_resamples, n_arms) resampled; the last two: (n_arms,) means."""
    gap = score[:, j] - score[:, base]
    return Against(
        reference=reference,
        accuracy_difference=float(accuracy[j] - accuracy[base]),
        accuracy_difference_ci=percentile_interval(gap),
        p_not_better=float((gap <= 0).mean()),
        cost_ratio=_ratio(cost_per_1k[j], cost_per_1k[base]),
        cost_ratio_ci=percentile_interval(_ratios(cost[:, j], cost[:, base])),
        pooled_ratio=_ratio(cost_per_1k[j] * accuracy[base], cost_per_1k[base] * accuracy[j]),
        pooled_ratio_ci=percentile_interval(_ratios(ratio[:, j], ratio[:, base])),
    )


def _ratio(of: float, to: float) -> float:
    return float(of / to) if to > 0 else float("inf")


def _ratios(of: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Infinite where the denominator is 0, or both are infinite: nothing is known then."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = of / to
    return np.where(np.isnan(values), np.inf, values)
