"""Results as OpenAI chat completions, whole and as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.errors import ConclaveError
from experts.ids import new_id
from experts.tool_calls import openai_tool_calls
from experts.values import Completion, Delta
from orchestrator.decision import Result
from orchestrator.failures import raise_if_failed
from orchestrator.forwarding import Forwarded
from orchestrator.rest.errors import describe, error_body

ABSTAINED = "Nobody was asked: this question is left to your fallback."


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What a response is known by, streamed or whole, however often it is given."""

    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds."""


def completion_body(
    model: str, results: Sequence[Result], stamp: Stamp | None = None
) -> dict[str, Any]:
    """A ``chat.completion`` with one choice a result. Usage and bill are sums over every call made;
    with several choices each has its own ``conclave`` object, too. stamp: None makes one."""
    stamp = stamp or Stamp()
    for result in results:
        raise_if_failed(result.answer)
    return {
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": model,
        "choices": [
            {
                "index": i,
                "message": {"role": "assistant", **_content(result)},
                "finish_reason": _finish_reason(result),
                "logprobs": _logprobs(result),
                **({"conclave": conclave_object(result)} if len(results) > 1 else {}),
            }
            for i, result in enumerate(results)
        ],
        "usage": _usage(results),
        "conclave": conclave_object(results[0]) if len(results) == 1 else _sum_object(results),
    }


def forwarded_body(model: str, forwarded: Forwarded) -> dict[str, Any]:
    """As ``completion_body``, of a call that was all there was."""
    c = forwarded.completion
    message: dict[str, Any] = {"role": "assistant", "content": c.text, "refusal": None}
    said = "stop"
    if c.tool_calls:
        said = "tool_calls"
        message["content"] = c.text or None
        message["tool_calls"] = openai_tool_calls(c.tool_calls)
    usage = c.usage
    return {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "length" if c.finish_reason == "length" else said,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        },
        "conclave": {
            "decision_id": forwarded.decision_id,
            "plan": "only",
            "contributors": [str(c.call.arm)],
            "stand_ins": [],
            "answer": c.answer,
            "p_correct": None,
            "abstained": False,
            "cost_usd": c.cost_usd,
            "router_cost_usd": 0.0,
            "latency_s": round(forwarded.latency_s, 4),
            "n_calls": 1,
            "notes": [],
        },
    }


def _sum_object(results: Sequence[Result]) -> dict[str, Any]:
    """The bill of several choices together."""
    each = [conclave_object(r) for r in results]
    return {
        "decision_ids": [o["decision_id"] for o in each],
        "contributors": list(dict.fromkeys(c for o in each for c in o["contributors"])),
        "cost_usd": sum(o["cost_usd"] for o in each),
        "router_cost_usd": sum(o["router_cost_usd"] for o in each),
        "latency_s": max(o["latency_s"] for o in each),
        "n_calls": sum(o["n_calls"] for o in each),
        "notes": list(dict.fromkeys(n for o in each for n in o["notes"])),
    }


def conclave_object(result: Result) -> dict[str, Any]:
    """How the answer came: decision, contributors, bill."""
    answer, decision = result.answer, result.decision
    return {
        "decision_id": decision.decision_id,
        "plan": str(decision.choice.plan) if decision.choice else "only",
        "contributors": [str(a) for a in answer.contributors],
        "stand_ins": [
            {"asked": str(c.stood_in_for), "answered": str(c.call.arm)}
            for c in answer.completions
            if c.stood_in_for
        ],
        "answer": answer.answer,
        "p_correct": None if answer.p_correct is None else round(answer.p_correct, 4),
        "abstained": answer.abstained,
        "cost_usd": result.cost_usd,
        "router_cost_usd": decision.router_cost_usd,
        "latency_s": round(result.latency_s, 4),
        "n_calls": len(answer.completions),
        "notes": list(answer.notes),
    }


async def sse(
    model: str, stamp: Stamp, pieces: AsyncGenerator[Delta | Result], *, include_usage: bool
) -> AsyncGenerator[bytes]:
    """Server-sent events of ``chat.completion.chunk`` objects, ended by ``[DONE]``."""
    base = {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": model,
    }

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return _data({**base, "choices": choices, **more})

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}]

    yield event(choice({"role": "assistant", "content": ""}))
    try:
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if isinstance(piece, Delta):
                    yield event(choice({"content": piece.text}))
                    continue
                raise_if_failed(piece.answer)
                if reason := piece.answer.broken_off:
                    message = f"The answer is incomplete: {reason}."
                    error = error_body(message, "server_error", "answer_broken_off")
                    yield _data({**error, "conclave": conclave_object(piece)})
                    continue
                final: dict[str, Any] = {}
                final = {"refusal": _refusal(piece)} if piece.answer.abstained else {}
                if calls := openai_tool_calls(piece.answer.tool_calls):
                    final["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
                yield event(choice(final, _finish_reason(piece)), conclave=conclave_object(piece))
                if include_usage:
                    yield event([], usage=_usage([piece]))
    except ConclaveError as error:
        yield _data(describe(error)[1])
    yield b"data: [DONE]\n\n"


async def kept_sse(body: dict[str, Any], *, include_usage: bool) -> AsyncGenerator[bytes]:
    """A whole ``chat.completion`` as server-sent events: what was said before is said at once."""
    [said] = body["choices"]
    parts = {k: v for k, v in said["message"].items() if v is not None}
    if "tool_calls" in parts:
        parts["tool_calls"] = [{"index": i, **c} for i, c in enumerate(parts["tool_calls"])]
    base = {k: body[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = {"index": 0, "delta": parts, "finish_reason": None, "logprobs": None}
    yield _data({**base, "choices": [choice]})
    last = {**choice, "delta": {}, "finish_reason": said["finish_reason"]}
    yield _data({**base, "choices": [last], "conclave": body["conclave"]})
    if include_usage:
        yield _data({**base, "choices": [], "usage": body["usage"]})
    yield b"data: [DONE]\n\n"


def _data(event: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % orjson.dumps(event)


def _content(result: Result) -> dict[str, Any]:
    if result.answer.abstained:
        return {"content": None, "refusal": _refusal(result)}
    answer = result.answer
    if answer.tool_calls:
        calls = openai_tool_calls(answer.tool_calls)
        return {"content": answer.text or None, "refusal": None, "tool_calls": calls}
    return {"content": answer.text, "refusal": None}


def _refusal(result: Result) -> str:
    return f"{ABSTAINED} Why: {'; '.join(result.answer.notes)}."


def _logprobs(result: Result) -> dict[str, Any] | None:
    """Of the tokens, where they were asked for and the expert told."""
    shown = _shown(result)
    if shown is None or not shown.token_logprobs:
        return None
    return {"content": json.loads(shown.token_logprobs), "refusal": None}


def _finish_reason(result: Result) -> str:
    """``length`` when the shown completion was cut off."""
    shown = _shown(result)
    if shown is not None and shown.finish_reason == "length":
        return "length"
    return "tool_calls" if result.answer.tool_calls else "stop"


def _shown(result: Result) -> Completion | None:
    """Whose text is the answer's."""
    said = result.answer
    return next(
        (c for c in said.completions if (c.text, c.answer) == (said.text, said.answer)), None
    )


def _usage(results: Sequence[Result]) -> dict[str, Any]:
    calls = [c for r in results for c in r.answer.completions]
    asked = sum(c.usage.input_tokens for c in calls)
    said = sum(c.usage.output_tokens for c in calls)
    cached = sum(c.usage.cached_tokens for c in calls)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
