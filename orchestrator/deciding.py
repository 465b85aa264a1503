"""Deciding: whether a query can be asked at all, who is likely to be right at what cost, and by
which plan the answer is made. Nobody is asked here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experts.cards import ExpertCard
from experts.errors import LimitReached, NotFitted, UnknownExpert, UserError
from experts.expert import Expert, LoadingExpert, Pool, ReplaceableExpert
from experts.ids import new_id
from experts.values import Arm, Query
from orchestrator.config import PolicySettings
from orchestrator.conversations import Conversations
from orchestrator.decision import Decision
from orchestrator.fitted import Fitted
from orchestrator.knowledge import Knowledge
from orchestrator.learning.learner import Learner
from orchestrator.learning.observations import Embed
from orchestrator.ledger import Ledger
from routers.loads import Load, share_loads
from routers.plans import Plan
from routers.policy import Choice, choose_plan, named_plan
from routers.prefixes import read_prefixes
from routers.scores import QueryScores, ReadPrefix, Scores

_LOAD_BYTES_PER_S = 1e9
"""Of a model that was never loaded here: about what a disk of a cloud machine reads."""


@dataclass(kw_only=True, slots=True)
class Decider:
    """Decides with what is known now."""

    experts: Mapping[str, Expert]
    pool: Pool
    """Of these experts."""
    knowledge: Knowledge
    ledger: Ledger
    """Where loads were recorded."""
    conversations: Conversations
    policies: Mapping[str, PolicySettings]
    embed: Embed
    host_usd_per_s: float
    counts: bool = False
    """Whether beliefs tell how many observations they are worth: exploring needs it."""

    def decide(self, queries: Sequence[Query], target: str) -> list[Decision]:
        """A decision for each query, taken together; ``target`` is a policy or an expert, as
        ``check`` has found.

        The time it takes is charged to the queries in equal parts.
        """
        if target in self.experts:
            return [
                Decision(
                    decision_id=new_id("dec"), query=q, policy=target, choice=None, scores=None
                )
                for q in queries
            ]
        learner = self.require_learner()
        learner.begin()
        fitted = learner.fitted
        started = time.perf_counter()
        n_chars = np.array([sum(len(m.content) for m in q.messages) for q in queries])
        scores = fitted.score([q.text for q in queries], n_chars, self.embed)
        scores, known_n = self.knowledge.with_learned(scores, counted=self.counts)
        chosen = self.choose(queries, target, scores, fitted, known_n)
        router_s = (time.perf_counter() - started) / len(queries)
        return [
            Decision(
                decision_id=new_id("dec"),
                query=query,
                policy=target,
                choice=choice,
                scores=row,
                router_cost_usd=router_s * self.host_usd_per_s,
                router_s=router_s,
                fitted=fitted,
                state=learner.state_id,
            )
            for query, (row, choice) in zip(queries, chosen, strict=True)
        ]

    def choose(
        self,
        queries: Sequence[Query],
        policy: str,
        scores: Scores,
        fitted: Fitted,
        known_n: np.ndarray | None = None,
    ) -> list[tuple[QueryScores, Choice]]:
        """For each query the beliefs about whom it may ask, and the plan.

        known_n: (n_queries, n_arms) observations that beliefs are worth, where something may be
        explored."""
        prices_usd = [q.fallback_price_usd for q in queries]
        shares = share_loads(scores, prices_usd, self.loads_to_come())
        may_stand_in = self._may_stand_in()
        settings = self.policies[policy]
        named = None if settings.plan is None else Plan.parse(settings.plan)
        chosen = []
        for i, query in enumerate(queries):
            row = scores.row(i)
            if known_n is not None:
                row = replace(row, known_n=known_n[i])
            row = row.allowed(self.who_may(query))
            # Limits are on tokens' dollars, so they are looked at before loads are added; and what
            # is reserved for a call counts on no cache.
            row = row.affordable(query.limits.max_cost_usd).with_prefixes(self._prefixes(query))
            row = row.with_loads(shares[i])
            row = replace(row, may_stand_in=may_stand_in)
            if named is None:
                choice = choose_plan(query, row, fitted.outlooks)
            else:
                choice = named_plan(named, query, row, fitted.outlooks)
            chosen.append((row, choice))
        return chosen

    def may_explore(self, target: str) -> bool:
        """Whether who is asked is Conclave's choice, and not the caller's or the owner's."""
        return target in self.policies and self.policies[target].plan is None

    def who_may(self, query: Query) -> frozenset[str] | None:
        """Who may be asked: whom the caller allows, of those that can do what it asks for (tools,
        guided output, ...). None is everybody."""
        allowed, wanted = query.limits.experts, _wanted(query)
        if not wanted:
            return allowed
        able = frozenset(card.name for card in self.pool.cards if wanted <= card.takes)
        return able if allowed is None else able & allowed

    def _prefixes(self, query: Query) -> dict[Arm, ReadPrefix]:
        """What arms have read of this conversation."""
        n_tokens = self.conversations.expected_tokens(query)
        prices = {arm.expert: self.pool.card(arm.expert).prices for arm in n_tokens}
        return read_prefixes(n_tokens, prices)

    def loads_to_come(self) -> dict[str, Load]:
        """Of experts that are not loaded."""
        loads = {}
        for name, expert in self.experts.items():
            outlook = expert.load_outlook() if isinstance(expert, LoadingExpert) else None
            if outlook is not None:
                load_s = outlook.load_s
                if load_s is None:
                    load_s = self._recorded_load_s(expert.card)
                loads[name] = Load(
                    outlook=outlook, load_s=load_s, usd_per_s=expert.card.prices.load_usd_per_s
                )
        return loads

    def _may_stand_in(self) -> dict[str, frozenset[str]]:
        """By expert, who can answer in its place."""
        return {
            name: expert.stand_ins
            for name, expert in self.experts.items()
            if isinstance(expert, ReplaceableExpert) and expert.stand_ins
        }

    def _recorded_load_s(self, card: ExpertCard) -> float:
        """The quickest of the last loads, or what reading its bytes takes."""
        # The first load of a process pays for imports of seconds, which are not that expert's.
        recorded = self.ledger.load_times_s(card.name, card.version)
        return min(recorded, default=(card.memory_bytes or 0) / _LOAD_BYTES_PER_S)

    def check(self, query: Query, target: str) -> None:
        """Raises UserError for a query that cannot be asked of this pool, before anything is
        recorded or paid: an unknown target, experts that are unknown or forbid it, a policy while
        nothing is fitted."""
        self.check_target(target)
        if target not in self.experts:
            self.require_learner()
        self._check_extra(query, target)
        allowed = query.limits.experts
        for name in allowed or ():
            self.pool.card(name)  # raises with the nearest names
        if allowed and target in self.experts and target not in allowed:
            raise LimitReached(
                f"The model is the expert {target!r}, but only {', '.join(sorted(allowed))} may be "
                "asked. Name one of these, or a policy such as conclave."
            )

    def check_target(self, target: str) -> None:
        """Raises UnknownExpert for what is neither a policy nor an expert."""
        if target not in self.experts and target not in self.policies:
            raise UnknownExpert(
                target, [*self.policies, *self.experts], what="model (policy or expert)"
            )

    def _check_extra(self, query: Query, target: str) -> None:
        """Fields that only some experts take are refused by name where nobody who may be asked
        does, never dropped in silence."""
        wanted = _wanted(query)
        if target in self.experts:
            missing = sorted(wanted - self.pool.card(target).takes)
        elif self.who_may(query) == frozenset():
            missing = sorted(wanted)
        else:
            return
        if missing:
            able = [card.name for card in self.pool.cards if wanted <= card.takes]
            advice = (
                f"Name one of these as the model: {', '.join(able)}."
                if able
                else "No expert here takes all that is asked for: those of kind openai and litellm "
                "may; of kind vllm, tools where the chat template has them, guided output unless "
                "they have `guided: false`."
            )
            raise UserError(
                f"{', '.join(missing)}: not supported by {target!r}; leave it out. {advice}"
            )

    def require_learner(self) -> Learner:
        """The fitted state in use with what was learned since. Raises NotFitted with the reason,
        and who can be asked all the same."""
        fitted, learner = self.knowledge.fitted, self.knowledge.learner
        if learner is None:
            raise NotFitted(
                f"{fitted} Until then ask an expert by name: {', '.join(self.experts)}."
            )
        return learner


def _wanted(query: Query) -> frozenset[str]:
    """What only some experts take (``ExpertCard.takes``) of what a query brings. A conversation in
    which tools were called is for those that know tools, whether it brings any now or not."""
    fields = frozenset(name for name, _ in query.sampling.extra)
    had_tools = any(m.tool_calls or m.tool_call_id for m in query.messages)
    return fields | {"tools"} if had_tools else fields
