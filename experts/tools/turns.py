"""From what a model wants called to calls of tools, and from their results to its next turn.

Pure: strategies use it in loops of their own, in any driver. The form is OpenAI's: an assistant's
message with its tool calls, then one message of the role ``tool`` for each, in order.

    offer = Offer.of(pool)
    [asked] = yield [ask(query, arm) with offer.extra in its sampling]
    turn = asked_for(offer, query, asked)
    done = (yield turn.calls) if turn.calls else []
    messages = (*query.messages, *turn.messages(done))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from experts.cards import ExpertCard
from experts.digests import prompt_digest
from experts.errors import UnknownName, UserError, did_you_mean
from experts.tool_calls import arguments_of
from experts.tools.cleaning import for_prompt
from experts.tools.spec import ToolSpec
from experts.values import Arm, Call, Completion, Message, Query, Sampling, ToolCall

MAX_CALLS_A_TURN = 16
_MAX_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a model is told of."""

    specs: tuple[ToolSpec, ...]

    @classmethod
    def of(cls, cards: Iterable[ExpertCard], names: Iterable[str] | None = None) -> Offer:
        """Of those of the cards that are tools: all, or those named (``server.tool``).

        Raises UnknownName, and UserError where two have one name for models.
        """
        tools = {card.name: card.tool for card in cards if card.tool is not None}
        chosen = list(tools if names is None else names)
        for name in chosen:
            if name not in tools:
                raise UnknownName(name, tools, what="tool")
        specs = tuple(tools[name] for name in chosen)
        by_function: dict[str, ToolSpec] = {}
        for spec in specs:
            other = by_function.setdefault(spec.function_name, spec)
            if other is not spec:
                raise UserError(
                    f"Models could not tell {spec.card_name!r} from {other.card_name!r}: both are "
                    f"called {spec.function_name!r} there. Rename one of the servers."
                )
        return cls(specs)

    @property
    def extra(self) -> tuple[tuple[str, str], ...]:
        """To be added to a call's ``Sampling.extra``; nothing where there are no tools."""
        if not self.specs:
            return ()
        tools = [spec.function() for spec in self.specs]
        return (("tools", json.dumps(tools, ensure_ascii=False)),)

    def spec(self, function_name: str) -> ToolSpec | None:
        return next((s for s in self.specs if s.function_name == function_name), None)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model wanted called in one turn."""

    said: Message
    """Its turn, as it goes into the conversation."""
    calls: tuple[Call, ...]
    """To be made, in the order of its tool calls."""
    refused: tuple[tuple[str, str], ...]
    """Ids of tool calls that cannot be made, with the reason that the model is told."""

    def messages(self, completions: Sequence[Completion]) -> tuple[Message, ...]:
        """The model's turn and the results. completions: of ``calls``, in their order."""
        told = dict(self.refused)
        for call, completion in zip(self.calls, completions, strict=True):
            told[call.messages[-1].tool_calls[0].id] = result_text(completion)
        results = (
            Message(role="tool", content=told[c.id], tool_call_id=c.id)
            for c in self.said.tool_calls
        )
        return self.said, *results


def asked_for(offer: Offer, query: Query, completion: Completion, *, first_sample: int = 0) -> Turn:
    """The calls that a model's completion asks for. What it wrote is checked for its name and for
    being an object; whether the arguments are right, the tool's expert says.

    first_sample: how many calls of tools there were before it, so that each call of a query has a
    number of its own, by which it can be found again.
    """
    said = _with_ids(completion.tool_calls)
    calls: list[Call] = []
    refused: list[tuple[str, str]] = []
    for i, tool_call in enumerate(said):
        spec = offer.spec(tool_call.name)
        if problem := _problem(tool_call, spec, offer, i):
            refused.append((tool_call.id, f"Error: {problem}"))
        elif spec is not None:
            calls.append(_call(spec, query, tool_call, first_sample + len(calls)))
    message = Message(role="assistant", content=completion.text, tool_calls=said)
    return Turn(said=message, calls=tuple(calls), refused=tuple(refused))


def result_text(completion: Completion) -> str:
    """What a model is told of a call: the text, which is data, or why there is none."""
    if completion.ok:
        return for_prompt(completion.text) or "(empty)"
    return f"Error: {for_prompt(completion.error or 'it failed')[:_MAX_ERROR_CHARS]}"


def _call(spec: ToolSpec, query: Query, tool_call: ToolCall, sample: int) -> Call:
    # The conversation is nobody's business but the model's: a tool is sent its arguments.
    message = Message(role="assistant", content="", tool_calls=(tool_call,))
    return Call(
        query_id=query.query_id,
        arm=Arm(spec.card_name),
        messages=(message,),
        sampling=Sampling(),
        sample=sample,
        prompt=prompt_digest((message,)),
        timeout_s=query.limits.timeout_s,
        caller=query.caller,
        account=query.account,
    )


def _problem(tool_call: ToolCall, spec: ToolSpec | None, offer: Offer, number: int) -> str | None:
    if spec is None:
        known = [s.function_name for s in offer.specs]
        name = for_prompt(tool_call.name)[:100]
        return (
            f"there is no tool {name!r}.{did_you_mean(name, known)} "
            f"Known: {', '.join(known) or 'none'}."
        )
    if number >= MAX_CALLS_A_TURN:
        return f"only {MAX_CALLS_A_TURN} tools are called in one turn."
    if not isinstance(arguments_of(tool_call.arguments or "{}"), dict):
        return "the arguments must be one JSON object."
    return None


def _with_ids(tool_calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """As they are, where each has an id of its own, by which its result is told."""
    ids = {c.id for c in tool_calls}
    if "" not in ids and len(ids) == len(tool_calls):
        return tuple(tool_calls)
    return tuple(replace(c, id=f"call_{i}") for i, c in enumerate(tool_calls))
