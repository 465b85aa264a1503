"""Ranked choice: experts that name several answers, the likeliest first, and a run-off among them.

A completion is a ballot. One that is asked in the mode ``ranked`` ends in ``Answer: 12 > 10 > 15``;
any other is a ballot with one name. Ranked votes of samples of one model beat plain ones on
reasoning questions (arXiv:2505.10772).
"""

from __future__ import annotations

from collections.abc import Sequence

from experts.equality import canonical
from experts.values import Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, agreed, by_answer, has_answer, minority_views
from orchestrator.answer import Answer, no_answer
from routers.scores import QueryScores

_BETWEEN = " > "
MOST_NAMES = 5
"""Of a ballot; what follows is not counted."""


class RankedChoice:
    """Instant run-off: while no answer leads more than half of the ballots that still count, the
    one that leads fewest is struck. Among those it is the one that is named by fewest ballots at
    all, then the one heard last. It says nothing of how likely the winner is right."""

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        heard = [c for c in completions if has_answer(c)]
        if not heard:
            groups = by_answer(completions)  # nobody is on a ballot
            return agreed(groups[0], None, groups) if groups else no_answer(ALL_FAILED)
        ballots = _ballots([c.answer for c in heard])
        winner = run_off(ballots)
        first = [c for c, ballot in zip(heard, ballots, strict=True) if ballot[0][0] == winner]
        for c, ballot in zip(heard, ballots, strict=True):
            named = dict(ballot)
            if winner in named:
                spoken = first or [c]
                others = [[o] for o in heard if o not in spoken]
                whole = agreed(spoken, None)
                # Whoever named several: the answer is the one that won, not the list.
                return Answer(
                    text=whole.text,
                    answer=named[winner],
                    p_correct=None,
                    contributors=whole.contributors,
                    completions=whole.completions,
                    tool_calls=whole.tool_calls,
                    notes=minority_views(others),
                )
        raise AssertionError("a run-off is won by somebody who is on a ballot")


Ballot = Sequence[tuple[str | None, str]]
"""Answers from the likeliest on: one writing for equal ones, and as it was written."""


def _ballots(answers: Sequence[str]) -> list[Ballot]:
    names = [
        [name.strip() for name in answer.split(_BETWEEN)[:MOST_NAMES] if name.strip()] or [answer]
        for answer in answers
    ]
    keys = iter(canonical([name for ballot in names for name in ballot]))
    ballots: list[Ballot] = []
    for ballot in names:
        seen: dict[str | None, str] = {}
        for name in ballot:
            seen.setdefault(next(keys), name)
        ballots.append(list(seen.items()))
    return ballots


def run_off(ballots: Sequence[Ballot]) -> str | None:
    """The winner's key; at least one ballot with one name."""
    order = list(dict.fromkeys(key for ballot in ballots for key, _ in ballot))
    standing = set(order)
    while True:
        leads = dict.fromkeys((k for k in order if k in standing), 0)
        for ballot in ballots:
            for key, _ in ballot:
                if key in standing:
                    leads[key] += 1
                    break
        top = max(leads, key=leads.__getitem__)
        if leads[top] * 2 > sum(leads.values()) or len(leads) == 1:
            return top
        named = {k: sum(any(k == key for key, _ in ballot) for ballot in ballots) for k in leads}
        standing.remove(min(reversed(leads), key=lambda k: (leads[k], named[k])))
