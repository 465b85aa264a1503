"""Every figure of the field that applies to a set of policies, in one go.

RouterArena's score and optimality, RouterBench's AIQ against its zero router, RouteLLM's APGR and
CPT (pools of two), LLMRouterBench's gains, gap, PerfGain, CostSave and ParetoDist, regret, and
ECE and AURC of what a policy believes. Definitions are in ``eval.metrics.arena``,
``eval.metrics.curves`` and ``eval.metrics.reliability``; which point of a curve they are read at
is decided here.

Figures of one point are read at the policy's most accurate setting on the development queries.
PerfGain and CostSave are published as the best over all settings on test, which chooses on test:
they are here under ``*_peak``, next to the same at settings chosen on development.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.cost_of_pass.figures import FAILURE_PRICES_USD, cost_ratio
from eval.metrics.arena import arena_score, optimality_of, robustness
from eval.metrics.curves import (
    aiq,
    apgr,
    cost_save,
    cpt,
    gain,
    gap,
    pareto_distance,
    perf_gain,
)
from eval.metrics.reliability import aurc, ece
from eval.outcomes.matrix import OutcomeMatrix
from eval.routing.points import TOLD, Point, by_policy, cheapest_as_good, most_accurate
from experts.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyMetrics:
    """One policy; None where a figure does not apply to it."""

    policy: str
    n_settings: int
    accuracy: float
    average_accuracy: float
    """Mean over tasks: what LLMRouterBench averages."""
    cost_usd_per_1k: float
    arena_score: float
    optimal_selection: float | None
    optimal_accuracy: float
    optimal_cost: float | None
    robustness: float | None
    """Share of choices that survive a rewording; None without reworded questions."""
    aiq: float
    aiq_over_zero_router: float
    gain_at_random: float
    """Relative, on average accuracy, as the next three."""
    gain_at_best: float
    gap_at_oracle: float
    perf_gain: float
    perf_gain_peak: float
    cost_save: float | None
    """1 - cost / the best single model's, at the setting chosen to be as accurate; None where that
    model is free."""
    cost_save_peak: float | None
    """None when no setting is as accurate on test, or the best single model is free."""
    pareto_distance: float | None
    """None for policies that set no frontier: they may lie beyond it."""
    regret: float
    """Points per question to the best model of each question."""
    regret_usd: Mapping[float, float]
    """Of cost + (1 - score) V to the best model of each question, at several V."""
    ece: float | None
    aurc: float | None
    apgr: float | None
    cpt_50: float | None
    cpt_80: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldMetrics:
    """All policies, and what they are measured against."""

    policies: tuple[PolicyMetrics, ...]
    max_cost_usd_per_1k: float
    """AIQ is the area up to here: the dearest setting compared."""
    zero_router_aiq: float
    """Of mixing single models by a coin."""
    best_single: str
    oracle_accuracy: float


def field_metrics(
    points: Sequence[Point],
    test: OutcomeMatrix,
    *,
    reworded: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    failure_prices_usd: Sequence[float] = FAILURE_PRICES_USD,
) -> FieldMetrics:
    """points: with a policy named best-single among them; test: the pool's test outcomes.

    ``reworded``: choices of a policy on some questions and on their rewordings, each (k,).
    Raises DataError without a best single model to compare with.
    """
    policies = by_policy(points)
    if "best-single" not in policies:
        raise DataError("Figures are relative to the best single model: no point best-single.")
    field = _Field(policies, test, failure_prices_usd)
    return FieldMetrics(
        policies=tuple(
            field.metrics(name, some, (reworded or {}).get(name)) for name, some in policies.items()
        ),
        max_cost_usd_per_1k=field.max_cost,
        zero_router_aiq=field.zero_aiq,
        best_single=test.models[int(field.single.test_asked[0].argmax())],
        oracle_accuracy=float(field.best_score.mean()),
    )


class _Field:
    """What all policies are compared with; costs are dollars per 1000 questions."""

    def __init__(
        self, policies: Mapping[str, Sequence[Point]], test: OutcomeMatrix, prices: Sequence[float]
    ) -> None:
        self.test, self.prices = test, prices
        self.single = policies["best-single"][0]
        self.best_score = test.score.max(axis=1)
        models = test.cost_usd.mean(axis=0) * 1000, test.score.mean(axis=0)
        curves = [_curve(some) for name, some in policies.items() if name not in TOLD]
        self.all_costs, self.all_accuracies = np.concatenate([*curves, np.array(models)], axis=1)
        self.max_cost = float(self.all_costs.max())
        self.zero_aiq = aiq(*models, self.max_cost)
        self.random_average = self.average(test.score.mean(axis=1))
        self.best_average = self.average(self.single.test_score)
        self.oracle_average = self.average(self.best_score)

    def average(self, score: np.ndarray) -> float:
        """Mean over tasks of mean scores."""
        tasks = self.test.tasks
        return float(np.mean([score[tasks == t].mean() for t in sorted(set(tasks), key=str)]))

    def metrics(
        self,
        name: str,
        some: Sequence[Point],
        reworded: tuple[np.ndarray, np.ndarray] | None,
    ) -> PolicyMetrics:
        top, as_good = most_accurate(some), cheapest_as_good(some, self.single)
        cost, accuracy = _curve(some)
        score, paid = top.test_score, top.test_cost
        average = self.average(score)
        single_accuracy = float(self.single.test_score.mean())
        single_cost = float(self.single.test_cost.mean()) * 1000
        # An expectation over models (random) has no choices to be judged.
        chooses = top.test_asked.dtype == bool
        optimal = optimality_of(score, paid, top.test_asked, self.test.score, self.test.cost_usd)
        own_aiq = aiq(cost, accuracy, self.max_cost)
        saved = float(1 - cost_ratio(as_good.test_cost.mean() * 1000, single_cost))
        peak = cost_save(cost, accuracy, single_accuracy, single_cost)
        binary = top.test_p is not None and len(score) > 0
        share, reached = self.strong_curve(some)
        return PolicyMetrics(
            policy=name,
            n_settings=len(some),
            accuracy=float(score.mean()),
            average_accuracy=average,
            cost_usd_per_1k=float(paid.mean() * 1000),
            arena_score=arena_score(float(score.mean()), float(paid.mean() * 1000)),
            optimal_selection=optimal.selection if chooses else None,
            optimal_accuracy=optimal.accuracy,
            optimal_cost=optimal.cost if chooses else None,
            robustness=robustness(*reworded) if reworded else None,
            aiq=own_aiq,
            aiq_over_zero_router=own_aiq - self.zero_aiq,
            gain_at_random=gain(average, self.random_average),
            gain_at_best=gain(average, self.best_average),
            gap_at_oracle=gap(average, self.oracle_average),
            perf_gain=gain(float(score.mean()), single_accuracy),
            perf_gain_peak=perf_gain(accuracy, single_accuracy),
            cost_save=None if np.isnan(saved) else saved,
            cost_save_peak=None if np.isnan(peak) else peak,
            pareto_distance=(
                None
                if name in TOLD
                else pareto_distance(cost, accuracy, self.all_costs, self.all_accuracies)
            ),
            regret=float((self.best_score - score).mean()),
            regret_usd={v: self.regret_usd(score, paid, v) for v in self.prices},
            ece=ece(top.test_p, score) if binary and top.test_p is not None else None,
            aurc=aurc(top.test_p, score) if binary and top.test_p is not None else None,
            apgr=None if share is None else apgr(share, reached, *self.pair()),
            cpt_50=None if share is None else cpt(share, reached, *self.pair(), 0.5),
            cpt_80=None if share is None else cpt(share, reached, *self.pair(), 0.8),
        )

    def regret_usd(self, score: np.ndarray, paid: np.ndarray, price: float) -> float:
        """0 for who always names the model of least cost + (1 - score) V; below it, by composing,
        one can be."""
        least = (self.test.cost_usd + (1 - self.test.score) * price).min(axis=1)
        return float((paid + (1 - score) * price - least).mean())

    def pair(self) -> tuple[float, float]:
        """Accuracy of the weak and of the strong model of a pool of two."""
        weak, strong = sorted(self.test.score.mean(axis=0))
        return float(weak), float(strong)

    def strong_curve(self, some: Sequence[Point]) -> tuple[np.ndarray | None, np.ndarray]:
        """Shares of strong calls, ascending from 0 to 1, and accuracies; None where the pool is no
        pair of a weak and a strong model, or the policy does not choose."""
        none = np.zeros(0)
        if len(self.test.models) != 2 or any(p.test_asked.dtype != bool for p in some):
            return None, none
        weak, strong = self.pair()
        if weak == strong:
            return None, none
        column = int(self.test.score.mean(axis=0).argmax())
        shares = [0.0, *(float(p.test_asked[:, column].mean()) for p in some), 1.0]
        reached = [weak, *(float(p.test_score.mean()) for p in some), strong]
        order = np.lexsort((reached, shares))
        return np.array(shares)[order], np.array(reached)[order]


def _curve(some: Sequence[Point]) -> np.ndarray:
    """(2, n_settings) dollars per 1000 questions and accuracies, on test."""
    return np.array(
        [[p.test_cost.mean() * 1000 for p in some], [p.test_score.mean() for p in some]]
    )
