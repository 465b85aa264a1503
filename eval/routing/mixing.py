"""Between two policies: a coin decides, per query, which of them answers.

What a coin brings is known exactly (the shares' mean, as RouterBench's zero router is reckoned,
arXiv:2403.12031), so points between settings need no luck. Used where a policy's settings leave a
gap: the cheapest mixture that is as good as the best single model.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from eval.metrics.curves import hull
from eval.routing.points import SPARE, Point, ahead

_SHARES = np.linspace(0.02, 0.98, 49)


def cheapest_mixture(points: Sequence[Point], single: Point) -> Point | None:
    """The cheapest mixture of two neighbours on the development hull that is as good as ``single``
    there; None where no neighbours lie on both sides of it."""
    cost = np.array([p.dev_cost.mean() for p in points])
    kept = [points[i] for i in hull(cost, np.array([p.dev_score.mean() for p in points]))]
    mixtures = [
        mixture(cheap, dear, float(share))
        for cheap, dear in itertools.pairwise(kept)
        if ahead(cheap, single) < SPARE <= ahead(dear, single)
        for share in _SHARES
    ]
    able = [m for m in mixtures if ahead(m, single) >= SPARE]
    return min(able, key=lambda m: float(m.dev_cost.mean())) if able else None


def mixture(one: Point, other: Point, share: float) -> Point:
    """``other`` answers this share of the queries, drawn by a coin; ``knob`` is the share."""

    def mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 - share) * a + share * b

    names = dict.fromkeys((one.policy, other.policy))
    return Point(
        policy=f"{' and '.join(names)} by a coin",
        knob=share,
        dev_score=mixed(one.dev_score, other.dev_score),
        dev_cost=mixed(one.dev_cost, other.dev_cost),
        test_score=mixed(one.test_score, other.test_score),
        test_cost=mixed(one.test_cost, other.test_cost),
        test_asked=mixed(one.test_asked, other.test_asked),
    )
