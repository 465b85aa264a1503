"""What was decided about a query, and the result of acting on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experts.values import Query
from orchestrator.answer import Answer
from orchestrator.strategies.asking import by_objective
from routers.policy import Choice
from routers.scores import LoadShare, QueryScores
from routers.stand_ins import stand_ins


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Why this plan. ``choice`` and ``scores`` are None when the caller named the expert."""

    decision_id: str
    query: Query
    policy: str
    """Name of the policy, or of the expert that the caller named."""
    choice: Choice | None
    scores: QueryScores | None
    router_cost_usd: float = 0.0
    router_s: float = 0.0

    def explain(self) -> dict[str, Any]:
        """JSON-ready: skills, beliefs per arm, plan, reason, plans considered."""
        if self.choice is None or self.scores is None:
            return {
                "decision_id": self.decision_id,
                "policy": self.policy,
                "plan": "only",
                "reason": f"the caller named {self.policy}",
            }
        return {
            "decision_id": self.decision_id,
            "policy": self.policy,
            "plan": str(self.choice.plan),
            "reason": self.choice.reason,
            "p_correct": round(self.choice.p_correct, 4),
            "expected_cost_usd": self.choice.cost_usd,
            "fallback_price_usd": self.query.fallback_price_usd,
            **_beliefs(self.scores),
            **self._stand_ins(self.choice, self.scores),
            "considered": [
                {
                    "plan": str(o.plan),
                    "p_correct": round(o.p_correct, 4),
                    "expected_cost_usd": o.cost_usd,
                    "objective_usd": o.objective_usd,
                }
                for o in self.choice.considered
            ],
            "router_cost_usd": self.router_cost_usd,
            "router_s": round(self.router_s, 6),
        }

    def _stand_ins(self, choice: Choice, scores: QueryScores) -> dict[str, Any]:
        """Who may answer in the place of the one that is asked first; nothing where nobody may."""
        if choice.plan.strategy != "single" or not scores.may_stand_in:
            return {}
        first = by_objective(self.query, scores)[0]
        others = stand_ins(scores, first, self.query.fallback_price_usd)
        told = [{"arm": str(s.arm), "loss_usd": s.loss_usd} for s in others]
        return {"stand_ins": {str(first): told}}


def _beliefs(scores: QueryScores) -> dict[str, Any]:
    order = sorted(range(len(scores.arms)), key=lambda i: -scores.p_correct[i])
    return {
        "skills": {name: round(p, 4) for name, p in scores.skills.items()},
        "novelty": round(scores.novelty, 4),
        "is_general": scores.is_general,
        "scores": [
            {
                "arm": str(scores.arms[i]),
                "p_correct": round(float(scores.p_correct[i]), 4),
                "sd": round(float(scores.sd[i]), 4),
                "cost_usd": float(scores.cost_usd[i]),
                "latency_s": round(float(scores.latency_s[i]), 4),
                **_load(scores.loads.get(scores.arms[i].expert)),
            }
            for i in order
        ],
    }


def _load(share: LoadShare | None) -> dict[str, Any]:
    """Only of experts that are not loaded."""
    if share is None:
        return {}
    told = {
        "load_s": round(share.load_s, 4),
        "load_usd": share.load_usd,
        "n_sharing": share.n_sharing,
        "share_usd": share.cost_usd,
        "says": str(share),
    }
    return {"load": told}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A decision and the answer that came of it."""

    decision: Decision
    answer: Answer
    latency_s: float
    """From asking to the answer; in a wave, until the whole wave was done."""

    @property
    def cost_usd(self) -> float:
        """Everything: calls and router."""
        return self.answer.cost_usd + self.decision.router_cost_usd
