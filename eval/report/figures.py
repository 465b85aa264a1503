"""Everything that the report shows, computed from points, sides and verdict: no markup here.

What is chosen is chosen on the development queries, as in ``eval.routing.points``; the test
queries only say what came of it. Intervals are 95 %, by bootstrap over test queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.cost_of_pass.figures import cost_ratio
from eval.metrics.curves import hull
from eval.metrics.reliability import ReliabilityBin, aurc, ece, reliability, risk_coverage
from eval.report.experts import ExpertFigures, expert_figures
from eval.routing.points import Point, Sides, most_accurate
from eval.routing.verdict import Figures, Verdict
from eval.statistics import Interval, interval_of_means

BASELINES = ("best-single", "cheapest", "best-per-task", "random", "oracle")
COMPOSITION = "composition"
PRICE_STEPS = np.geomspace(0.05, 300, 28)
"""Prices of a failure that the objective is drawn at, as multiples of the break-even price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A policy's settings that are worth having (on the development hull), judged on test."""

    policy: str
    cost_usd_per_1k: np.ndarray
    accuracy: np.ndarray
    knob: np.ndarray
    """The price V of each setting; NaN where there is none, infinite for accuracy at any price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A policy that answers one of the two questions."""

    figures: Figures
    point: Point
    difference: float
    """In accuracy, against the best single model."""
    difference_ci: Interval
    cost_ratio: float
    """NaN where the best single model is free."""
    cost_ratio_ci: Interval

    @property
    def is_the_single(self) -> bool:
        return self.figures.policy == "best-single"


@dataclass(frozen=True, kw_only=True, slots=True)
class Believed:
    """How well a policy's P(right) is to be believed."""

    policy: str
    bins: Sequence[ReliabilityBin]
    ece: float
    coverage: np.ndarray
    risk: np.ndarray
    aurc: float
    aurc_ideal: float
    """Had it known which of its answers are right: no ordering has less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFigures:
    """One task of the test queries. Regret: what the best model for each query would have scored
    more, in [-1, 1]; 0 where nobody could have done better."""

    task: str
    n: int
    best_possible: float
    single: float
    single_regret: float
    policy: float
    policy_regret: float
    policy_regret_ci: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What 1000 queries cost when a failure costs V, relative to the best single model."""

    prices_usd: np.ndarray
    relative: Mapping[str, np.ndarray]
    """By policy, each at its best setting for V (chosen on development); 1 is the best single."""
    low: np.ndarray
    high: np.ndarray
    """Interval of ``relative[leader]``."""
    leader: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFigures:
    """The report's content."""

    verdict: Verdict
    best_model: str
    equal: Pick
    best: Pick
    shipped: Pick
    """The most accurate pick, whose choices are looked at closely."""
    curves: Sequence[Curve]
    models: Sequence[ExpertFigures]
    believed: Believed | None
    """None where no picked policy says how sure it is."""
    tasks: Sequence[TaskFigures]
    objective: Objective
    objective_table: Mapping[str, Mapping[float, float]]
    """Dollars per 1000 queries, failures included, by policy and V."""
    break_even_usd: float
    """The V at which the best single model's calls and failures cost the same on development."""
    best_router: str | None
    """The most accurate policy on development that asks one model a query by what it learned."""


def report_figures(
    points: Sequence[Point], sides: Sides, verdict: Verdict, beliefs: np.ndarray, *, seed: int = 0
) -> ReportFigures:
    """beliefs: (n_test, n_models) P(right) that the value of each model is reckoned with."""
    single = next(p for p in points if p.policy == "best-single")
    equal = _pick(verdict.equal_accuracy, points, single, seed)
    best = _pick(verdict.max_accuracy, points, single, seed)
    policies: dict[str, list[Point]] = {}
    for point in points:
        policies.setdefault(point.policy, []).append(point)
    routers = [p for p in points if p.policy not in BASELINES and not is_composition(p.policy)]
    best_router = most_accurate(routers).policy if routers else None
    error = max(1e-3, 1 - float(single.dev_score.mean()))
    break_even = max(float(single.dev_cost.mean()) / error, 1e-12)
    prices = tuple(verdict.best_single.objective_usd)
    return ReportFigures(
        verdict=verdict,
        best_model=sides.matrix.models[int(single.test_asked.mean(axis=0).argmax())],
        equal=equal,
        best=best,
        shipped=best,
        curves=[_curve(name, some) for name, some in policies.items()],
        models=expert_figures(
            sides, beliefs, equal.point, best.point, break_even_usd=break_even, seed=seed
        ),
        believed=_believed(best.point, equal.point),
        tasks=_tasks(best.point, single, sides, seed),
        objective=_objective(policies, single, break_even * PRICE_STEPS, best_router, seed),
        objective_table={
            name: {v: _at_price(some, v).mean() * 1000 for v in prices}
            for name, some in policies.items()
        },
        break_even_usd=break_even,
        best_router=best_router,
    )


