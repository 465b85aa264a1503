"""Ways to choose a tool for a question and to write its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from experts.expert import Expert
from experts.values import Arm, Call, Completion, Message, Sampling, ToolCall

_HANDLE = re.compile(r"\bH[1-9][0-9]*\b")
_MAX_TOKENS = 64
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A tool and its arguments; an empty name where nothing that can be called was chosen."""

    name: str
    arguments: Mapping[str, Any]
    call: ToolCall | None = None
    """As a model wrote it."""


NOTHING = Choice(name="", arguments={})


class Chooser(Protocol):
    """One choice for each question and the tools that it comes with."""

    async def choose(self, questions: Sequence[str], offers: Sequence[Tools]) -> list[Choice]: ...


class NearestDescription:
    """The tool whose name and description are nearest to the question in an embedding; arguments by
    pattern. No language model: the baseline."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder

    async def choose(self, questions: Sequence[str], offers: Sequence[Tools]) -> list[Choice]:
        told = {_told(tool): tool for offer in offers for tool in offer}
        vectors = dict(zip(told, self._embedder.embed(list(told)), strict=True))
        chosen = []
        for question, vector, offer in zip(
            questions, self._embedder.embed(list(questions)), offers, strict=True
        ):
            best = max(offer, key=lambda tool: float(vectors[_told(tool)] @ vector))
            handle = _HANDLE.search(question)
            names = list(best["function"]["parameters"]["properties"])
            chosen.append(
                Choice(
                    name=best["function"]["name"],
                    arguments={names[0]: handle.group()} if handle and names else {},
                )
            )
        return chosen


def _told(tool: Mapping[str, Any]) -> str:
    made = tool["function"]
    return f"{made['name'].replace('_', ' ')}: {made['description']}"


class ModelChooser:
    """A language model that calls tools."""

    def __init__(self, expert: Expert) -> None:
        self._expert = expert

    async def choose(self, questions: Sequence[str], offers: Sequence[Tools]) -> list[Choice]:
        calls = [
            self._call(i, (Message(role="user", content=q),), offer)
            for i, (q, offer) in enumerate(zip(questions, offers, strict=True))
        ]
        return [_chosen(said) for said in await self._expert.complete(calls)]

    async def answers(
        self,
        questions: Sequence[str],
        offers: Sequence[Tools],
        chosen: Sequence[Choice],
        results: Sequence[str],
    ) -> list[str]:
        """What it says once it has seen the results of its calls."""
        calls = []
        for i, (question, offer, choice, result) in enumerate(
            zip(questions, offers, chosen, results, strict=True)
        ):
            if choice.call is None:
                continue
            messages = (
                Message(role="user", content=question),
                Message(role="assistant", content="", tool_calls=(choice.call,)),
                Message(role="tool", content=result, tool_call_id=choice.call.id),
            )
            calls.append(self._call(i, messages, offer))
        said = iter(await self._expert.complete(calls)) if calls else iter(())
        return [next(said).text if choice.call is not None else "" for choice in chosen]

    def _call(self, number: int, messages: tuple[Message, ...], tools: Tools) -> Call:
        extra = (("tools", json.dumps(list(tools))),)
        return Call(
            query_id=f"iox-{number}",
            arm=Arm(self._expert.card.name),
            messages=messages,
            sampling=Sampling(max_tokens=_MAX_TOKENS, extra=extra),
        )


def _chosen(said: Completion) -> Choice:
    if not said.tool_calls:
        return NOTHING
    [call, *_] = said.tool_calls
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {}
    return Choice(name=call.name, arguments=arguments, call=call)
