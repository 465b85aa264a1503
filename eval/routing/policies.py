"""All policies on one pool: baselines, every router, composition."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eval.routing.composing import composed
from eval.routing.mixing import cheapest_mixture
from eval.routing.points import NOT_POLICIES, Point, Sides, baselines, blind_and_test, routed
from experts.errors import DataError
from routers.estimators import ESTIMATORS, Estimator

BASELINES = ("best-single", "random")
"""Estimators that are baselines here: shown without being asked for."""


def all_points(
    sides: Sides,
    estimators: Mapping[str, Callable[[], Estimator]] = ESTIMATORS,
    *,
    decision_usd: float = 0.0,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[Point]:
    """Baselines, every router's curve, and composition's. Without prices there is no curve and no
    composition, only everybody's most accurate setting; without recorded answers no composition.

    ``on_note`` is told what is left out because the outcomes cannot teach it.
    decision_usd: what one decision of the router costs; policies that decide are charged with it.
    """
    points = baselines(sides)
    for name, make in estimators.items():
        if name in BASELINES:
            continue
        on_stage(name)
        points += routed(name, *blind_and_test(make, sides), sides, decision_usd=decision_usd)
    if sides.priced and any(answer is not None for answer in sides.dev_matrix.pred.flat):
        try:
            points += composed(sides, decision_usd=decision_usd, on_stage=on_stage)
        except DataError as error:
            on_note(f"Composition is left out. {error}")
        single = next(p for p in points if p.policy == "best-single")
        able = [p for p in points if p.policy not in NOT_POLICIES]
        if (between := cheapest_mixture(able, single)) is not None:
            points.append(between)
    return points
