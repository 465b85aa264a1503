"""A scripted expert, for tests of your own routers and strategies and of ours.

It answers from a mapping or a function, fails when told to, charges its card's prices, counts its
batches, and keeps the protocol to the letter: it stops when cancelled, at a call's timeout, at
``max_tokens``, and refuses what its context cannot hold. Nothing in it is random.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from experts.cards import ExpertCard, Prices
from experts.modes import DIRECT, Mode
from experts.tool_calls import final_answer
from experts.values import (
    Call,
    Completion,
    Delta,
    ErrorCode,
    FinishReason,
    ToolCall,
    Usage,
    failed_completion,
)

Said = str | tuple[ToolCall, ...]
"""A text, or the functions that it wants called."""
Script = Mapping[str, str] | Callable[[Call], Said]

DEFAULT_PRICES = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)


class FakeExpert:
    """Answers the last user message from ``script``; what is not in a mapping gets ``default``.

    A script function may raise: the call then fails as a real expert's would. Tokens are words.

    >>> import asyncio
    >>> expert = FakeExpert("sums", {"1+1?": "2"})
    >>> expert.card.name
    'sums'
    """

    def __init__(
        self,
        name: str,
        script: Script,
        *,
        default: str = "I do not know",
        prices: Prices = DEFAULT_PRICES,
        latency_s: float = 0.0,
        logprob: Callable[[Call], float | None] = lambda call: None,
        own_odds: Callable[[Call], float | None] = lambda call: None,
        context_tokens: int = 4096,
        version: str = "",
        takes: frozenset[str] = frozenset(),
        modes: tuple[Mode, ...] = (DIRECT,),
    ) -> None:
        self._card = ExpertCard(
            name=name,
            kind="fake",
            description="A scripted expert.",
            prices=prices,
            context_tokens=context_tokens,
            version=version,
            takes=takes,
            modes=modes,
        )
        self._script, self._default = script, default
        self._latency_s, self._logprob = latency_s, logprob
        self._own_odds = own_odds
        self.batches: list[tuple[Call, ...]] = []
        """Every batch that was asked, in order."""

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        self.batches.append(tuple(calls))
        try:
            if self._latency_s:
                timeouts = [math.inf if c.timeout_s is None else c.timeout_s for c in calls]
                await asyncio.sleep(min(self._latency_s, max(timeouts)))
        except asyncio.CancelledError:
            return [self._cancelled(call) for call in calls]
        return [replace(self._answer(call), n_batch=len(calls)) for call in calls]

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        """A word each ``latency_s`` seconds."""
        self.batches.append((call,))
        completion = self._answer(call)
        words = completion.text.split(" ") if completion.ok and completion.text else []
        for i, word in enumerate(words):
            try:
                await asyncio.sleep(self._latency_s)
            except asyncio.CancelledError:
                yield self._cancelled(call, " ".join(words[:i]))
                return
            usage = Usage(input_tokens=completion.usage.input_tokens, output_tokens=i + 1)
            yield Delta(text=word if i == 0 else f" {word}", usage=usage)
        yield completion

    def _answer(self, call: Call) -> Completion:
        asked = _asked(call)
        if asked.input_tokens >= self._card.context_tokens:
            return self._failed(call, Usage(), "the conversation is too long", "context_too_long")
        if call.timeout_s is not None and self._latency_s > call.timeout_s:
            return self._failed(call, asked, f"no answer within {call.timeout_s:g} s", "timeout")
        try:
            told = self._say(call)
        except Exception as error:  # a script may fail in any way, as real experts do
            return self._failed(call, asked, str(error) or type(error).__name__, "failed")
        tool_calls = told if isinstance(told, tuple) else ()
        words = told.split(" ") if isinstance(told, str) else []
        said = words[: call.sampling.max_tokens]
        text = " ".join(said)
        usage = Usage(input_tokens=asked.input_tokens, output_tokens=len(said))
        return Completion(
            call=call,
            text=text,
            answer=final_answer(text, tool_calls),
            tool_calls=tool_calls,
            usage=usage,
            cost_usd=self._card.prices.cost_usd(usage),
            latency_s=self._latency_s,
            logprob=self._logprob(call),
            own_odds=self._own_odds(call),
            finish_reason=_reason(tool_calls, is_cut=len(said) < len(words)),
        )

    def _failed(self, call: Call, usage: Usage, error: str, code: ErrorCode) -> Completion:
        was_made = code != "context_too_long"
        cost_usd = self._card.prices.cost_usd(usage, n_calls=int(was_made))
        return failed_completion(
            call, error, code, usage=usage, cost_usd=cost_usd, latency_s=self._latency_s
        )

    def _cancelled(self, call: Call, text: str = "") -> Completion:
        n_said = len(text.split(" ")) if text else 0
        usage = Usage(input_tokens=_asked(call).input_tokens, output_tokens=n_said)
        return Completion(
            call=call,
            text=text,
            usage=usage,
            cost_usd=self._card.prices.cost_usd(usage),
            finish_reason="cancelled",
        )

    def _say(self, call: Call) -> Said:
        if callable(self._script):
            return self._script(call)
        asked = next(m.content for m in reversed(call.messages) if m.role == "user")
        return self._script.get(asked, self._default)


def _reason(tool_calls: tuple[ToolCall, ...], *, is_cut: bool) -> FinishReason:
    return "tool_calls" if tool_calls else "length" if is_cut else "stop"


def _asked(call: Call) -> Usage:
    return Usage(input_tokens=sum(len(m.content.split()) for m in call.messages))
