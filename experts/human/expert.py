"""A person, or several who share a desk, as an expert.

A call is a question on the desk (``experts.human.desk``), and waits until it is answered, or until
its time is up: then it has failed, and costs nothing. An answer costs the card's price of a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from experts.answers import extract_answer
from experts.cards import ExpertCard
from experts.digests import call_digest
from experts.human.desk import Desk, Question
from experts.together import each_told
from experts.values import Call, Completion, Delta, Usage

CONTEXT_TOKENS = 1_000_000
"""People read on; a bound all the same, since it is in a card."""
_LOOK_S = 0.25
"""Between looks at the desk: nobody types faster."""


class HumanExpert:
    """Asks whoever looks at the desk. Keeps the expert protocol, and tells of each call when it is
    answered (``TellingExpert``)."""

    def __init__(
        self,
        card: ExpertCard,
        desk: Desk,
        *,
        deadline_s: float,
        instructions: str = "",
        look_s: float = _LOOK_S,
    ) -> None:
        """deadline_s: for an answer, from asking on."""
        self._card, self.desk = card, desk
        self._deadline_s, self._instructions, self._look_s = deadline_s, instructions, look_s

    @property
    def card(self) -> ExpertCard:
        return self._card

    def ask_ahead(self, call: Call, run_id: str) -> Question:
        """Put a call on the desk without waiting for it; when the question is settled, completing
        the call takes no time. The call's own ``timeout_s`` is for those who wait, and not kept."""
        return self._put(call, self._deadline_s, run_id)

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        done: dict[int, Completion] = {}
        await self.complete_each(calls, done.__setitem__)
        return [done[i] for i in range(len(calls))]

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        await each_told(calls, self._answered, tell)

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        """All of the answer at once."""
        completion = await self._answered(call)
        if completion.text:
            yield Delta(text=completion.text, usage=Usage())
        yield completion

    async def _answered(self, call: Call) -> Completion:
        deadline_s = self._deadline_s
        if call.timeout_s is not None:
            deadline_s = min(deadline_s, call.timeout_s)
        question = self._put(call, deadline_s)
        try:
            while not question.is_settled:
                await asyncio.sleep(self._look_s)
                question = await asyncio.to_thread(self.desk.look, question.question_id)
        except asyncio.CancelledError:
            self.desk.withdraw([question.question_id])
            return Completion(call=call, finish_reason="cancelled")
        return self._completion(call, question)

    def _put(self, call: Call, deadline_s: float, run_id: str | None = None) -> Question:
        now = time.time()
        return self.desk.put(
            Question(
                question_id=question_id(call),
                expert=self._card.name,
                messages=tuple((m.role, m.content) for m in call.messages),
                instructions=self._instructions,
                price_usd=self._card.prices.call_usd,
                asked_at=now,
                deadline_at=now + deadline_s,
                run_id=run_id,
            )
        )

    def _completion(self, call: Call, question: Question) -> Completion:
        latency_s = (question.settled_at or question.asked_at) - question.asked_at
        if question.state != "answered" or question.answer is None:
            why = "withdrawn" if question.state == "withdrawn" else "no answer in time"
            return Completion(
                call=call,
                latency_s=latency_s,
                finish_reason="error",
                error=f"{why}: {question.question_id} was asked of {self._card.name}",
                error_code="timeout",
            )
        return Completion(
            call=call,
            text=question.answer,
            answer=extract_answer(question.answer),
            cost_usd=self._card.prices.call_usd,
            latency_s=latency_s,
        )


def question_id(call: Call) -> str:
    """The same call is the same question, also in another process: who asks again finds what was
    answered meanwhile."""
    return f"h-{call_digest(call)[:16]}"
