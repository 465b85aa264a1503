"""Spending the owner's budget on arms of which too little is known.

A dollar is reserved in the ledger before it is spent, and what was not spent is free again with the
answer. Only arms whose expert is loaded are explored: nobody can say beforehand what a load costs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from experts.expert import Pool
from experts.values import Query
from orchestrator.config import ExplorationSettings
from orchestrator.decision import Decision
from orchestrator.ledger import Ledger
from orchestrator.strategies.asking import ask
from routers.exploration import Exploration, explore, sd_today
from routers.plans import Plan
from routers.policy import ABSTAIN
from routers.scores import QueryScores

DAY_S = 86_400
EXPLORE = Plan("explore")


@dataclass(slots=True)
class Explorer:
    """Decides whether a decision becomes an exploration."""

    settings: ExplorationSettings
    ledger: Ledger
    pool: Pool
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    clock: Callable[[], float] = time.time
    """Unix seconds."""

    @property
    def is_on(self) -> bool:
        return self.settings.usd_per_day > 0 and self.settings.share > 0

    @property
    def since_s(self) -> float:
        """When the day (UTC) began."""
        now = self.clock()
        return now - now % DAY_S

    def left_usd(self) -> float:
        """Of today's budget."""
        return self.settings.usd_per_day - self.ledger.explored_usd(since_s=self.since_s)

    def considered(self, decision: Decision) -> Decision:
        """The decision, or the exploration that takes its place; with its propensity."""
        choice, scores = decision.choice, decision.scores
        if not self.is_on or choice is None or scores is None or choice.plan == ABSTAIN:
            return decision
        if (known_n := scores.known_n) is None:
            return decision
        query = decision.query
        found = explore(
            scores,
            known_n,
            query.fallback_price_usd,
            self._most_usd(query, scores),
            self.rng,
            share=self.settings.share,
            min_sd=self.settings.min_sd,
            left_usd=self.left_usd(),
        )
        if found.arm is None or not self._reserve(decision, found):
            return replace(decision, exploration=replace(found, arm=None))
        i = scores.index(found.arm)
        reason = (
            f"exploration: {found.arm} is right with {scores.p_correct[i]:.0%} ± "
            f"{sd_today(scores, known_n)[i]:.0%} today, so it may be better than is known; asked "
            f"with probability {found.propensity:.2g} in place of {choice.plan}"
        )
        explored = replace(
            choice,
            plan=EXPLORE,
            p_correct=float(scores.p_correct[i]),
            cost_usd=float(scores.cost_usd[i]),
            reason=reason,
        )
        return replace(decision, choice=explored, instead_of=choice.plan, exploration=found)

    def _most_usd(self, query: Query, scores: QueryScores) -> np.ndarray:
        """(n_arms,) of a call to each; infinite where the caller's limits or a load forbid it."""
        limits = query.limits
        most = np.full(len(scores.arms), math.inf)
        if limits.max_calls is not None and limits.max_calls < 1:
            return most
        for i, arm in enumerate(scores.arms):
            usd = self.pool.most_usd(self.pool.in_mode(ask(query, arm)))
            is_within = limits.max_cost_usd is None or usd <= limits.max_cost_usd
            if is_within and arm.expert not in scores.loads:
                most[i] = usd
        return most

    def _reserve(self, decision: Decision, found: Exploration) -> bool:
        row = {
            "decision_id": decision.decision_id,
            "at": self.clock(),
            "arm": str(found.arm),
            "propensity": found.propensity,
            "reserved_usd": found.reserved_usd,
        }
        return self.ledger.reserve_exploration(
            row, since_s=self.since_s, budget_usd=self.settings.usd_per_day
        )
