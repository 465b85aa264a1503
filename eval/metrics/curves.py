"""Cost-accuracy curves, and the figures that the field reads off them.

A policy is a point (cost_usd, accuracy); a family of policies with one knob is a curve. Points are
arrays (n_points,); costs are of the same unit throughout, usually dollars per 1000 questions.
"""

from __future__ import annotations

import numpy as np


def pareto(cost_usd: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Indices of the points that none beats in both, cheapest first.

    >>> pareto(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.9])).tolist()
    [0, 2]
    """
    order = np.lexsort((-accuracy, cost_usd))
    kept, best = [], -np.inf
    for i in order:
        if accuracy[i] > best:
            kept.append(int(i))
            best = accuracy[i]
    return np.array(kept, dtype=int)


def hull(cost_usd: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Indices of the upper convex hull that never falls: what mixing policies at random can reach.

    Of single models this is RouterBench's zero router (Hu et al. 2024, arXiv:2403.12031): what
    a router must beat, since a coin reaches it.

    >>> hull(np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.3, 0.8])).tolist()
    [0, 2]
    """
    kept: list[int] = []
    for i in pareto(cost_usd, accuracy):
        while len(kept) >= 2 and _turns_up(cost_usd, accuracy, kept[-2], kept[-1], int(i)):
            kept.pop()
        kept.append(int(i))
    return np.array(kept, dtype=int)


