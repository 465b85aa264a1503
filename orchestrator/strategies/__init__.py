"""Strategies: how money is spent on one query.

A strategy is a generator that does no I/O: it yields the calls it wants now, is sent their
completions in the same order, and returns an answer. The drivers in ``orchestrator.drivers`` run
the same bodies live, in waves, in replay, and durably. Every body goes on when an expert fails;
limits and history are kept for it (``orchestrator.drivers.run``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache

from experts.errors import UnknownName, UserError
from experts.values import Arm
from orchestrator.aggregators import ASKING, Belief
from orchestrator.strategies.agreement import agreement
from orchestrator.strategies.automix import automix
from orchestrator.strategies.base import Strategy
from orchestrator.strategies.cascade import cascade, frugal
from orchestrator.strategies.compose import compose, composer_of
from orchestrator.strategies.guarded import guarded
from orchestrator.strategies.guide import guide
from orchestrator.strategies.modes import mode_gate, modes
from orchestrator.strategies.recruit import recruit, recruit_by_skill, recruit_top_p
from orchestrator.strategies.retrieve import retrieve
from orchestrator.strategies.rounds import rounds
from orchestrator.strategies.settings import check_values
from orchestrator.strategies.single import abstain, single
from orchestrator.strategies.switch import switch
from orchestrator.strategies.tools import tools
from orchestrator.strategies.vote import vote
from routers.competency import Competency
from routers.composer import Composing
from routers.plans import Plan

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "single": single,
    "vote": vote,
    "switch": switch,
    "cascade": cascade,
    "frugal": frugal,
    "agreement": agreement,
    "automix": automix,
    "recruit": recruit,
    "recruit_top_p": recruit_top_p,
    "guarded": guarded,
    "modes": modes,
    "mode_gate": mode_gate,
    "guide": guide,
    "retrieve": retrieve,
    "rounds": rounds,
    "tools": tools,
    "abstain": abstain,
}
"""Factories by name: ``factory(belief, **settings)`` gives a strategy."""
COMPOSE = "compose"
"""Made from a composer, which only fitted pools have."""
RECRUIT_BY_SKILL = "recruit_by_skill"
"""Made from the arms' competency, which only fitted pools have."""


def make_strategy(
    plan: Plan,
    belief: Belief,
    composer: Composing | None = None,
    competency: Competency | None = None,
    aggregator: Arm | None = None,
) -> Strategy:
    """The strategy that a plan names, with its settings. ``aggregator``: who puts answers together
    where the plan's aggregator asks somebody and it names nobody.

    Raises UnknownName for an unknown name, setting or aggregator, and UserError for a setting that
    cannot be, and for ``compose`` where nothing was learned of it.
    """
    settings = dict(plan.settings)
    if aggregator and settings.get("merge") in ASKING and not settings.get("by"):
        settings["by"] = str(aggregator)
    check_settings(plan)
    if plan.strategy == COMPOSE:
        return compose(composer_of(composer), **settings)  # type: ignore[arg-type]
    if plan.strategy == RECRUIT_BY_SKILL and competency is not None:
        return recruit_by_skill(competency, belief, **settings)  # type: ignore[arg-type]
    if plan.strategy not in STRATEGIES:
        raise UnknownName(plan.strategy, STRATEGIES, what="strategy")
    return STRATEGIES[plan.strategy](belief, **settings)


@cache
def check_settings(plan: Plan) -> None:
    """Raises UnknownName for a strategy, setting or aggregator that there is not, UserError for a
    setting that is missing, of the wrong kind, out of its range, or defeats another. Which expert
    one names is found out where the pool is known."""
    factories: dict[str, Callable[..., Strategy]] = dict(STRATEGIES)
    factories |= {COMPOSE: compose, RECRUIT_BY_SKILL: recruit_by_skill}
    if plan.strategy not in factories:
        raise UnknownName(plan.strategy, factories, what="strategy")
    known = {
        name: parameter
        for name, parameter in inspect.signature(factories[plan.strategy]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    told = dict(plan.settings)
    for name, value in told.items():
        if name not in known:
            raise UnknownName(name, known, what=f"setting of {plan.strategy}")
        wanted = "text" if known[name].annotation == "str" else "a number"
        if isinstance(value, str) != (wanted == "text"):
            raise UserError(f"{plan.strategy}: {name} is {value!r}, but it must be {wanted}.")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in told:
            raise UserError(f"{plan.strategy} needs the setting {name!r}.")
    check_values(plan.strategy, told)
