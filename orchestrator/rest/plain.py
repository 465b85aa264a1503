"""Plain requests: those that a glance understands, as most are that name an expert.

A glance only ever says "plain" to what ``schemas.ChatRequest`` takes, and reads the same from it;
whatever it does not know is for that class, errors too. Tests ask both about the same requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from experts.values import Message, Sampling

_FIELDS = frozenset({"model", "messages", "max_tokens", "temperature", "seed", "stream", "user"})
_MESSAGE_FIELDS = {"role", "content"}
_MAX_MESSAGES = 64
"""Longer conversations are few, and reading them takes longer than anything here."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain request."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    user: str
    stream: bool


def plain_chat(content: bytes, *, max_tokens: int) -> Plain | None:
    """The request, or None for one that needs a second look. max_tokens: the most that a request
    may ask for, and what one gets that does not say."""
    try:
        body = orjson.loads(content)
    except ValueError:
        return None
    if type(body) is not dict or not _FIELDS.issuperset(body):
        return None
    model, user, stream = body.get("model"), body.get("user", ""), body.get("stream", False)
    messages = _messages(body.get("messages"))
    sampling = _sampling(body, max_tokens)
    if not messages or sampling is None or type(stream) is not bool:
        return None
    if type(model) is not str or type(user) is not str:
        return None
    return Plain(model, messages, sampling, user, stream)


def _messages(said: Any) -> tuple[Message, ...] | None:
    """A system message or none, then user and assistant in turn, ended by a user with a text."""
    if type(said) is not list or not 0 < len(said) <= _MAX_MESSAGES:
        return None
    messages = []
    expected: tuple[str, ...] = ("system", "user")
    for message in said:
        if type(message) is not dict or message.keys() != _MESSAGE_FIELDS:
            return None
        role, content = message["role"], message["content"]
        if role not in expected or type(content) is not str:
            return None
        messages.append(Message(role=role, content=content))
        expected = ("assistant",) if role == "user" else ("user",)
    return tuple(messages) if role == "user" and content.strip() else None


def _sampling(body: dict[str, Any], most: int) -> Sampling | None:
    max_tokens = body.get("max_tokens", most)
    temperature, seed = body.get("temperature", 0.0), body.get("seed", 0)
    if type(max_tokens) is not int or not 0 < max_tokens <= most:
        return None
    if type(temperature) not in (int, float) or not 0 <= temperature <= 2:
        return None
    if type(seed) is not int or not 0 <= seed < 2**31:
        return None
    return Sampling(max_tokens=max_tokens, temperature=float(temperature), seed=seed)