def accuracy_at(cost_usd: np.ndarray, accuracy: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    """Accuracy of the hull at a cost, mixing the two neighbouring points; NaN below the cheapest,
    the best accuracy above the dearest."""
    kept = hull(cost_usd, accuracy)
    result: np.ndarray = np.interp(at, cost_usd[kept], accuracy[kept], left=np.nan)
    return result


def cost_at(cost_usd: np.ndarray, accuracy: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    """Cost of reaching an accuracy on the hull; infinite above its best, the cheapest below."""
    kept = hull(cost_usd, accuracy)
    result: np.ndarray = np.interp(at, accuracy[kept], cost_usd[kept], right=np.inf)
    return result


def aiq(cost_usd: np.ndarray, accuracy: np.ndarray, max_cost_usd: float) -> float:
    """Average improvement in quality: area under the hull from 0 to ``max_cost_usd``, over it.

    RouterBench, section 3 of arXiv:2403.12031. It depends on the rivals through ``max_cost_usd``
    (the largest cost in the comparison); below its cheapest point a policy earns nothing, above
    its dearest it keeps its accuracy.

    >>> aiq(np.array([1.0, 3.0]), np.array([0.5, 0.7]), max_cost_usd=4.0)
    0.475
    """
    kept = hull(cost_usd, accuracy)
    x, y = cost_usd[kept], accuracy[kept]
    inside = x <= max_cost_usd
    x = np.append(x[inside], max_cost_usd)
    y = np.append(y[inside], float(np.interp(max_cost_usd, cost_usd[kept], accuracy[kept])))
    return float(np.trapezoid(y, x) / max_cost_usd)


def recovered_gap(quality: np.ndarray, weak: float, strong: float) -> np.ndarray:
    """PGR: share of the gap between a weak and a strong model that a router recovers.

    Source: RouteLLM, arXiv:2406.18665. Raises ValueError when strong <= weak: no gap to recover.
    """
    if strong <= weak:
        raise ValueError(
            f"The strong model ({strong:g}) is not better than the weak one ({weak:g}): "
            "there is no gap to recover."
        )
    result: np.ndarray = (quality - weak) / (strong - weak)
    return result


def apgr(strong_share: np.ndarray, quality: np.ndarray, weak: float, strong: float) -> float:
    """Average PGR over all shares of calls to the strong model; random routing scores 0.5.

    strong_share: (n_thresholds,) ascending from 0 to 1. Source: arXiv:2406.18665. Raises ValueError
    where shares do not span [0, 1]: the area under part of a curve is no average over all shares.
    """
    if strong_share[0] != 0 or strong_share[-1] != 1 or (np.diff(strong_share) < 0).any():
        raise ValueError(
            f"Shares of strong calls must ascend from 0 to 1; they go from {strong_share[0]:g} to "
            f"{strong_share[-1]:g}. Add the weak model alone (0) and the strong one alone (1)."
        )
    return float(np.trapezoid(recovered_gap(quality, weak, strong), strong_share))


def cpt(
    strong_share: np.ndarray, quality: np.ndarray, weak: float, strong: float, recovered: float
) -> float:
    """Call-performance threshold: smallest share of strong calls that recovers so much of the gap.

    ``recovered`` in (0, 1], e.g. 0.8 for CPT(80 %); between thresholds, linear. NaN if it never
    does. Source: arXiv:2406.18665.
    """
    gap = recovered_gap(quality, weak, strong)
    reached = np.flatnonzero(gap >= recovered)
    if len(reached) == 0:
        return float("nan")
    i = int(reached[0])
    if i == 0:
        return float(strong_share[0])
    low, high = gap[i - 1], gap[i]
    part = (recovered - low) / (high - low)
    return float(strong_share[i - 1] + part * (strong_share[i] - strong_share[i - 1]))


def gain(accuracy: float, baseline: float) -> float:
    """Gain@R, Gain@B: relative gain over the random router, or over the best single model.

    accuracies as averages over data sets, which is what LLMRouterBench (arXiv:2601.07206) reports.

    >>> round(gain(0.66, 0.6), 3)
    0.1
    """
    return accuracy / baseline - 1 if baseline > 0 else float("nan")


def gap(accuracy: float, oracle: float) -> float:
    """Gap@O: what is missing to the oracle, relative to it. Source: as ``gain``.

    >>> round(gap(0.6, 0.8), 3)
    0.25
    """
    return 1 - accuracy / oracle if oracle > 0 else float("nan")


def perf_gain(accuracy: np.ndarray, best_single: float) -> float:
    """PerfGain: the most accurate point against the best single model, relative.

    LLMRouterBench, arXiv:2601.07206 (prose; the code is not published).
    """
    return float(accuracy.max() / best_single - 1)


def cost_save(
    cost_usd: np.ndarray, accuracy: np.ndarray, best_single: float, best_single_cost_usd: float
) -> float:
    """CostSave: largest saving among points at least as accurate as the best single model.

    In (-inf, 1); NaN when no point is that accurate, or the best single model is free.
    Source: arXiv:2601.07206.
    """
    able = accuracy >= best_single
    if not able.any() or best_single_cost_usd <= 0:
        return float("nan")
    return float(1 - cost_usd[able].min() / best_single_cost_usd)


def pareto_distance(
    cost_usd: np.ndarray,
    accuracy: np.ndarray,
    all_costs_usd: np.ndarray,
    all_accuracies: np.ndarray,
) -> float:
    """ParetoDist: mean distance of a policy's points to the frontier of everything compared.

    Both axes scaled to [0, 1] over everything compared; Euclidean distance to the nearest frontier
    point, 0 for points on it. Source: arXiv:2601.07206, which leaves the scaling open: ours.
    """
    front = pareto(all_costs_usd, all_accuracies)
    x_low, x_span = all_costs_usd.min(), float(np.ptp(all_costs_usd)) or 1.0
    y_low, y_span = all_accuracies.min(), float(np.ptp(all_accuracies)) or 1.0
    x, y = (cost_usd - x_low) / x_span, (accuracy - y_low) / y_span
    fx, fy = (all_costs_usd[front] - x_low) / x_span, (all_accuracies[front] - y_low) / y_span
    distance = np.hypot(x[:, None] - fx, y[:, None] - fy).min(axis=1)
    return float(distance.mean())


def _turns_up(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    """Whether b lies on or under the line from a to c."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) <= (y[c] - y[a]) * (x[b] - x[a]))
