"""The tools themselves: ask, route, experts, feedback. Nothing of the protocol is known here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from experts.values import Completion, Query
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.decision import Decision, Result
from orchestrator.facts import pool_object
from orchestrator.failures import raise_if_failed
from orchestrator.keys.asking import wishes_of
from orchestrator.keys.key import VirtualKey
from orchestrator.mcp.schemas import (
    AskArguments,
    AskResult,
    ExpertsArguments,
    ExpertsResult,
    FeedbackResult,
    RouteArguments,
    RouteResult,
)
from orchestrator.queries import make_query
from orchestrator.rest.chat import ABSTAINED, conclave_object
from orchestrator.rest.schemas import FeedbackRequest

SOURCE = "mcp"
"""In the ledger, of what was asked at this door."""

Tell = Callable[[str], None]
"""Told in words what has happened, while a tool works."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a tool gives: for programs, and in words for models."""

    structured: Mapping[str, Any]
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who calls a tool."""

    tell: Tell
    """How to tell them what happens."""
    digest: str = ""
    """Of their Authorization header; empty where they send none."""
    key: VirtualKey | None = None
    """That pays; None where none is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """One tool, with what clients are told of it."""

    name: str
    title: str
    description: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    call: Callable[[Any, Caller], Awaitable[Told]]
    is_read_only: bool = False
    is_idempotent: bool = False
    asks_experts: bool = False
    """It leaves the machine, and costs money."""


def make_tools(conclave: Conclave, config: Config) -> dict[str, Tool]:
    """By name."""

    def asked_query(asked: AskArguments | RouteArguments, caller: Caller) -> Query:
        wishes = wishes_of(caller.key, asked.target, asked.wishes())
        return make_query(config, asked.target, asked.values(), wishes)

    async def ask(asked: AskArguments, caller: Caller) -> Told:
        tell = caller.tell

        def tell_calls(completions: Sequence[Completion]) -> None:
            for completion in completions:
                tell(_call_in_words(completion))

        query = asked_query(asked, caller)
        result = await conclave.answer(
            query,
            asked.target,
            source=SOURCE,
            on_decision=lambda decision: tell(_plan_in_words(decision)),
            on_calls=tell_calls,
        )
        raise_if_failed(result.answer)
        return Told(
            structured={"text": result.answer.text, **conclave_object(result)},
            texts=[_answer_in_words(result), _bill_in_words(result)],
        )

    async def route(asked: RouteArguments, caller: Caller) -> Told:
        query = asked_query(asked, caller)
        decision = await asyncio.to_thread(conclave.route, query, asked.target, source=SOURCE)
        return Told(structured=decision.explain(), texts=[_plan_in_words(decision)])

    async def experts(asked: ExpertsArguments, caller: Caller) -> Told:
        await asyncio.to_thread(conclave.learn)
        structured = pool_object(conclave)
        texts = [_expert_in_words(row) for row in structured["experts"]]
        return Told(structured=structured, texts=texts)

    async def feedback(said: FeedbackRequest, caller: Caller) -> Told:
        await asyncio.to_thread(
            conclave.feedback, said.decision_id, said.verdict, said.comment, caller=caller.digest
        )
        structured = {"decision_id": said.decision_id, "recorded": True}
        return Told(structured=structured, texts=[f"Recorded for {said.decision_id}."])

    tools = [
        Tool(
            name="ask",
            title="Ask Conclave",
            description=(
                "Answer a question, or the last message of a conversation, with the cheapest set "
                "of experts that is expected to get it right. It costs what its experts cost; "
                "max_cost_usd and max_calls are hard limits."
            ),
            arguments=AskArguments,
            result=AskResult,
            call=ask,
            asks_experts=True,
        ),
        Tool(
            name="route",
            title="Route without asking",
            description=(
                "Say which experts `ask` would use for this question, why, and what it would be "
                "expected to cost, without asking any of them."
            ),
            arguments=RouteArguments,
            result=RouteResult,
            call=route,
            is_read_only=True,
            is_idempotent=True,
        ),
        Tool(
            name="experts",
            title="List the experts",
            description="The pool: experts with prices and what they are good at, and policies.",
            arguments=ExpertsArguments,
            result=ExpertsResult,
            call=experts,
            is_read_only=True,
            is_idempotent=True,
        ),
        Tool(
            name="feedback",
            title="Say whether an answer was right",
            description=(
                "Tell Conclave whether an answer of `ask` was right: its decision_id, and correct "
                "(true or false) or score (0 to 1). The latest verdict counts."
            ),
            arguments=FeedbackRequest,
            result=FeedbackResult,
            call=feedback,
            is_idempotent=True,
        ),
    ]
    return {tool.name: tool for tool in tools}


def _plan_in_words(decision: Decision) -> str:
    told = decision.explain()
    return f"plan {told['plan']}: {told['reason']}"


def _call_in_words(completion: Completion) -> str:
    said = "answered" if completion.ok else f"failed ({completion.error})"
    return (
        f"{completion.call.arm} {said} in {completion.latency_s:.2g} s "
        f"for {completion.cost_usd:.2g} $"
    )


def _answer_in_words(result: Result) -> str:
    if result.answer.abstained:
        return f"{ABSTAINED} Why: {'; '.join(result.answer.notes)}."
    return result.answer.text


def _bill_in_words(result: Result) -> str:
    """One line: models that read text only need the decision's id, and should see the price."""
    answer = result.answer
    who = ", ".join(dict.fromkeys(str(arm) for arm in answer.contributors)) or "nobody"
    sure = "" if answer.p_correct is None else f", right with {answer.p_correct:.0%}"
    notes = "".join(f"; {note}" for note in answer.notes if not answer.abstained)
    return (
        f"(Conclave: {who}{sure}, {result.cost_usd:.2g} $, {result.latency_s:.2g} s, "
        f"decision_id {result.decision.decision_id}{notes})"
    )


def _expert_in_words(row: Mapping[str, Any]) -> str:
    best = sorted(row["success_by_category"].items(), key=lambda kv: -kv[1])[:3]
    good_at = ", ".join(f"{name} {share:.0%}" for name, share in best) or "not fitted yet"
    return (
        f"{row['name']}: {row['description']} Best at {good_at}. "
        f"{row['input_usd_per_mtok']:g} $/M tokens in, {row['output_usd_per_mtok']:g} out."
    )
