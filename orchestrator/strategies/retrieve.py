"""Retrieval behind a gate: a retriever is an expert whose text goes into the next prompt."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import Belief, First
from orchestrator.evidence import alongside, put
from orchestrator.strategies.asking import ask, by_objective, named, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores

_USE = (
    "The documents were looked up for this question; they may be of use, beside the point, or "
    "wrong. Answer the question. End with one line that begins with 'Answer:' and holds the final "
    "answer only."
)


def retrieve(belief: Belief, *, by: str, below: float = 0.7, solver: str = "") -> Strategy:
    """Where ``solver`` (else the arm that is worth its price) is right without documents with a
    chance of ``below`` or more, it is asked plainly; elsewhere the arm ``by`` is asked the question
    first, and its text is put beside it as data. A retriever that fails or finds nothing is done
    without, and it never answers itself.

    ExpertRAG's gate (arXiv:2504.08744: cost of the base plus gate times retrieval), on P(right).
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        if not scores.arms:
            return First(belief).merge(query, [], scores)
        retriever = named(by, scores, pool)
        own = scores.without(retriever)
        able = [arm for arm in by_objective(query, scores) if arm != retriever]
        if not able:
            return First(belief).merge(query, [], scores)
        arm = named(solver, scores, pool) if solver else able[0]
        prompt = None
        if arm not in own.arms or own.p_correct[own.index(arm)] < below:
            [found] = yield [ask(query, retriever)]
            if found.ok and found.text.strip():
                prompt = alongside(query, {"documents": found.text}, _USE)
        heard: list[Completion] = []
        heard += yield [put(query, arm, prompt) if prompt else ask(query, arm)]
        heard = yield from or_anyone(query, own, heard)
        return First(belief).merge(query, heard, scores)

    return strategy
