"""What doors tell of the pool and of what was decided: JSON-ready, read from what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from experts.errors import UnknownDecision
from experts.expert import Expert, LoadingExpert
from orchestrator.conclave import Conclave
from orchestrator.ledger import Ledger
from orchestrator.profiles import current_profiles
from orchestrator.roster import expert_rows, success_by_category


def pool_object(conclave: Conclave) -> dict[str, Any]:
    """Experts with their prices, strengths and whether they are loaded; policies; whether anything
    is fitted."""
    learner = conclave.learner
    strengths = {}
    if learner is not None:
        strengths = success_by_category(current_profiles(learner.fitted, learner.shifts))
    rows = expert_rows(conclave.pool.cards, strengths)
    policies = [
        {"name": name, "fallback_price_usd": policy.fallback_price_usd}
        for name, policy in conclave.policies.items()
    ]
    return {
        "experts": [{**row, **loaded_object(conclave.experts[row["name"]])} for row in rows],
        "policies": policies,
        "is_fitted": learner is not None,
    }


def loaded_object(expert: Expert) -> dict[str, Any]:
    """Of experts that have to be loaded: whether that is done, and who waits for it."""
    if not isinstance(expert, LoadingExpert):
        return {"is_loaded": True, "n_waiting": 0}
    outlook = expert.load_outlook()
    if outlook is None:
        return {"is_loaded": True, "n_waiting": 0}
    return {"is_loaded": False, "n_waiting": outlook.n_waiting}


def decision_object(
    ledger: Ledger, decision_id: str, *, account: str | None = None
) -> dict[str, Any]:
    """Why an answer is what it is: what was believed, the plan, every call with its bill, what came
    of it. Blocks on the ledger.

    account: whose decisions may be told; None is everybody's. Raises UnknownDecision, also for one
    of another account.
    """
    found = ledger.rows("SELECT * FROM decisions WHERE decision_id = ?", [decision_id])
    if not found or (account is not None and found[0]["account"] != account):
        raise UnknownDecision(decision_id)
    [decision] = found
    answers = ledger.rows("SELECT * FROM answers WHERE decision_id = ?", [decision_id])
    calls = ledger.rows(_CALLS, [decision_id])
    verdicts = ledger.rows(_VERDICTS, [decision_id])
    later = json.loads(answers[0]["decided"]) if answers and answers[0]["decided"] else {}
    told = {k: later.get(k, decision[k]) for k in _DECIDED}
    return {
        "decision_id": decision_id,
        "at": decision["at"],
        "query_id": decision["query_id"],
        "policy": decision["policy"],
        **told,
        "fallback_price_usd": decision["fallback_price_usd"],
        **(later.get("scores") or json.loads(decision["scores"])),
        "router_cost_usd": decision["router_cost_usd"],
        "router_s": decision["router_s"],
        "calls": calls,
        "answer": _answer(answers[0]) if answers else None,
        "verdicts": verdicts,
        "cost_usd": decision["router_cost_usd"] + sum(call["cost_usd"] for call in calls),
    }


_DECIDED = ("plan", "reason", "p_correct", "expected_cost_usd")
_CALLS = (
    "SELECT at, expert, mode, purpose, answer, input_tokens, output_tokens, cached_tokens, "
    "cost_usd, latency_s, load_s, n_batch, finish_reason, error, error_code, usage_estimated, "
    "asked FROM calls WHERE decision_id = ? ORDER BY call_id"
)
_VERDICTS = "SELECT at, score, source FROM verdicts WHERE decision_id = ? ORDER BY verdict_id"


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "answer": row["answer"],
        "contributors": json.loads(row["contributors"]),
        "p_correct": row["p_correct"],
        "abstained": bool(row["abstained"]),
        "latency_s": row["latency_s"],
        "notes": json.loads(row["notes"]),
    }
