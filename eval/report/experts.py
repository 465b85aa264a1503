"""What each model of the pool brings: alone, in the picked policies, and by being there at all.

The value of a model is counterfactual: the queries are routed once with the whole pool and once
without the model, by the same beliefs, prices and rule (the most P(right) - cost / V, one model a
query), and the difference is what it is worth. Nothing is fitted anew, so the value is of being
askable, not of having been learned from. A composition can lose less or more than a router that
asks one model: its votes can stand in for a model, or miss it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.cost_of_pass.figures import cost_ratio
from eval.routing.points import Point, Sides
from eval.statistics import Interval, interval_of_means
from routers.estimators import DEFAULT_ESTIMATOR, ESTIMATORS


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertFigures:
    """One model on the test queries."""

    model: str
    accuracy: float
    cost_usd_per_1k: float
    only_right: float
    """Share of queries that it alone gets right (above half of the points)."""
    asked_equal: float
    asked_best: float
    """Share of queries that the two picks ask it, in [0, 1]."""
    dollars_best: float
    """Its share of the most accurate pick's dollars."""
    objective_rise: float | None
    """Share by which dollars, failures at the break-even price, rise without it; None where it is
    the only model."""
    objective_rise_ci: Interval
    accuracy_loss: float | None
    """Accuracy that is lost without it when dollars do not matter."""
    accuracy_loss_ci: Interval


def fitted_beliefs(sides: Sides) -> np.ndarray:
    """(n_test, n_models) P(right) by the estimator that composition starts from."""
    fitted = ESTIMATORS[DEFAULT_ESTIMATOR]().fit(
        sides.features[sides.dev], sides.outcomes[sides.dev]
    )
    return fitted.predict(sides.features[sides.test])


def expert_figures(
    sides: Sides,
    beliefs: np.ndarray,
    equal: Point,
    best: Point,
    *,
    break_even_usd: float,
    seed: int = 0,
) -> list[ExpertFigures]:
    """The most valuable first; by accuracy where none is."""
    test = sides.test_matrix
    right = test.score > 0.5
    alone = right & (right.sum(axis=1, keepdims=True) == 1)
    paid = (best.test_asked * test.cost_usd).sum(axis=0)
    mean_cost = sides.dev_matrix.cost_usd.mean(axis=0)
    rows = []
    for j, model in enumerate(test.models):
        rise, rise_ci, loss, loss_ci = _without(
            j, test.score, test.cost_usd, beliefs, mean_cost, break_even_usd, seed
        )
        rows.append(
            ExpertFigures(
                model=model,
                accuracy=float(test.score[:, j].mean()),
                cost_usd_per_1k=float(test.cost_usd[:, j].mean() * 1000),
                only_right=float(alone[:, j].mean()),
                asked_equal=float(equal.test_asked[:, j].mean()),
                asked_best=float(best.test_asked[:, j].mean()),
                dollars_best=float(cost_ratio(paid[j], paid.sum())),
                objective_rise=rise,
                objective_rise_ci=rise_ci,
                accuracy_loss=loss,
                accuracy_loss_ci=loss_ci,
            )
        )
    return sorted(rows, key=lambda e: (-(e.objective_rise or 0.0), -e.accuracy))


def _without(
    j: int,
    score: np.ndarray,
    cost_usd: np.ndarray,
    beliefs: np.ndarray,
    mean_cost_usd: np.ndarray,
    price_usd: float,
    seed: int,
) -> tuple[float | None, Interval, float | None, Interval]:
    """Rise of the objective (a share) and loss of accuracy without column j, with intervals."""
    if score.shape[1] == 1:
        return None, (np.nan, np.nan), None, (np.nan, np.nan)
    rows = np.arange(len(score))

    def routed(utility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left_out = utility.copy()
        left_out[:, j] = -np.inf
        return utility.argmax(axis=1), left_out.argmax(axis=1)

    with_it, without = routed(beliefs - mean_cost_usd / price_usd)
    dollars = cost_usd + (1 - score) * price_usd
    sure, sure_without = routed(beliefs)
    values = np.column_stack(
        [
            dollars[rows, with_it],
            dollars[rows, without],
            score[rows, sure],
            score[rows, sure_without],
        ]
    )

    def statistic(means: np.ndarray) -> np.ndarray:
        rise = np.nan_to_num(cost_ratio(means[..., 1], means[..., 0]) - 1, nan=0.0)
        return np.stack([rise, means[..., 2] - means[..., 3]], axis=-1)

    rise, loss = statistic(values.mean(axis=0))
    low, high = interval_of_means(values, statistic, seed=seed)
    return (
        float(rise),
        (float(low[0]), float(high[0])),
        float(loss),
        (float(low[1]), float(high[1])),
    )