def is_composition(policy: str) -> bool:
    """Whether a policy may ask several models a query."""
    return policy.startswith(COMPOSITION)


def _pick(figures: Figures, points: Sequence[Point], single: Point, seed: int) -> Pick:
    """The verdict says which policy, at which setting; several points may share both, so the
    figures tell them apart."""
    told = (figures.accuracy, figures.cost_usd_per_1k)
    point = min(
        (p for p in points if p.policy == figures.policy),
        key=lambda p: (
            not np.isclose(p.knob, figures.knob, equal_nan=True),
            float(
                np.abs(np.subtract(told, (p.test_score.mean(), p.test_cost.mean() * 1000))).sum()
            ),
        ),
    )
    values = np.column_stack(
        [point.test_score, single.test_score, point.test_cost, single.test_cost]
    )

    def statistic(means: np.ndarray) -> np.ndarray:
        ratio = cost_ratio(means[..., 2], means[..., 3])
        return np.stack([means[..., 0] - means[..., 1], ratio], axis=-1)

    difference, ratio = statistic(values.mean(axis=0))
    low, high = interval_of_means(values, statistic, seed=seed)
    if point is single:
        ratio = low[1] = high[1] = 1.0  # also where it is free
    return Pick(
        figures=figures,
        point=point,
        difference=float(difference),
        difference_ci=(float(low[0]), float(high[0])),
        cost_ratio=float(ratio),
        cost_ratio_ci=(float(low[1]), float(high[1])),
    )


def _curve(policy: str, points: Sequence[Point]) -> Curve:
    dev_cost = np.array([p.dev_cost.mean() for p in points])
    kept = [points[i] for i in hull(dev_cost, np.array([p.dev_score.mean() for p in points]))]
    return Curve(
        policy=policy,
        cost_usd_per_1k=np.array([p.test_cost.mean() * 1000 for p in kept]),
        accuracy=np.array([p.test_score.mean() for p in kept]),
        knob=np.array([p.knob for p in kept]),
    )


def _believed(*candidates: Point) -> Believed | None:
    for point in candidates:
        if point.test_p is None:
            continue
        p, right = np.clip(point.test_p, 0.0, 1.0), point.test_score
        coverage, risk = risk_coverage(p, right)
        return Believed(
            policy=point.policy,
            bins=reliability(p, right),
            ece=ece(p, right),
            coverage=coverage,
            risk=risk,
            aurc=aurc(p, right),
            aurc_ideal=aurc(right, right),
        )
    return None


def _tasks(policy: Point, single: Point, sides: Sides, seed: int) -> list[TaskFigures]:
    """Largest regret of the policy first."""
    matrix = sides.test_matrix
    possible, tasks = matrix.score.max(axis=1), matrix.tasks
    rows = []
    for task in sorted(set(tasks)):
        here = tasks == task
        regret = (possible - policy.test_score)[here]
        low, high = interval_of_means(regret[:, None], lambda means: means, seed=seed)
        rows.append(
            TaskFigures(
                task=task,
                n=int(here.sum()),
                best_possible=float(possible[here].mean()),
                single=float(single.test_score[here].mean()),
                single_regret=float((possible - single.test_score)[here].mean()),
                policy=float(policy.test_score[here].mean()),
                policy_regret=float(regret.mean()),
                policy_regret_ci=(float(low[0]), float(high[0])),
            )
        )
    return sorted(rows, key=lambda t: -t.policy_regret)


def _at_price(points: Sequence[Point], price_usd: float) -> np.ndarray:
    """(n_test,) dollars, failures at this price, of the setting that is best on development."""
    best = min(points, key=lambda p: float((p.dev_cost + (1 - p.dev_score) * price_usd).mean()))
    result: np.ndarray = best.test_cost + (1 - best.test_score) * price_usd
    return result


def _objective(
    policies: Mapping[str, Sequence[Point]],
    single: Point,
    prices_usd: np.ndarray,
    best_router: str | None,
    seed: int,
) -> Objective:
    compositions = [name for name in policies if is_composition(name)]
    leader = (compositions or [best_router or "best-single"])[0]
    shown = dict.fromkeys(
        [leader, *([best_router] if best_router else []), "cheapest", "random", "oracle"]
    )
    at = {
        name: np.column_stack([_at_price(policies[name], v) for v in prices_usd])
        for name in shown
        if name in policies
    }
    alone = np.column_stack([_at_price([single], v) for v in prices_usd])
    n = len(prices_usd)
    low, high = interval_of_means(
        np.column_stack([at[leader], alone]),
        lambda m: cost_ratio(m[..., :n], m[..., n:]),
        seed=seed,
    )
    return Objective(
        prices_usd=prices_usd,
        relative={
            name: cost_ratio(values.mean(axis=0), alone.mean(axis=0)) for name, values in at.items()
        },
        low=low,
        high=high,
        leader=leader,
    )
