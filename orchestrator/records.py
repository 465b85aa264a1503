"""Decisions and answers as ledger rows."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.decision import Decision, Result


def decision_row(decision: Decision) -> dict[str, Any]:
    choice = decision.choice
    explained = decision.explain()
    beliefs = {
        k: explained[k] for k in ("skills", "novelty", "scores", "stand_ins") if k in explained
    }
    return {
        "decision_id": decision.decision_id,
        "query_id": decision.query.query_id,
        "policy": decision.policy,
        "plan": explained["plan"],
        "reason": explained["reason"],
        "fallback_price_usd": decision.query.fallback_price_usd,
        "scores": json.dumps(beliefs),
        "p_correct": choice.p_correct if choice else None,
        "expected_cost_usd": choice.cost_usd if choice else None,
        "router_cost_usd": decision.router_cost_usd,
        "router_s": decision.router_s,
    }


def answer_row(result: Result) -> dict[str, Any]:
    answer = result.answer
    return {
        "decision_id": result.decision.decision_id,
        "answer": answer.answer,
        "contributors": json.dumps([str(a) for a in answer.contributors]),
        "p_correct": answer.p_correct,
        "abstained": int(answer.abstained),
        "cost_usd": result.cost_usd,
        "latency_s": result.latency_s,
        "notes": json.dumps(answer.notes, ensure_ascii=False),
    }
