"""What a durable run wants of people: answers, and leave to spend."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from experts.digests import call_digest
from experts.expert import Expert, Pool
from experts.human.desk import YES, Desk, Question
from experts.human.expert import HumanExpert
from experts.values import Call
from orchestrator.decision import Decision

APPROVER = "approval"
"""In the place of an expert's name, in questions that ask for leave to spend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class People:
    """Asks for one run. What is on the desk already is not asked again."""

    desk: Desk
    experts: Mapping[str, Expert]
    run_id: str
    approval_usd: float | None
    """More than that needs a yes; None asks for none."""
    approval_deadline_s: float
    now: Callable[[], float] = time.time

    def is_person(self, call: Call) -> bool:
        """Whether that is who the call asks."""
        return isinstance(self.experts[call.arm.expert], HumanExpert)

    def asked(self, call: Call) -> Question:
        """The question that a call to a person is."""
        expert = cast(HumanExpert, self.experts[call.arm.expert])
        return expert.ask_ahead(call, self.run_id)

    def approval_of_plan(self, decision: Decision) -> Question | None:
        """None where none is needed."""
        choice = decision.choice
        if choice is None or not self._is_dear(choice.cost_usd):
            return None
        told = (
            "What it will cost is not known."
            if choice.cost_usd is None or choice.p_correct is None
            else f"It is expected to cost {choice.cost_usd:.3g} $, and to be right with "
            f"{choice.p_correct:.0%}."
        )
        asks = f"May {choice.plan} answer this? {told}"
        return self._approval("plan", asks, decision.query.text)

    def approval_of_call(self, call: Call, pool: Pool) -> Question | None:
        """None where none is needed."""
        most_usd = pool.most_usd(call)
        if not self._is_dear(most_usd):
            return None
        asks = f"May {call.arm} be asked this? It may cost up to {most_usd:.3g} $."
        return self._approval(call_digest(call), asks, call.messages[-1].content)

    def _is_dear(self, usd: float | None) -> bool:
        """usd: None where it is not known, which may be any sum."""
        return self.approval_usd is not None and (usd is None or usd > self.approval_usd)

    def _approval(self, what: str, asks: str, about: str) -> Question:
        digest = hashlib.blake2b(f"{self.run_id} {what}".encode(), digest_size=8).hexdigest()
        now = self.now()
        return self.desk.put(
            Question(
                question_id=f"a-{digest}",
                kind="approval",
                expert=APPROVER,
                messages=(("user", about),),
                instructions=asks,
                price_usd=0.0,
                asked_at=now,
                deadline_at=now + self.approval_deadline_s,
                run_id=self.run_id,
            )
        )


def is_granted(question: Question) -> bool:
    """Of an approval that is settled: silence is a no."""
    return question.state == "answered" and question.answer == YES
