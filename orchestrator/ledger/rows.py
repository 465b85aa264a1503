"""Rows of the ledger, and the values that they stand for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from experts.tool_calls import openai_tool_calls, read_tool_calls
from experts.values import Arm, Call, Completion, Message, Query, Role, Sampling, Usage
from orchestrator.ledger.values import Label, RecordedCall


def messages_text(messages: tuple[Message, ...]) -> str:
    """As the column ``messages`` has them."""
    return orjson.dumps([_message_row(m) for m in messages]).decode()


def query_row(query: Query, source: str) -> dict[str, Any]:
    """A row of ``queries``, made now."""
    return {
        "query_id": query.query_id,
        "at": time.time(),
        "messages": messages_text(query.messages),
        "source": source,
    }


def _message_row(message: Message) -> list[Any]:
    tools: dict[str, Any] = {}
    if message.tool_calls:
        tools["tool_calls"] = openai_tool_calls(message.tool_calls)
    if message.tool_call_id:
        tools["tool_call_id"] = message.tool_call_id
    return [message.role, message.content, *([tools] if tools else [])]


def _message(role: Role, content: str, tools: Mapping[str, Any] = MappingProxyType({})) -> Message:
    """Inverse of ``_message_row``."""
    return Message(
        role=role,
        content=content,
        tool_calls=read_tool_calls(tools.get("tool_calls", ())),
        tool_call_id=tools.get("tool_call_id", ""),
    )


def label_row(label: Label) -> dict[str, Any]:
    """A row of ``labels``, without when and on what."""
    reference = json.dumps(label.reference, ensure_ascii=False) if label.reference else None
    return {"skill": label.skill, "reference": reference, "split": label.split}


def call_row(
    completion: Completion,
    decision_id: str | None,
    versions: Mapping[str, str],
    begun_id: int | None,
) -> dict[str, Any]:
    """A row of ``calls``, made now."""
    call, usage = completion.call, completion.usage
    return {
        "at": time.time(),
        "query_id": call.query_id,
        "decision_id": decision_id,
        "expert": call.arm.expert,
        "version": versions.get(call.arm.expert, ""),
        "mode": call.arm.mode,
        "sample": call.sample,
        "purpose": call.purpose,
        "prompt": call.prompt,
        "temperature": call.sampling.temperature,
        "seed": call.sampling.seed,
        "text": completion.text,
        "answer": completion.answer,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": completion.cost_usd,
        "latency_s": completion.latency_s,
        "load_s": completion.load_s,
        "n_batch": completion.n_batch,
        "logprob": completion.logprob,
        "own_odds": completion.own_odds,
        "finish_reason": completion.finish_reason,
        "error": completion.error,
        "error_code": completion.error_code,
        "usage_estimated": int(usage.estimated),
        "asked": None if completion.stood_in_for is None else str(completion.stood_in_for),
        "tool_calls": json.dumps(openai_tool_calls(completion.tool_calls), ensure_ascii=False)
        if completion.tool_calls
        else None,
        "cached_tokens": usage.cached_tokens,
        "begun_id": begun_id,
    }


def recorded_call(row: Mapping[str, Any]) -> RecordedCall:
    """Of a row of ``calls`` with the ``messages`` of its query, its label (``skill``, ``split``,
    ``reference``) and its verdict (``score``, ``score_source``)."""
    messages = tuple(_message(*message) for message in json.loads(row["messages"]))
    call = Call(
        query_id=row["query_id"],
        arm=Arm(row["expert"], row["mode"]),
        messages=messages,
        sampling=Sampling(temperature=row["temperature"], seed=row["seed"]),
        sample=row["sample"],
        prompt=row["prompt"],
        purpose=row["purpose"],
    )
    completion = Completion(
        call=call,
        stood_in_for=Arm.parse(row["asked"]) if row["asked"] else None,
        text=row["text"],
        answer=row["answer"],
        usage=Usage(
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cached_tokens=row["cached_tokens"],
            estimated=bool(row["usage_estimated"]),
        ),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        load_s=row["load_s"],
        n_batch=row["n_batch"],
        logprob=row["logprob"],
        own_odds=row["own_odds"],
        tool_calls=read_tool_calls(json.loads(row["tool_calls"] or "[]")),
        finish_reason=row["finish_reason"],
        error=row["error"],
        error_code=row["error_code"],
    )
    return RecordedCall(
        call_id=row["call_id"],
        completion=completion,
        version=row["version"],
        skill=row["skill"],
        split=row["split"],
        score=row["score"],
        score_source=row["score_source"],
        reference=tuple(json.loads(row["reference"])) if row["reference"] else (),
    )
