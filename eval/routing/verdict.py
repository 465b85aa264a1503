"""What a routing experiment found: figures per policy with intervals, and the two questions asked.

Is any policy as good as the best single model and cheaper; and how good does it get at any price?
Every policy is shown with cost-of-pass beside what keeps it honest: accuracy, dollars, and the
price-of-failure objective at several V, because the bare ratio crowns the weakest model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.cost_of_pass.figures import FAILURE_PRICES_USD, cost_ratio, pooled
from eval.metrics.curves import hull
from eval.routing.points import NOT_POLICIES, Point, by_policy, cheapest_as_good, most_accurate
from eval.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    percentile_interval,
    resampled,
)
from routers.estimators import DEFAULT_ESTIMATOR

COMPARED_AGAINST = ("knn", "best-per-task")
MARGIN = 0.005
"""Half a point of accuracy: a loss that an interval may hold and still be called as good."""
FEW_QUERIES = 100
"""Below so many, a share of right answers is uncertain by 10 points."""
Outcome = Literal["better", "as good", "worse", "cannot tell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """A policy on test."""

    policy: str
    knob: float
    n: int
    accuracy: float
    accuracy_ci: Interval
    cost_usd_per_1k: float
    cost_of_pass_usd: float
    cost_of_pass_ci: Interval
    objective_usd: dict[float, float]
    """Mean cost + (1 - score) V, at several V."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """A policy against another on the same test queries."""

    difference: float
    """In accuracy."""
    ci: Interval
    p_value: float
    """One-sided bootstrap: how often resamples show no advantage."""
    cost_ratio: float
    """NaN where the other is free, or costs are unknown."""

    @property
    def outcome(self) -> Outcome:
        """What the interval lets one say."""
        low, high = self.ci
        if high < 0:
            return "worse"
        if low > 0:
            return "better"
        return "as good" if low >= -MARGIN else "cannot tell"


def figures_of(point: Point, *, seed: int = 0) -> Figures:
    score, cost = point.test_score, point.test_cost
    return Figures(
        policy=point.policy,
        knob=point.knob,
        n=len(score),
        accuracy=float(score.mean()),
        accuracy_ci=mean_interval(score, seed=seed),
        cost_usd_per_1k=float(cost.mean() * 1000),
        cost_of_pass_usd=float(pooled(cost, score)),
        cost_of_pass_ci=bootstrap_interval(
            lambda rows: pooled(cost[rows], score[rows]), len(score), seed=seed
        ),
        objective_usd={v: float((cost + (1 - score) * v).mean()) for v in FAILURE_PRICES_USD},
    )


def paired(point: Point, other: Point, *, n_resamples: int = 5000, seed: int = 0) -> Paired:
    """Bootstrap over queries of the difference in accuracy on test."""
    gap = point.test_score - other.test_score
    means = resampled(
        lambda rows: gap[rows].mean(axis=1), len(gap), n_resamples=n_resamples, seed=seed
    )
    return Paired(
        difference=float(gap.mean()),
        ci=percentile_interval(means),
        p_value=float((means <= 0).mean()),
        cost_ratio=1.0
        if point is other
        else float(cost_ratio(point.test_cost.mean(), other.test_cost.mean())),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The report's figures."""

    rows: tuple[Figures, ...]
    """Each policy at its most accurate setting, best first."""
    best_single: Figures
    equal_accuracy: Figures
    equal_paired: Paired
    max_accuracy: Figures
    max_paired: Paired
    against: dict[str, dict[str, Paired]]
    """The most accurate policy, and the router that ships, against simple baselines."""
    curve: tuple[Figures, ...]
    """The points on the development hull, judged on test, cheapest first; none without prices."""
    n_dev: int
    """Queries that everything was chosen on."""
    priced: bool
    """False: every dollar is unknown (NaN)."""

    @property
    def few_queries(self) -> str | None:
        """What to say where there are too few queries to choose on, or to judge on."""
        n_test = self.best_single.n
        if min(self.n_dev, n_test) >= FEW_QUERIES:
            return None
        return (
            f"Few queries: {self.n_dev} to choose on, {n_test} to judge on. With less than "
            f"{FEW_QUERIES} of either, luck decides what is picked and what comes of it: record "
            "more."
        )


def verdict_of(points: Sequence[Point]) -> Verdict:
    policies = by_policy(points)
    single = policies["best-single"][0]
    real = [p for p in points if p.policy not in NOT_POLICIES]
    equal, best = cheapest_as_good(real, single), most_accurate(real)
    priced = not np.isnan(single.dev_cost).any()
    tops = {name: most_accurate(some) for name, some in policies.items()}
    rows = sorted((figures_of(p) for p in tops.values()), key=lambda f: -f.accuracy)
    cost = np.array([p.dev_cost.mean() for p in real])
    accuracy = np.array([p.dev_score.mean() for p in real])
    return Verdict(
        rows=tuple(rows),
        best_single=figures_of(single),
        equal_accuracy=figures_of(equal),
        equal_paired=paired(equal, single),
        max_accuracy=figures_of(best),
        max_paired=paired(best, single),
        against={
            point.policy: {
                name: paired(point, tops[name])
                for name in COMPARED_AGAINST
                if name in tops and name != point.policy
            }
            for point in (best, tops.get(DEFAULT_ESTIMATOR, best))
        },
        curve=tuple(figures_of(real[i]) for i in hull(cost, accuracy)) if priced else (),
        n_dev=len(single.dev_score),
        priced=priced,
    )


def verdict_object(v: Verdict) -> dict[str, Any]:
    """JSON-ready, in the shape that ``conclave eval routing`` ends with."""

    def row(f: Figures) -> dict[str, Any]:
        return {
            "name": f.policy,
            "n": f.n,
            "accuracy": round(f.accuracy, 4),
            "ci": [round(x, 4) for x in f.accuracy_ci],
            "cost_usd_per_1k": f.cost_usd_per_1k,
            "cost_of_pass_usd": f.cost_of_pass_usd,
            "cost_of_pass_ci": list(f.cost_of_pass_ci),
            "objective_usd": {str(k): x for k, x in f.objective_usd.items()},
        }

    def pair(f: Figures, p: Paired) -> dict[str, Any]:
        return {
            "policy": f.policy,
            "accuracy": round(f.accuracy, 4),
            "cost_ratio": round(p.cost_ratio, 4),
            "difference": round(p.difference, 4),
            "ci": [round(x, 4) for x in p.ci],
            "verdict": p.outcome,
        }

    return {
        "policies": [row(f) for f in v.rows],
        "best_single": row(v.best_single),
        "equal_accuracy": pair(v.equal_accuracy, v.equal_paired),
        "max_accuracy": pair(v.max_accuracy, v.max_paired),
        "against": {
            policy: {
                name: {
                    "difference": round(p.difference, 4),
                    "ci": [round(x, 4) for x in p.ci],
                    "p_value": p.p_value,
                }
                for name, p in comparisons.items()
            }
            for policy, comparisons in v.against.items()
        },
        "curve": [row(f) for f in v.curve],
    }
