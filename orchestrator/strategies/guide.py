"""Guide, solver, judge: a strong model says how, a cheap one does it, and it is looked at."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import Belief, First
from orchestrator.evidence import alongside, put
from orchestrator.strategies.asking import ask, ladder, named, or_anyone
from orchestrator.strategies.automix import share_right, verifications
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores

_ADVICE = (
    "Do not answer the question above. Write a hint of at most three sentences for somebody who "
    "will: what it really asks, which steps lead there, and where mistakes are made."
)
_USE = (
    "The hint may be of use, or wrong. Answer the question. End with one line that begins with "
    "'Answer:' and holds the final answer only."
)


def guide(belief: Belief, *, by: str = "", solver: str = "", judge: str = "") -> Strategy:
    """``by`` (the likeliest arm) gives a hint, ``solver`` (the cheapest worth asking) answers with
    it, ``judge`` (as ``by``) says right or wrong; at wrong, ``by`` answers itself. A hint that
    fails is done without, and a verdict that cannot be read lets the answer stand.

    Worth it where answers are long and hints are short: the strong model's words are what costs.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        if not scores.arms:
            return First(belief).merge(query, [], scores)
        strong = named(by, scores, pool)
        doer = named(solver, scores, pool) if solver else ladder(scores)[0]
        examiner = named(judge, scores, pool) if judge else strong
        if doer == strong:  # nobody to guide
            heard: list[Completion] = list((yield [ask(query, strong)]))
        else:
            [hint] = yield [put(query, strong, alongside(query, {}, _ADVICE), purpose="plan")]
            if hint.ok and hint.text.strip():
                prompt = alongside(query, {"hint": hint.text}, _USE)
                heard = list((yield [put(query, doer, prompt)]))
            else:
                heard = list((yield [ask(query, doer)]))
            if heard[0].ok:
                verdicts = yield verifications(query, heard[0], examiner, 1)
                if share_right(list(verdicts)) == 0.0:
                    said = yield [ask(query, strong)]
                    # Its own answer counts, and the one that it refused is kept as a minority view.
                    heard = [*said, *heard]
        heard = yield from or_anyone(query, scores, heard)
        return First(belief).merge(query, heard, scores)

    return strategy
