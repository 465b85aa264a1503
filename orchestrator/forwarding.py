"""The short way to a named expert: one call, with no decision to take and no strategy to run.

Whether the call may be made, how it is made and what is written down is the same as on the way of
all others (the till, the driver's ``ask_batch``, the ledger's rows). Only what leads there is left
out, which for one call is most of the work. What does not go well is told in the other way's words.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experts.ids import new_id
from experts.values import Arm, Call, Completion, Limits, Message, Query, Sampling
from orchestrator.conclave import Conclave
from orchestrator.decision import Decision, Result
from orchestrator.drivers.calling import ask_batch
from orchestrator.failures import raise_if_failed
from orchestrator.ledger.rows import call_row, messages_text
from orchestrator.metrics.meters import NAMED
from orchestrator.queries import UNWEIGHED_USD
from orchestrator.records import answer_row
from orchestrator.strategies.single import named_failed


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An answer, and what it is known by."""

    decision_id: str
    completion: Completion
    latency_s: float


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose behalf a call is made, and within what."""

    caller: str
    account: str
    timeout_s: float | None


class Forwarder:
    """Asks named experts, for doors that need nothing else."""

    def __init__(self, conclave: Conclave, *, source: str) -> None:
        self._conclave, self._source = conclave, source
        self._arms = {name: Arm(name) for name in conclave.experts}

    async def forward(
        self, name: str, messages: tuple[Message, ...], sampling: Sampling, payer: Payer
    ) -> Forwarded:
        """Raises what explains why there is no answer."""
        started = time.perf_counter()
        conclave, ledger = self._conclave, self._conclave.ledger
        call, decision_id = self._call(name, messages, sampling, payer), new_id("dec")
        ledger.record(self._begun(call, decision_id))
        conclave.meters.decided(*NAMED)

        def record(completions: Sequence[Completion]) -> None:
            [completion] = completions
            conclave.meters.called(completions)
            rows = {"calls": [call_row(completion, decision_id, conclave.pool.versions, None)]}
            if completion.ok:  # with its bill, in one write
                rows["answers"] = [_answer(completion, decision_id, started)]
            ledger.record(rows)

        [completion] = await ask_batch(conclave.experts[name], [call], record, till=conclave.till)
        latency_s = time.perf_counter() - started
        if not completion.ok:
            self._fail(completion, decision_id, latency_s)
        conclave.conversations.heard(call, (completion,), completion.text, completion.tool_calls)
        return Forwarded(decision_id, completion, latency_s)

    def _call(
        self, name: str, messages: tuple[Message, ...], sampling: Sampling, payer: Payer
    ) -> Call:
        most_usd = None
        if payer.account:
            card = self._conclave.pool.card(name)
            most_usd = card.prices.cost_usd(card.most_usage_of(messages, sampling))
        return Call(
            query_id=new_id("q"),
            arm=self._arms[name],
            messages=messages,
            sampling=sampling,
            timeout_s=payer.timeout_s,
            max_cost_usd=most_usd,
            streams_answer=True,
            caller=payer.caller,
            account=payer.account,
        )

    def _begun(self, call: Call, decision_id: str) -> dict[str, list[dict[str, Any]]]:
        at = time.time()
        query = {
            "query_id": call.query_id, "at": at, "messages": messages_text(call.messages),
            "source": self._source,
        }  # fmt: skip
        name = call.arm.expert
        decision = {
            "decision_id": decision_id, "query_id": call.query_id, "policy": name,
            "fallback_price_usd": UNWEIGHED_USD, "plan": "only",
            "reason": f"the caller named {name}", "scores": "{}", "p_correct": None,
            "expected_cost_usd": None, "router_cost_usd": 0.0, "router_s": 0.0,
            "account": call.account, "at": at,
        }  # fmt: skip
        return {"queries": [query], "decisions": [decision]}

    def _fail(self, completion: Completion, decision_id: str, latency_s: float) -> None:
        call = completion.call
        query = Query(
            query_id=call.query_id,
            messages=call.messages,
            fallback_price_usd=UNWEIGHED_USD,
            limits=Limits(timeout_s=call.timeout_s),
            sampling=call.sampling,
            caller=call.caller,
            account=call.account,
        )
        decision = Decision(
            decision_id=decision_id, query=query, policy=call.arm.expert, choice=None, scores=None
        )
        answer = named_failed().with_history((completion,))
        result = Result(decision=decision, answer=answer, latency_s=latency_s)
        self._conclave.ledger.record_answers([answer_row(result)])
        raise_if_failed(answer)
        raise AssertionError("a completion that failed is an answer that failed")


def _answer(completion: Completion, decision_id: str, started: float) -> dict[str, Any]:
    return {
        "decision_id": decision_id,
        "answer": completion.answer,
        "contributors": f'["{completion.call.arm}"]',
        "p_correct": None,
        "abstained": 0,
        "cost_usd": completion.cost_usd,
        "latency_s": time.perf_counter() - started,
        "notes": "[]",
        "decided": None,
        "at": time.time(),
    }
