"""Tool calls between OpenAI's protocol and our values, and as an answer that can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from experts.answers import extract_answer
from experts.values import Message, ToolCall


def openai_message(message: Message) -> dict[str, Any]:
    """A turn as OpenAI's protocol writes it.

    >>> openai_message(Message(role="tool", content="18 degrees", tool_call_id="c1"))
    {'role': 'tool', 'content': '18 degrees', 'tool_call_id': 'c1'}
    """
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        # Some providers refuse an empty text beside calls; none refuses null.
        said |= {
            "content": message.content or None,
            "tool_calls": openai_tool_calls(message.tool_calls),
        }
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def openai_tool_calls(calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in calls
    ]


def read_tool_calls(said: Iterable[dict[str, Any]]) -> tuple[ToolCall, ...]:
    """Inverse of ``openai_tool_calls``."""
    return tuple(
        ToolCall(id=c["id"], name=c["function"]["name"], arguments=c["function"]["arguments"])
        for c in said
    )


def tools_of(extra: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The caller's functions, of ``Sampling.extra``; none where it brings none."""
    tools: list[dict[str, Any]] = json.loads(dict(extra).get("tools", "[]"))
    return tools


def final_answer(text: str, calls: Sequence[ToolCall]) -> str:
    """What is compared and voted on: the answer in the text or, where functions are to be called,
    these calls, without their ids and with the arguments in one order.

    >>> final_answer("", [ToolCall(id="c1", name="add", arguments='{"b":2, "a":1}')])
    '[{"add": {"a": 1, "b": 2}}]'
    """
    if not calls:
        return extract_answer(text)
    said = [{c.name: arguments_of(c.arguments)} for c in calls]
    # In ASCII: half a character, which JSON can write, is no text that can be kept.
    return json.dumps(said, sort_keys=True)


def arguments_of(said: str) -> Any:
    """The object that a model wrote, or what it wrote where that is no JSON."""
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return said
