"""A scripted expert, for tests of your own routers and strategies and of ours.

It answers from a mapping or a function, fails when told to, charges its card's prices, and counts
its batches. Nothing in it is random.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from experts.answers import extract_answer
from experts.cards import ExpertCard, Prices
from experts.values import Call, Completion, Delta, Usage

Script = Mapping[str, str] | Callable[[Call], str]

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
        context_tokens: int = 4096,
    ) -> None:
        self._card = ExpertCard(
            name=name,
            kind="fake",
            description="A scripted expert.",
            prices=prices,
            context_tokens=context_tokens,
        )
        self._script, self._default = script, default
        self._latency_s, self._logprob = latency_s, logprob
        self.batches: list[tuple[Call, ...]] = []
        """Every batch that was asked, in order."""

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        self.batches.append(tuple(calls))
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        return [self._answer(call) for call in calls]

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        self.batches.append((call,))
        completion = self._answer(call)
        words = completion.text.split(" ") if completion.ok else []
        for i, word in enumerate(words):
            await asyncio.sleep(self._latency_s)
            usage = Usage(input_tokens=completion.usage.input_tokens, output_tokens=i + 1)
            yield Delta(text=word if i == 0 else f" {word}", usage=usage)
        yield completion

    def _answer(self, call: Call) -> Completion:
        asked = Usage(input_tokens=sum(len(m.content.split()) for m in call.messages))
        try:
            text = self._say(call)
        except Exception as error:  # a script may fail in any way, as real experts do
            return Completion(
                call=call,
                usage=asked,
                cost_usd=self._card.prices.cost_usd(asked),
                latency_s=self._latency_s,
                finish_reason="error",
                error=str(error) or type(error).__name__,
                error_code="failed",
            )
        usage = Usage(input_tokens=asked.input_tokens, output_tokens=len(text.split(" ")))
        return Completion(
            call=call,
            text=text,
            answer=extract_answer(text),
            usage=usage,
            cost_usd=self._card.prices.cost_usd(usage),
            latency_s=self._latency_s,
            logprob=self._logprob(call),
        )

    def _say(self, call: Call) -> str:
        if callable(self._script):
            return self._script(call)
        asked = next(m.content for m in reversed(call.messages) if m.role == "user")
        return self._script.get(asked, self._default)
