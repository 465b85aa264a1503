"""The messages of a request, checked: OpenAI's, also as clients send back what they were sent.

Tools come and go in them: an assistant's turn may want functions called, and then each of these
calls has its result, as a message of its own, before the conversation goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from experts.values import Message, ToolCall, encodable
from orchestrator.rest.neutral import without_neutral

MAX_MESSAGES = 1000
"""Agents talk for long."""
_ECHOED: dict[str, tuple[Any, ...]] = {
    "refusal": (),  # any: it is in our own answers, and clients send these back as history
    "annotations": ([], None),
    "audio": (None,),
    "function_call": (None,),
    "reasoning_content": (),  # DeepSeek's, which is not for the next turn
    "reasoning": (),  # vLLM's and OpenRouter's name for it
}
"""Fields of an assistant's message that clients echo from a response, and the values at which they
say nothing."""

Text = Annotated[str, AfterValidator(encodable)]


def _plain_text(content: Any) -> Any:
    """Content given as text parts, joined; other kinds of parts are refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError("only text parts are supported: {'type': 'text', 'text': '...'}")
        texts.append(text)
    return "".join(texts)


class Body(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class CalledFunction(Body):
    """What a model wants called."""

    name: Text = Field(min_length=1)
    arguments: Text
    """As the model wrote them."""


class ToolCallBody(Body):
    """One call of an assistant's turn."""

    id: Text = Field(min_length=1)
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None
    """In our own streams, and some clients keep it."""

    def value(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


class ChatMessage(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(_plain_text)]
    name: str | None = None
    tool_calls: list[ToolCallBody] = Field(default_factory=list)
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_echoed(cls, message: Any) -> Any:
        """An assistant's message as it stands in a response is one that may be sent back. A tool
        that says nothing may say null."""
        if not isinstance(message, dict):
            return message
        if message.get("role") == "tool" and message.get("content", "") is None:
            return {**message, "content": ""}
        if message.get("role") != "assistant":
            return message
        kept = without_neutral(message, _ECHOED)
        if kept.get("tool_calls", ()) is None:
            del kept["tool_calls"]
        if kept.get("content") is None:
            if not kept.get("tool_calls") and not message.get("refusal"):
                raise ValueError("an assistant message needs content, a text, or tool_calls")
            kept["content"] = str(message.get("refusal") or "")
        return kept

    @model_validator(mode="after")
    def _of_its_role(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError(
                "a tool's message, and no other, needs tool_call_id: whose result it is"
            )
        return self

    def value(self) -> Message:
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=self.content,
            tool_calls=tuple(call.value() for call in self.tool_calls),
            tool_call_id=self.tool_call_id or "",
        )


def check_order(messages: Sequence[ChatMessage]) -> None:
    """System messages first, then user and assistant in turn; the results of an assistant's calls
    follow it; a user or a result is last. Raises ValueError."""
    is_system = [m.role in ("system", "developer") for m in messages]
    n_system = is_system.index(False) if False in is_system else len(messages)
    if any(is_system[n_system:]):
        raise ValueError("messages: system messages must come before all others")
    talk = messages[n_system:]
    _check_turns(talk)
    if not talk or talk[-1].role not in ("user", "tool"):
        raise ValueError(
            "messages: the last message must be a user's (or a tool's result): there is nothing "
            f"to answer; got {_roles(messages)}"
        )
    last = next(m for m in reversed(talk) if m.role == "user")
    if not last.content.strip():
        raise ValueError("messages: the last user message is empty; ask something")


_FOLLOWS = {"user": {"assistant"}, "assistant": {"user"}, "tool": {"assistant", "user"}}


def _check_turns(talk: Sequence[ChatMessage]) -> None:
    expected = {"user"}
    open_calls: set[str] = set()
    for message in talk:
        if message.role not in expected:
            if open_calls:
                break
            raise ValueError(
                "messages: after the system messages, user and assistant must take turns, and a "
                f"user message must be first and last; got {_roles(talk)}"
            )
        if message.tool_call_id is not None:
            _close_call(open_calls, message.tool_call_id)
        else:
            open_calls = {call.id for call in message.tool_calls}
            if len(open_calls) < len(message.tool_calls):
                raise ValueError("messages: two tool calls of one message have one id")
        expected = {"tool"} if open_calls else _FOLLOWS[message.role]
    if open_calls:
        raise ValueError(
            f"messages: tool calls without a result: {', '.join(sorted(open_calls))}; after the "
            "assistant message that makes them, send one tool message for each"
        )


def _close_call(open_calls: set[str], call_id: str) -> None:
    if call_id not in open_calls:
        raise ValueError(
            f"messages: the tool message for {call_id!r} answers no open call; tool_call_id is "
            "the id of a call in the assistant message before it"
        )
    open_calls.remove(call_id)


def _roles(messages: Sequence[ChatMessage]) -> str:
    return ", ".join(m.role for m in messages)
