"""Guards against confident mistakes at the border of two fields.

An expert that is asked outside of its field errs confidently and coherently, most where two fields
share their words (Transitive Expert Error, arXiv:2601.04416, which has no experiments). So: two
where the router is torn, a third where they disagree, the minority view kept, and a word where
nobody's field covers the question.
"""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Query
from orchestrator.aggregators import Belief, WeightedVote, by_answer
from orchestrator.answer import no_answer
from orchestrator.strategies.asking import ask, by_success, hear, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores

_Z = 1.645
"""One-sided 95 %."""
COVERAGE_GAP = "coverage gap"
"""What the note of a question begins with that nobody's field covers: they can be gathered."""


def guarded(
    belief: Belief, *, margin: float = 0.1, floor: float = 0.0, abstains: float = 0
) -> Strategy:
    """The likeliest arm alone, if it leads by ``margin`` and no other router would ask another;
    else with the second likeliest, or whom the other router would ask. Where these disagree, with
    the likeliest of the rest; the weighted vote decides.

    Where no arm's P(right) is ``floor`` or more even at the lower end of its 95 % interval, nobody
    covers the question: it is answered as a torn one, with a note, or not at all if it
    ``abstains``.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        ranked = by_success(scores)
        lowest = scores.p_correct - _Z * scores.sd
        is_gap = bool(ranked) and float(lowest.max()) < floor
        gap = f"{COVERAGE_GAP}: nobody is right with {floor:.0%} or more, surely"
        if is_gap and abstains:
            return no_answer(gap, abstained=True)
        p = [float(scores.p_correct[scores.index(arm)]) for arm in ranked]
        other = scores.other_choice
        second = [a for a in (other, *ranked) if a in scores and a != ranked[0]][:1]
        torn = second and (is_gap or other in second or p[0] - p[1] < margin)
        heard = yield from hear(
            [ask(query, arm) for arm in [*ranked[:1], *(second if torn else ())]]
        )
        if len(by_answer(heard)) > 1:
            rest = [arm for arm in ranked if arm not in {c.asked for c in heard}]
            heard += yield from hear([ask(query, arm) for arm in rest[:1]])
        heard = yield from or_anyone(query, scores, heard)
        answer = WeightedVote(belief).merge(query, heard, scores)
        return answer.with_notes(gap) if is_gap else answer

    return strategy
