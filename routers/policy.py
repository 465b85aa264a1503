"""The policy: choose the plan that minimises E[cost] + (1 - P(correct)) V, within limits.

V, the fallback price, is what an unsolved query costs its owner. When even the best plan costs more
than it is expected to save, nothing is asked: the query goes to the fallback (abstain).
"""

from __future__ import annotations

from dataclasses import dataclass

from experts.values import Limits, Query
from routers.plans import Plan, PlanOutlook, PlanOutlooks
from routers.scores import QueryScores

ABSTAIN = Plan("abstain")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a policy decided, and what else it looked at."""

    plan: Plan
    p_correct: float | None
    """None where nobody replayed the plan."""
    cost_usd: float | None
    """Likewise."""
    reason: str
    considered: tuple[PlanOutlook, ...]
    """Best first."""


def choose_plan(query: Query, scores: QueryScores, outlooks: PlanOutlooks) -> Choice:
    """The best plan for a query; ``scores`` already restricted to the arms it may ask."""
    v, limits = query.fallback_price_usd, query.limits
    if not scores.arms:
        return _abstain(
            f"no expert that may be asked is expected to cost less than the limit of "
            f"{limits.max_cost_usd or 0:.2g} $",
            [],
        )
    if len(scores.arms) < len(outlooks.arms):
        # The replays asked experts that this query must not: only single calls can be judged.
        candidates = [_best_single(scores, v)]
    else:
        candidates = outlooks.expect(scores, v)
    considered = sorted(candidates, key=lambda o: o.objective_usd)
    within = [o for o in considered if _keeps(o, limits)]
    if not within:
        return _abstain("every plan is expected to need more than the limits allow", considered)
    best = within[0]
    # A load is for those who come after, too: were it held against the first, nobody would be
    # asked, nothing loaded, and the next one would stand where this one stands.
    if best.objective_usd - best.load_usd >= v:
        return _abstain(
            f"the best plan, {best.plan}, costs {best.cost_usd:.2g} $ and is right with "
            f"{best.p_correct:.0%}: more than the {v:.2g} $ that a wrong answer costs",
            considered,
        )
    reason = f"least expected cost, {best.objective_usd:.2g} $ with failures at {v:.2g} $"
    if scores.is_general:
        reason += "; unlike any question known, so judged as a general one"
    for arm, prefix in scores.prefixes.items():
        reason += f"; of the conversation, {arm} {prefix}"
    return Choice(
        plan=best.plan,
        p_correct=best.p_correct,
        cost_usd=best.cost_usd,
        reason=reason,
        considered=tuple(considered),
    )


def named_plan(plan: Plan, query: Query, scores: QueryScores, outlooks: PlanOutlooks) -> Choice:
    """The plan that a policy names, whatever else there is."""
    if not scores.arms:
        return choose_plan(query, scores, outlooks)
    # Of a part of the pool nothing is known: the replays asked all of it.
    whole = len(scores.arms) == len(outlooks.arms)
    expected = outlooks.expect(scores, query.fallback_price_usd) if whole else ()
    known = next((o for o in expected if o.plan == plan), None)
    return Choice(
        plan=plan,
        p_correct=known.p_correct if known else None,
        cost_usd=known.cost_usd if known else None,
        reason="the policy names it",
        considered=(known,) if known else (),
    )


def _keeps(outlook: PlanOutlook, limits: Limits) -> bool:
    tokens_usd = outlook.cost_usd - outlook.load_usd  # limits are on tokens' dollars
    cheap = limits.max_cost_usd is None or tokens_usd <= limits.max_cost_usd
    short = limits.max_calls is None or outlook.n_calls <= limits.max_calls
    return cheap and short


def _best_single(scores: QueryScores, v: float) -> PlanOutlook:
    objective = scores.objective(v)
    i = int(objective.argmin())
    return PlanOutlook(
        plan=Plan("single"),
        p_correct=float(scores.p_correct[i]),
        cost_usd=float(scores.cost_usd[i]),
        n_calls=1.0,
        objective_usd=float(objective[i]),
        load_usd=float(scores.load_usd[i]),
    )


def _abstain(reason: str, considered: list[PlanOutlook]) -> Choice:
    return Choice(
        plan=ABSTAIN, p_correct=0.0, cost_usd=0.0, reason=reason, considered=tuple(considered)
    )
