"""Queries and decisions as JSON: what a durable run was begun with, whatever is fitted later.

What is kept has a format number: one more with every change of its fields. Of the fitted state,
the id is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from experts.errors import DataError
from experts.tool_calls import openai_tool_calls, read_tool_calls
from experts.values import Arm, Limits, Message, Query, Sampling
from orchestrator.answer import Answer
from orchestrator.decision import Decision
from routers.plans import Plan
from routers.policy import Choice
from routers.scores import LoadShare, QueryScores, ReadPrefix

_FORMAT = 1
_ARRAYS = ("p_correct", "sd", "cost_usd", "latency_s")
_ARRAYS_OR_NONE = ("shift", "fitted_shift", "known_n")


def decision_state(decision: Decision) -> dict[str, Any]:
    """JSON-ready; the plans that were considered, and not chosen, are left out. Durable runs are
    never explored, so there is nothing of that to keep."""
    choice, scores = decision.choice, decision.scores
    return {
        "format": _FORMAT,
        "decision_id": decision.decision_id,
        "query": _query_state(decision.query),
        "policy": decision.policy,
        "choice": None
        if choice is None
        else {
            "strategy": choice.plan.strategy,
            "settings": [list(setting) for setting in choice.plan.settings],
            "p_correct": choice.p_correct,
            "cost_usd": choice.cost_usd,
            "reason": choice.reason,
        },
        "scores": None if scores is None else _scores_state(scores),
        "router_cost_usd": decision.router_cost_usd,
        "router_s": decision.router_s,
        "state": decision.state,
    }


def read_decision(state: Mapping[str, Any]) -> Decision:
    """Inverse of ``decision_state``, without the fitted state. Raises DataError."""
    try:
        if (found := state["format"]) != _FORMAT:
            raise ValueError(f"it is of format {found}, and this release reads {_FORMAT}")
        return _read_decision(state)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"What it was begun with cannot be read: {what}.") from None


def _read_decision(state: Mapping[str, Any]) -> Decision:
    choice, scores = state["choice"], state["scores"]
    return Decision(
        decision_id=state["decision_id"],
        query=_read_query(state["query"]),
        policy=state["policy"],
        choice=None
        if choice is None
        else Choice(
            plan=Plan(choice["strategy"], tuple((k, v) for k, v in choice["settings"])),
            p_correct=choice["p_correct"],
            cost_usd=choice["cost_usd"],
            reason=choice["reason"],
            considered=(),
        ),
        scores=None if scores is None else _read_scores(scores),
        router_cost_usd=state["router_cost_usd"],
        router_s=state["router_s"],
        state=state["state"],
    )


def answer_state(answer: Answer) -> dict[str, Any]:
    """JSON-ready, without the calls that led to it: those are in the ledger."""
    return {
        "text": answer.text,
        "answer": answer.answer,
        "p_correct": answer.p_correct,
        "abstained": answer.abstained,
        "succeeded": answer.succeeded,
        "contributors": [str(arm) for arm in answer.contributors],
        "tool_calls": openai_tool_calls(answer.tool_calls),
        "cost_usd": answer.cost_usd,
        "notes": list(answer.notes),
    }


def _query_state(query: Query) -> dict[str, Any]:
    limits = query.limits
    allowed = None if limits.experts is None else sorted(limits.experts)
    return {
        "query_id": query.query_id,
        "messages": [
            {
                "role": m.role,
                "content": m.content,
                "tool_calls": openai_tool_calls(m.tool_calls),
                "tool_call_id": m.tool_call_id,
            }
            for m in query.messages
        ],
        "fallback_price_usd": query.fallback_price_usd,
        "limits": {**asdict(limits), "experts": allowed},
        "sampling": asdict(query.sampling),
        "caller": query.caller,
        "account": query.account,
    }


def _read_query(state: Mapping[str, Any]) -> Query:
    limits, sampling = state["limits"], state["sampling"]
    allowed = limits["experts"]
    return Query(
        query_id=state["query_id"],
        messages=tuple(
            Message(**{**m, "tool_calls": read_tool_calls(m["tool_calls"])})
            for m in state["messages"]
        ),
        fallback_price_usd=state["fallback_price_usd"],
        limits=Limits(**{**limits, "experts": None if allowed is None else frozenset(allowed)}),
        sampling=Sampling(
            **{
                **sampling,
                "stop": tuple(sampling["stop"]),
                "extra": tuple((k, v) for k, v in sampling["extra"]),
            }
        ),
        caller=state["caller"],
        account=state["account"],
    )


def _scores_state(scores: QueryScores) -> dict[str, Any]:
    return {
        "arms": [str(arm) for arm in scores.arms],
        **{name: getattr(scores, name).tolist() for name in _ARRAYS},
        **{name: _listed(getattr(scores, name)) for name in _ARRAYS_OR_NONE},
        "novelty": scores.novelty,
        "is_general": scores.is_general,
        "skills": dict(scores.skills),
        "loads": {name: asdict(share) for name, share in scores.loads.items()},
        "may_stand_in": {name: sorted(others) for name, others in scores.may_stand_in.items()},
        "prefixes": {str(arm): asdict(prefix) for arm, prefix in scores.prefixes.items()},
        "other_choice": None if scores.other_choice is None else str(scores.other_choice),
    }


def _read_scores(state: Mapping[str, Any]) -> QueryScores:
    arrays: dict[str, Any] = {name: np.array(state[name], float) for name in _ARRAYS}
    for name in _ARRAYS_OR_NONE:
        arrays[name] = None if state[name] is None else np.array(state[name], float)
    other = state["other_choice"]
    return QueryScores(
        arms=tuple(Arm.parse(arm) for arm in state["arms"]),
        **arrays,
        novelty=state["novelty"],
        is_general=state["is_general"],
        skills=state["skills"],
        loads={name: LoadShare(**share) for name, share in state["loads"].items()},
        may_stand_in={name: frozenset(who) for name, who in state["may_stand_in"].items()},
        prefixes={
            Arm.parse(arm): ReadPrefix(**prefix) for arm, prefix in state["prefixes"].items()
        },
        other_choice=None if other is None else Arm.parse(other),
    )


def _listed(array: np.ndarray | None) -> list[float] | None:
    return None if array is None else array.tolist()
