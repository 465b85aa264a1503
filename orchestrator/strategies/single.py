"""Ask one arm; if it fails, the next best. Also: ask exactly this arm, and ask nobody."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Arm, Completion, Query
from orchestrator.aggregators import Belief, First
from orchestrator.answer import Answer, no_answer
from orchestrator.strategies.asking import ask, by_objective
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores
from routers.stand_ins import stand_ins


def single(belief: Belief) -> Strategy:
    """The arm with the least cost + (1 - p) V, or one that may stand in for it while it is not
    loaded. Its tokens can be streamed as they come."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        heard: list[Completion] = []
        for arm in by_objective(query, scores):
            others = stand_ins(scores, arm, query.fallback_price_usd)
            heard += yield [ask(query, arm, streams_answer=True, stand_ins=others)]
            if heard[-1].ok:
                break
        return First(belief).merge(query, heard, scores)

    return strategy


def only(query: Query, arm: Arm) -> Steps:
    """The arm that the caller named, without a router: nothing is known of its chances."""
    [completion] = yield [ask(query, arm, streams_answer=True)]
    if not completion.ok:
        return named_failed()
    return Answer(
        text=completion.text,
        answer=completion.answer,
        p_correct=None,
        contributors=(arm,),
        tool_calls=completion.tool_calls,
        completions=(completion,),
    )


def named_failed() -> Answer:
    return no_answer("the expert that was named failed")


def abstain(belief: Belief) -> Strategy:
    """Answer nothing, at no cost: the query goes to its owner's fallback."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        return no_answer("no plan is worth its cost for this query", abstained=True)
        yield []  # makes this a generator, as every strategy is

    return strategy
