"""What was decided about a query, and the result of acting on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from experts.values import Query
from orchestrator.answer import Answer
from orchestrator.fitted import Fitted
from orchestrator.strategies.asking import by_objective
from routers.exploration import Exploration
from routers.plans import Plan
from routers.policy import Choice
from routers.scores import LoadShare, QueryScores, ReadPrefix
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
    exploration: Exploration | None = None
    """Whether and whom to explore; None where nobody may be explored."""
    instead_of: Plan | None = None
    """The plan that an exploration takes the place of."""
    fitted: Fitted | None = field(default=None, repr=False, compare=False)
    """The state that it was taken by, and is carried out with."""
    state: str | None = None
    """Its id."""
    before_keywords: Plan | None = None
    """The plan before an LLM named keywords; None where it named none, or was not asked."""

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
            "p_correct": None if self.choice.p_correct is None else round(self.choice.p_correct, 4),
            "expected_cost_usd": self.choice.cost_usd,
            "fallback_price_usd": self.query.fallback_price_usd,
            **_beliefs(self.scores),
            **_learned(self.scores),
            **self._exploration(),
            **({"before_keywords": str(self.before_keywords)} if self.before_keywords else {}),
            **({"state": self.state} if self.state else {}),
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

    def _exploration(self) -> dict[str, Any]:
        if self.exploration is None:
            return {}
        e = self.exploration
        told: dict[str, Any] = {"propensity": e.propensity}
        if e.arm is not None:
            told |= {"arm": str(e.arm), "reserved_usd": e.reserved_usd}
            told |= {"instead_of": str(self.instead_of)}
        return {"exploration": told}

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
                **_shift(scores, i),
                **_load(scores.loads.get(scores.arms[i].expert)),
                **_prefix(scores.prefixes.get(scores.arms[i])),
            }
            for i in order
        ],
    }


def _shift(scores: QueryScores, i: int) -> dict[str, Any]:
    """Only of arms that outcomes since the fit have moved."""
    if not (shift := scores.shift_since_fit)[i]:
        return {}
    fitted = float(scores.p_fitted[i])
    return {"p_fitted": round(fitted, 4), "shift": round(float(shift[i]), 4)}


def _learned(scores: QueryScores) -> dict[str, Any]:
    """In words, which beliefs outcomes since the fit have moved."""
    shift, before = scores.shift_since_fit, scores.p_fitted
    if not shift.any():
        return {}
    most = int(abs(scores.p_correct - before).argmax())
    return {
        "learned": f"outcomes since the fit moved {int((shift != 0).sum())} of "
        f"{len(scores.arms)} arms; most {scores.arms[most]}, {shift[most]:+.2f} in log-odds: "
        f"{before[most]:.2f} to {scores.p_correct[most]:.2f}"
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


def _prefix(prefix: ReadPrefix | None) -> dict[str, Any]:
    """Only of arms that have read the conversation before."""
    if prefix is None:
        return {}
    told = {
        "cached_tokens": round(prefix.n_tokens),
        "saves_usd": prefix.saves_usd,
        "says": str(prefix),
    }
    return {"prefix": told}


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
