"""Conversations that go on: which arms have read them, as far as their servers may still know.

OpenAI's protocol has no conversations: a client sends all earlier turns again. So they are known by
a keyed digest of these turns, the caller included; no text is kept, and nobody can find out by
asking whether somebody else had the same conversation. It is in memory only, as the caches are
that it is about: a restart forgets them, which costs a discount and nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from experts.values import Arm, Call, Completion, Message, Query, ToolCall
from orchestrator.answer import Answer

KEPT_S = 300.0
"""OpenAI keeps what was read for 5 to 10 minutes without use (platform.openai.com, prompt caching),
Anthropic for 5; vLLM until it needs the room."""
MAX_CONVERSATIONS = 10_000
_PRIOR_TOKENS = 4096.0
"""How much of a conversation a server may read again before it is believed to keep none: some begin
to at 1024 tokens, and some have a price for it and do it only when they are asked to."""


@dataclass(slots=True)
class _Kept:
    """What an expert's server had of what it was expected to have, in tokens."""

    expected: float = _PRIOR_TOKENS
    found: float = _PRIOR_TOKENS


class Conversations:
    """Of one process; safe to use from several threads."""

    def __init__(
        self,
        *,
        max_conversations: int = MAX_CONVERSATIONS,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max, self._kept_s, self._clock = max_conversations, kept_s, clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._read: OrderedDict[bytes, tuple[float, dict[Arm, int]]] = OrderedDict()
        """By digest of a conversation that ends with an answer: until when, and how many tokens
        each arm has read and said of it."""
        self._shares: dict[str, _Kept] = {}
        """By expert."""

    def __len__(self) -> int:
        return len(self._read)

    def expected_tokens(self, query: Query) -> dict[Arm, float]:
        """By arm, tokens of this conversation that its server is expected to have; nothing for one
        that begins, that nobody here has answered lately, or that another caller has."""
        with self._lock:
            return {
                arm: n * share.found / share.expected
                for arm, n in self._known(query).items()
                for share in (self._shares.get(arm.expert, _Kept()),)
            }

    def answered(self, query: Query, answer: Answer) -> None:
        """Remember who has read this conversation, and whether its servers had what was expected
        of the turns before."""
        self.heard(query, answer.completions, answer.text, answer.tool_calls)

    def heard(
        self,
        query: Query | Call,
        completions: Sequence[Completion],
        text: str,
        tool_calls: tuple[ToolCall, ...],
    ) -> None:
        """As ``answered``: what was answered by these calls, or by one of its own."""
        read: dict[Arm, int] = {}
        with self._lock:
            before = self._known(query)
            for completion in completions:
                call, usage = completion.call, completion.usage
                # Only the conversation as it stands: strategies also ask questions of their own.
                if not completion.ok or usage.estimated or call.messages != query.messages:
                    continue
                if call.arm in before:
                    share = self._shares.setdefault(call.arm.expert, _Kept())
                    share.expected += before[call.arm]
                    share.found += min(usage.cached_tokens, before[call.arm])
                said = usage.output_tokens if completion.text == text else 0
                read[call.arm] = max(read.get(call.arm, 0), usage.input_tokens + said)
            if not read:
                return
            reply = Message(role="assistant", content=text, tool_calls=tool_calls)
            digest = self._digest(query, (*query.messages, reply))
            self._read[digest] = self._clock() + self._kept_s, read
            self._read.move_to_end(digest)
            while len(self._read) > self._max:
                self._read.popitem(last=False)

    def _known(self, query: Query | Call) -> dict[Arm, int]:
        """What was read of the conversation up to its last answer."""
        turns = query.messages
        answers = [i for i, message in enumerate(turns) if message.role == "assistant"]
        if not answers:
            return {}
        until, read = self._read.get(self._digest(query, turns[: answers[-1] + 1]), (0.0, {}))
        return read if self._clock() < until else {}

    def _digest(self, query: Query | Call, messages: Sequence[Message]) -> bytes:
        turns = [
            # Clients trim what they were sent, and send null where there was no text.
            [m.role, m.content.strip(), m.tool_call_id]
            + [[c.id, c.name, c.arguments] for c in m.tool_calls]
            for m in messages
        ]
        # Tools stand before the conversation in every prompt: with others, nothing is kept of it.
        told = orjson.dumps([query.caller, dict(query.sampling.extra).get("tools"), turns])
        return hashlib.blake2b(told, key=self._key, digest_size=16).digest()
