"""Synthesis: a model reads all answers and writes one.

Sampling one good model beats this more often than not (Avengers' Table 6, arXiv:2505.19797:
synthesis 56.7 %, one direct answer 59.2 %, self-consistency 67.0 %), so it is for answers that
cannot be compared as strings, and for who has measured that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence

from experts.values import Arm, Call, Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, Aggregator, Belief, by_answer, minority_views
from orchestrator.aggregators.weighted_vote import WeightedVote
from orchestrator.answer import Answer, no_answer
from orchestrator.evidence import alongside, put
from orchestrator.seeded import seeded
from orchestrator.steps import Steps
from routers.scores import QueryScores

_FORM = (
    "These are candidate answers to the question above, in no order; some or all may be wrong. "
    "Judge them by their reasons and not by how many say the same. Then answer the question "
    "yourself. End with one line that begins with 'Answer:' and holds the final answer only."
)


def synthesis_call(query: Query, by: Arm, texts: Sequence[str]) -> Call:
    """The call that shows ``by`` these texts, in this order."""
    shown = {f"candidate_{n}": text for n, text in enumerate(texts, start=1)}
    return put(query, by, alongside(query, shown, _FORM))


def synthesis(belief: Belief, by: Arm, *, seed: int = 0) -> Aggregator:
    """One more call, which sees every answer in an order that is shuffled by ``seed`` and the
    query's id, and no names. Should it fail, the weighted vote of what it was shown is the answer.

    One answer alone is passed on as it is.
    """

    def merge(query: Query, completions: Sequence[Completion], scores: QueryScores) -> Steps:
        heard = [c for c in completions if c.ok]
        if not heard:
            return no_answer(ALL_FAILED)
        voted = WeightedVote(belief).merge(query, completions, scores)
        if len(heard) == 1:
            return voted
        order = seeded(query.query_id, seed, "synthesis").permutation(len(heard))
        [written] = yield [synthesis_call(query, by, [heard[int(i)].text for i in order])]
        if not written.ok or not written.text.strip():
            return voted.with_notes(f"{by} was to put the answers together and did not")
        # What agrees with it, and what does not; an answer that cannot be read agrees with nobody.
        groups = by_answer([written, *heard])
        with_it = groups[0] if groups[0][0] is written else [written]
        others = [group for group in groups if group is not with_it]
        return Answer(
            text=written.text,
            answer=written.answer,
            p_correct=None,
            contributors=tuple(dict.fromkeys(c.call.arm for c in with_it)),
            completions=(written,),
            tool_calls=written.tool_calls,
            notes=minority_views(others),
        )

    return merge
