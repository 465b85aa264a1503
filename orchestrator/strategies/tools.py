"""A model that calls tools uses those of the pool: it asks, they answer, it goes on.

Each tool call is a call of the pool like any other, so it is limited, billed and recorded. What a
tool says goes into the model's conversation as data and nowhere else: nothing here reads it, so it
cannot name whom to ask next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experts.answers import extract_answer
from experts.errors import UnknownName, UserError
from experts.expert import Pool
from experts.tool_calls import tools_of
from experts.tools.turns import Offer, asked_for
from experts.values import Arm, Completion, Message, Query
from orchestrator.aggregators import Belief, WeightedVote
from orchestrator.answer import Answer
from orchestrator.evidence import put
from orchestrator.strategies.asking import ask, by_success, hear, named, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores

_BROKEN = "<tool_call>"
"""Left in a text where it is no call to a tool on offer (experts/tool_formats.py)."""
_REMINDER = "That is no call of a tool that there is. Call one of those on offer, or answer."


def tools(
    belief: Belief, *, by: str = "", of: str = "", turns: float = 4, solver: str = ""
) -> Strategy:
    """At most ``turns`` replies of ``by`` (the likeliest arm whose expert calls tools), the calls
    that it wrote made between them. ``of`` names the servers and tools on offer, with spaces
    between them; all when empty. Where ``by`` calls none, its reply is the answer, or that of
    ``solver``.

    What cannot be called, and what fails, is told to the model, which may go on without. Where no
    answer comes of it, and where the caller brings functions of its own, arms are asked plainly.
    """

    def plainly(query: Query, scores: QueryScores, heard: Sequence[Completion]) -> Steps:
        heard = yield from or_anyone(query, scores, heard)
        return WeightedVote(belief).merge(query, heard, scores)

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        if not scores.arms:
            return WeightedVote(belief).merge(query, [], scores)
        caller, offer = _caller(by, scores, pool), _offer(of, query, pool)
        if caller is None or not offer.specs or tools_of(query.sampling.extra):
            heard = yield from hear([ask(query, caller)] if caller else [])
            return (yield from plainly(query, scores, heard))

        sampling = replace(query.sampling, extra=(*query.sampling.extra, *offer.extra))
        talk, used, n_called = query.messages, list[Arm](), 0
        for turn in range(int(turns)):
            [said] = yield [put(query, caller, talk, sampling=sampling, sample=turn)]
            if not said.ok:
                return (yield from plainly(query, scores, [said]))
            if not said.tool_calls:
                if solver and not turn:
                    heard = yield from hear([ask(query, named(solver, scores, pool))])
                    return (yield from plainly(query, scores, heard))
                if not said.text.strip():
                    break
                if _BROKEN not in said.text:
                    return _answer(said, used)
                spoken = Message(role="assistant", content=said.text)
                talk = (*talk, spoken, Message(role="user", content=_REMINDER))
            elif turn + 1 < int(turns):
                wanted = asked_for(offer, query, said, first_sample=n_called)
                done = yield from hear(wanted.calls)
                n_called += len(wanted.calls)
                used += [c.call.arm for c in done if c.ok]
                talk = (*talk, *wanted.messages(done))
        answer = yield from plainly(query, scores, [])
        return answer.with_notes(f"{caller} came to no answer in {int(turns)} turns")

    return strategy


def check_tools(by: str, of: str, pool: Pool) -> None:
    """Raises as ``tools`` would at the first question: UnknownExpert and UnknownName for an arm and
    for tools that nobody has, UserError for an arm that calls no tools."""
    if by:
        card = pool.card(Arm.parse(by).expert)
        _check_calls_tools(by, card.name, pool)
    _named(of, pool)


def _caller(by: str, scores: QueryScores, pool: Pool) -> Arm | None:
    """Raises UnknownExpert for one that nobody has, UserError for one that calls no tools."""
    if not by:
        able = _able(pool)
        return next((arm for arm in by_success(scores) if arm.expert in able), None)
    arm = named(by, scores, pool)
    _check_calls_tools(by, arm.expert, pool)
    return arm


def _able(pool: Pool) -> set[str]:
    return {card.name for card in pool.cards if "tools" in card.takes}


def _check_calls_tools(by: str, expert: str, pool: Pool) -> None:
    if expert not in (able := _able(pool)):
        raise UserError(
            f"{by} calls no tools, so it cannot be `by` of the strategy tools. Those that do: "
            f"{', '.join(sorted(able)) or 'none; see docs/tools.md'}."
        )


def _offer(of: str, query: Query, pool: Pool) -> Offer:
    """The tools that ``of`` names, of those that the caller allows. Raises UnknownName."""
    allowed = query.limits.experts
    names = [n for n in _named(of, pool) if allowed is None or n in allowed]
    return Offer.of(pool.cards, dict.fromkeys(names))


def _named(of: str, pool: Pool) -> list[str]:
    specs = [card.tool for card in pool.cards if card.tool is not None]
    known = [name for spec in specs for name in (spec.server, spec.card_name)]
    for word in of.split():
        if word not in known:
            raise UnknownName(word, known, what="tool or server")
    words = of.split() or [spec.server for spec in specs]
    return [s.card_name for w in words for s in specs if w in (s.server, s.card_name)]


def _answer(said: Completion, used: Sequence[Arm]) -> Answer:
    return Answer(
        text=said.text,
        answer=extract_answer(said.text),
        p_correct=None,
        contributors=tuple(dict.fromkeys((said.call.arm, *used))),
        completions=(said,),
    )
