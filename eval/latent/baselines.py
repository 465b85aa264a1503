"""Other ways to use the same members: alone, routed, voting, put together, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from eval.latent.answering import MAX_TOKENS, answers
from experts.lab.composites.chats import told
from experts.lab.composites.questions import LatentQuestion
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.values import Arm, Limits, Message, Query
from orchestrator.aggregators.synthesis import synthesis_call

Said = Mapping[str, Sequence[str]]
"""Answers by member."""


def alone(team: Team, questions: Sequence[LatentQuestion]) -> dict[str, list[str]]:
    """What each member says by itself."""
    texts = [q.text for q in questions]
    return {name: answers(team, texts, [Route(name)] * len(texts)) for name in team.card.names}


def any_right(said: Said, questions: Sequence[LatentQuestion]) -> list[bool]:
    """Whether the best of all routers over the members would be right: one that knows who is."""
    return [any(said[m][i] == q.answer for m in said) for i, q in enumerate(questions)]


def votes(said: Said) -> list[str]:
    """The answer that most members give; the first of those that as many give."""
    return [Counter(row).most_common(1)[0][0] for row in zip(*said.values(), strict=True)]


def synthesised(team: Team, by: str, said: Said, questions: Sequence[LatentQuestion]) -> list[str]:
    """A member is shown the others' answers and writes one: in the form of the aggregator
    ``synthesis`` or, where that is longer than it can read, behind the question, as it was trained
    to be told things."""
    member = team.members[by]
    shown = []
    for i, q in enumerate(questions):
        message = Message(role="user", content=q.text)
        query = Query(query_id="q", messages=(message,), fallback_price_usd=1.0, limits=Limits())
        call = synthesis_call(query, Arm(by), [said[m][i] for m in said])
        room = member.model.config.max_position_embeddings - MAX_TOKENS
        if len(member.prompt(call.messages).ids) <= room:
            shown.append(call.messages[-1].content)
        else:
            shown.append(told(q.text, " ".join(said[m][i] for m in said if m != by)))
    return answers(team, shown, [Route(by)] * len(shown))


def two_calls(team: Team, questions: Sequence[LatentQuestion]) -> list[str]:
    """Ask the one who knows the first step, in words, and tell the other. Who they are is given:
    no strategy could choose better."""
    texts = [q.text for q in questions]
    first = answers(team, texts, [Route(q.members[0]) for q in questions])
    asked = [told(text, said) for text, said in zip(texts, first, strict=True)]
    second = answers(team, asked, [Route(q.members[-1]) for q in questions])
    return [
        b if len(q.members) > 1 else a for a, b, q in zip(first, second, questions, strict=True)
    ]
