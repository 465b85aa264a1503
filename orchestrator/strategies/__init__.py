"""Strategies: how money is spent on one query.

A strategy is a generator that does no I/O: it yields the calls it wants now, is sent their
completions in the same order, and returns an answer. The drivers in ``orchestrator.drivers`` run
the same bodies live, in waves, and in replay. Every body goes on when an expert fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from experts.errors import UnknownName
from orchestrator.aggregators import Belief
from orchestrator.strategies.base import Strategy
from orchestrator.strategies.cascade import cascade
from orchestrator.strategies.compose import compose
from orchestrator.strategies.recruit import recruit
from orchestrator.strategies.single import abstain, single
from orchestrator.strategies.vote import vote
from routers.composer import Composing
from routers.plans import Plan

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "single": single,
    "vote": vote,
    "cascade": cascade,
    "recruit": recruit,
    "abstain": abstain,
}
"""Factories by name: ``factory(belief, **settings)`` gives a strategy."""
COMPOSE = "compose"
"""Made from a composer, which only fitted pools have."""


def make_strategy(plan: Plan, belief: Belief, composer: Composing | None = None) -> Strategy:
    """The strategy that a plan names, with its settings.

    Raises UnknownName for an unknown name and TypeError for a setting that it does not have.
    """
    if plan.strategy == COMPOSE and composer is not None:
        return compose(composer, **dict(plan.settings))
    if plan.strategy not in STRATEGIES:
        raise UnknownName(plan.strategy, STRATEGIES, what="strategy")
    return STRATEGIES[plan.strategy](belief, **dict(plan.settings))
