"""Best of several by a judge: every two candidates are compared, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from experts.values import Arm, Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, Aggregator, Belief, agreed, has_answer
from orchestrator.aggregators.comparison import comparison, verdict
from orchestrator.aggregators.weighted_vote import WeightedVote
from orchestrator.answer import no_answer
from orchestrator.evidence import put
from orchestrator.steps import Steps
from routers.scores import QueryScores


def best_of(belief: Belief, judge: Arm, *, candidates: int = 3) -> Aggregator:
    """The candidate that wins most comparisons; ties go to the likelier one before anybody judged.

    Candidates are the distinct answers, the likeliest few of them, each in the words of whoever was
    heard first. A winner must win in both orders: a verdict that flips with the order is a tie, and
    so is one that cannot be read or did not come. All comparisons are asked at once, two calls
    each; where all agree, one was heard or nobody has an answer, nobody is asked.
    """

    def merge(query: Query, completions: Sequence[Completion], scores: QueryScores) -> Steps:
        ranked = [group for _, group in WeightedVote(belief).ranked(completions, scores)]
        if not ranked:
            return no_answer(ALL_FAILED)
        shown = ranked[: max(1, candidates)] if has_answer(ranked[0][0]) else ranked[:1]
        pairs = list(combinations(range(len(shown)), 2))
        wins = [0.0] * len(shown)
        unread = 0
        if pairs:
            texts = [group[0].text for group in shown]
            verdicts = yield [
                put(query, judge, comparison(query.text, texts[a], texts[b]), purpose="judge")
                for i, j in pairs
                for a, b in ((i, j), (j, i))
            ]
            read = [verdict(c) for c in verdicts]
            unread = read.count(None)
            for (i, j), one, other in zip(pairs, read[::2], read[1::2], strict=True):
                if (one, other) == ("a", "b"):
                    wins[i] += 1
                elif (one, other) == ("b", "a"):
                    wins[j] += 1
                else:
                    wins[i] += 0.5
                    wins[j] += 0.5
        best = max(range(len(shown)), key=lambda i: (wins[i], -i))
        answer = agreed(shown[best], None, ranked)
        if unread:
            answer = answer.with_notes(f"{unread} of {2 * len(pairs)} verdicts of {judge} are none")
        return answer

    return merge
