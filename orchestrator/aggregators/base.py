"""What an aggregator is, and what all of them share: who agrees with whom, and who does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experts.equality import canonical
from experts.values import Completion, Query
from orchestrator.answer import Answer
from orchestrator.steps import Steps
from routers.scores import QueryScores

Belief = Callable[[Completion, QueryScores], float]
"""P(right) of one completion in [0, 1], such as ``AnswerConfidence.p_right``."""

Merge = Callable[[Query, Sequence[Completion], QueryScores], Answer]
"""Makes one answer of several completions, and asks nobody."""

Aggregator = Callable[[Query, Sequence[Completion], QueryScores], Steps]
"""The same for all: one that asks yields calls, one that asks nobody yields none. A strategy writes
``yield from`` for either, so every dollar passes through the driver that runs it."""

ALL_FAILED = "every expert that was asked failed"
_SHOWN_CHARS, _SHOWN_VIEWS = 80, 3


def asking_nobody(merge: Merge) -> Aggregator:
    """An aggregator of a pure function."""

    def steps(query: Query, completions: Sequence[Completion], scores: QueryScores) -> Steps:
        return merge(query, completions, scores)
        yield []  # makes this a generator

    return steps


def by_answer(completions: Sequence[Completion]) -> list[list[Completion]]:
    """Successful completions by answer, in order of first appearance. Those without an answer are
    no view; where nobody has one, each stands alone, for it agrees with nobody."""
    heard = [c for c in completions if c.ok]
    if len(heard) < 2:
        return [heard] if heard else []
    groups: dict[str, list[Completion]] = {}
    for completion, key in zip(heard, canonical([c.answer for c in heard]), strict=True):
        if key is not None:
            groups.setdefault(key, []).append(completion)
    return list(groups.values()) or [[c] for c in heard]


def has_answer(completion: Completion) -> bool:
    """Something that can be right: it was said, and an answer was found in it."""
    return completion.ok and bool(completion.answer.strip())


def without(agreeing: Sequence[Completion], heard: Sequence[Completion]) -> list[list[Completion]]:
    """Successful completions by answer, those left out that are among the agreeing."""
    return by_answer([c for c in heard if not any(c is one for one in agreeing)])


def agreed(
    agreeing: Sequence[Completion],
    p_correct: float | None,
    others: Sequence[Sequence[Completion]] = (),
) -> Answer:
    """The answer that these completions, at least one, agree on. What the others say is kept in the
    notes: a confident majority may be wrong where a question lies between two fields
    (arXiv:2601.04416)."""
    return Answer(
        text=agreeing[0].text,
        answer=agreeing[0].answer,
        p_correct=p_correct,
        contributors=tuple(dict.fromkeys(c.call.arm for c in agreeing)),
        tool_calls=agreeing[0].tool_calls,
        completions=tuple(agreeing),
        notes=minority_views([group for group in others if group is not agreeing]),
    )


def minority_views(groups: Sequence[Sequence[Completion]]) -> tuple[str, ...]:
    """A line for each of the largest groups, and who is in it."""
    largest = sorted(groups, key=len, reverse=True)[:_SHOWN_VIEWS]
    return tuple(
        f"minority view of {', '.join(dict.fromkeys(str(c.call.arm) for c in group))}: "
        f"{_short(group[0].answer)}"
        for group in largest
    )


def _short(answer: str) -> str:
    cut = answer if len(answer) <= _SHOWN_CHARS else f"{answer[:_SHOWN_CHARS]}..."
    return repr(cut)
