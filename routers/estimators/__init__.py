"""Estimators of P(right) per arm: published routers under one bargain (see ``base``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from routers.estimators.base import Estimator, Growing
from routers.estimators.boosting import Boosting
from routers.estimators.category_map import CategoryMap
from routers.estimators.clusters import ClusterRates
from routers.estimators.constant import BestSingle, Chance
from routers.estimators.ensemble import Ensemble
from routers.estimators.irt import ItemResponse
from routers.estimators.neighbours import GuardedKNearest, KNearest
from routers.estimators.pilots import Pilots
from routers.estimators.ridge import Ridge
from routers.estimators.skills import ProfileRates

__all__ = ["DEFAULT_ESTIMATOR", "ESTIMATORS", "Estimator", "Growing"]

ESTIMATORS: Mapping[str, Callable[[], Estimator]] = {
    "best-single": BestSingle,
    "random": Chance,
    "knn": KNearest,
    "guarded-knn": GuardedKNearest,
    "clusters": ClusterRates,
    "cluster-ranks": lambda: ClusterRates(by_rank=True),
    "category-map": CategoryMap,
    "profiles": ProfileRates,
    "pilots": Pilots,
    "ridge": Ridge,
    "irt": ItemResponse,
    "boosting": Boosting,
    "ensemble": lambda: Ensemble([KNearest(), ProfileRates(), Ridge(), Boosting()]),
}
"""Every estimator with its default settings, by the name that commands and reports use."""

DEFAULT_ESTIMATOR = "ensemble"
"""What is believed before anyone is asked, unless said otherwise."""
