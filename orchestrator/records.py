"""Decisions and answers as ledger rows."""

from __future__ import annotations

import json
from typing import Any

import orjson

from orchestrator.decision import Decision, Result


def decision_row(decision: Decision) -> dict[str, Any]:
    decided = _decided(decision)
    return {
        "decision_id": decision.decision_id,
        "query_id": decision.query.query_id,
        "policy": decision.policy,
        "fallback_price_usd": decision.query.fallback_price_usd,
        **decided,
        "scores": orjson.dumps(decided["scores"]).decode(),
        "router_cost_usd": decision.router_cost_usd,
        "router_s": decision.router_s,
        "account": decision.query.account,
    }


def _decided(decision: Decision) -> dict[str, Any]:
    """What keywords may change."""
    choice = decision.choice
    explained = decision.explain()
    beliefs = {
        k: explained[k]
        for k in (
            "skills", "novelty", "is_general", "scores", "stand_ins", "exploration", "state",
        )
        if k in explained
    }  # fmt: skip
    return {
        "plan": explained["plan"],
        "reason": explained["reason"],
        "scores": beliefs,
        "p_correct": choice.p_correct if choice else None,
        "expected_cost_usd": choice.cost_usd if choice else None,
    }


def answer_row(result: Result) -> dict[str, Any]:
    answer, is_later = result.answer, result.decision.before_keywords is not None
    return {
        "decision_id": result.decision.decision_id,
        "answer": answer.answer,
        "contributors": orjson.dumps([str(a) for a in answer.contributors]).decode(),
        "p_correct": answer.p_correct,
        "abstained": int(answer.abstained),
        "cost_usd": result.cost_usd,
        "latency_s": result.latency_s,
        "notes": orjson.dumps(answer.notes).decode(),
        "decided": json.dumps(_decided(result.decision)) if is_later else None,
    }
