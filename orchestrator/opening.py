"""From a decision to its strategy in progress, with the owner's keyword step before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from experts.values import Arm, Call, Completion, Limits, Query
from orchestrator.deciding import Decider
from orchestrator.decision import Decision
from orchestrator.drivers.run import Recall, Run
from orchestrator.fitted import Fitted
from orchestrator.keywords import FAR, KeywordStep, keyword_calls, keywords_of
from orchestrator.strategies import RECRUIT_BY_SKILL, make_strategy
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from orchestrator.strategies.explore import explore
from orchestrator.strategies.keywords_first import keywords_first as after_keywords
from orchestrator.strategies.keywords_first import noted
from orchestrator.strategies.single import only
from routers.policy import ABSTAIN, Choice
from routers.scores import QueryScores


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the strategies that were decided on."""

    decider: Decider
    """Decides anew once the keywords are known."""
    keyword_step: KeywordStep | None = None
    """Whom to ask for keywords before a policy decides who answers."""

    def run_of(
        self, decision: Decision, recall: Recall | None = None, *, keywords_first: bool = True
    ) -> Run:
        """The strategy that was decided on, from its beginning, within the limits of its query.
        keywords_first: whether the owner's keyword step, if any, may decide anew."""
        query = decision.query
        recall = recall or (lambda call: None)
        if decision.choice is None or decision.scores is None:
            return Run(only(query, Arm(decision.policy)), query.limits, self.decider.pool, recall)
        steps = self._steps(decision, query, decision.scores, decision.choice)
        # What is not worth an answer is not worth keywords, and what is explored is chosen.
        asks = decision.choice.plan != ABSTAIN and decision.instead_of is None
        if self.keyword_step is not None and asks and keywords_first:
            calls = keyword_calls(query, self.keyword_step.settings)
            if why := self._no_room(query, calls, decision.scores):
                steps = noted(f"no keywords by {self.keyword_step.settings.expert}: {why}", steps)
            else:
                go_on = partial(self._on_keywords, decision, self.keyword_step)
                steps = after_keywords(calls, go_on)
        return Run(steps, query.limits, self.decider.pool, recall)

    def _no_room(self, query: Query, calls: Sequence[Call], scores: QueryScores) -> str | None:
        """Why limits forbid keywords: what is paid for them must leave an answer."""
        limits = query.limits
        if limits.max_calls is not None and limits.max_calls < len(calls) + 1:
            return f"{len(calls)} calls and an answer are more than the limit of {limits.max_calls}"
        if limits.max_cost_usd is None:
            return None
        allowed = self.decider.who_may(query)
        arms = [arm for arm in scores.arms if allowed is None or arm.expert in allowed]
        pool = self.decider.pool
        answer_usd = min((pool.most_usd(pool.in_mode(ask(query, arm))) for arm in arms), default=0)
        most_usd = answer_usd + sum(pool.most_usd(call) for call in calls)
        if most_usd > limits.max_cost_usd:
            return (
                f"with an answer they may cost up to {most_usd:.3g} $, more than the limit of "
                f"{limits.max_cost_usd:.3g} $"
            )
        return None

    def _steps(
        self, decision: Decision, query: Query, scores: QueryScores, choice: Choice
    ) -> Steps:
        fitted = self._fitted_of(decision)
        belief = fitted.confidence.p_right
        plan = decision.instead_of or choice.plan
        # One that may not be asked would be refused: then it is the likeliest of those that may.
        aggregator = fitted.aggregator if fitted.aggregator in scores.arms else None
        # Counted anew each time, so only for who wants it.
        competency = fitted.competency if plan.strategy == RECRUIT_BY_SKILL else None
        strategy = make_strategy(plan, belief, fitted.composer, competency, aggregator=aggregator)
        if decision.exploration is not None and decision.instead_of is not None:
            strategy = explore(decision.exploration, belief, strategy)
        return strategy(query, scores, self.decider.pool)

    def _on_keywords(
        self, decision: Decision, step: KeywordStep, asked: Sequence[Completion]
    ) -> tuple[str, Decision, Steps]:
        """What to do now that the keywords are known. Where they say nothing, what was decided
        without them stands."""
        query, scores, choice = decision.query, decision.scores, decision.choice
        if scores is None or choice is None:
            raise ValueError("Keywords are for policies: this decision names an expert.")
        by, keywords = step.settings.expert, keywords_of(asked, step.settings)
        annotation = step.annotator.annotate([keywords])
        if not keywords or (scores.is_general and annotation.novelty[0] > FAR):
            why = "none that passes agree on" if not keywords else f"{', '.join(keywords)}: unknown"
            note = f"keywords by {by}: {why}; skills as the router sees them"
            return note, decision, self._steps(decision, query, scores, choice)
        fitted = self._fitted_of(decision)
        n_chars = np.array([sum(len(m.content) for m in query.messages)])
        believed = fitted.router.score_annotated(annotation, np.array([False]), n_chars)
        believed, _ = self.decider.knowledge.with_learned(believed)
        left = replace(query, limits=_limits_after(query.limits, asked))
        [(row, chosen)] = self.decider.choose([left], decision.policy, believed, fitted)
        skills = ", ".join(f"{name} {p:.2f}" for name, p in row.skills.items())
        note = f"keywords by {by}: {', '.join(keywords)}; so {skills}; plan {chosen.plan}"
        if chosen.plan == ABSTAIN:
            note += f", since {chosen.reason}"
        decided = replace(decision, choice=chosen, scores=row, before_keywords=choice.plan)
        return note, decided, self._steps(decided, query, row, chosen)

    def _fitted_of(self, decision: Decision) -> Fitted:
        """The state that it was taken by; the one in use where that is not kept any more."""
        return decision.fitted or self.decider.require_learner().fitted


def _limits_after(limits: Limits, made: Sequence[Completion]) -> Limits:
    """What is left of limits; never none of a limit at all."""
    spent_usd = sum(c.cost_usd for c in made)
    usd, n = limits.max_cost_usd, limits.max_calls
    return replace(
        limits,
        max_cost_usd=None if usd is None else max(usd - spent_usd, 0.0),
        max_calls=None if n is None else max(n - len(made), 0),
    )
