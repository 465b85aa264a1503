"""What a call asks, in a few characters: two calls of one digest ask the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from experts.values import Call, Message


def call_digest(call: Call) -> str:
    """32 hexadecimal digits of the query, the arm, the messages, the sampling, the number of the
    sample and the purpose. Not of the time and the money that it may take, which say nothing of
    what is asked."""
    sampling = call.sampling
    told = [
        call.query_id,
        str(call.arm),
        [_told(message) for message in call.messages],
        [sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed],
        [list(sampling.stop), [list(field) for field in sampling.extra]],
        call.sample,
        call.purpose,
    ]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def prompt_digest(messages: Sequence[Message], tools: str = "") -> str:
    """16 hexadecimal digits of a prompt: what recorded completions are looked up by where it is
    not the query's own (``Call.prompt``). tools: the functions on offer, as JSON. The ids of tool
    calls, which are drawn at random by some servers, are not in it."""
    told = [f"{m.role}\0{m.content}{_calls(m)}" for m in messages]
    text = "\0".join([*told, *([tools] if tools else [])])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _calls(message: Message) -> str:
    return "".join(f"\0{c.name}\0{c.arguments}" for c in message.tool_calls)


def _told(message: Message) -> list[object]:
    calls = [[c.id, c.name, c.arguments] for c in message.tool_calls]
    return [message.role, message.content, calls, message.tool_call_id]
