"""From verdicts in the ledger to observations: what was judged, and whose work it was.

A verdict on a call is on its arm alone. One on a whole answer is shared among the arms whose
answers it is, in proportion to how many of their calls said so; what others said is not judged by
it, so nothing is believed of them that was not before.

Each credit carries what the fitted state expected, before anybody judged. Where one arm was asked,
that is what was believed of the arm. Where several were, an answer was picked because they agreed,
and would look better than its makers: there it is what the strategy believed of that answer.
Decisions tell what was believed; questions that another state decided about, or none, are scored
again, the latest ``MAX_SCORED`` of them; what their strategies believed is not known then, nor
what was believed with keywords, so of these nothing is learned by another state.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experts.values import Arm
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from routers.online import Credit, Observation, shifted

Embed = Callable[[Sequence[str]], np.ndarray]
MAX_SCORED = 200
"""Questions; embedding them is milliseconds each."""
FEEDBACK = "feedback"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beliefs:
    """What the fitted state expected for one question."""

    p: Mapping[Arm, float]
    sd: Mapping[Arm, float]
    shift: Mapping[Arm, float]
    """By what the decision's scores had been moved; 0 where they were scored again."""
    p_skill: np.ndarray
    """(n_skills + 1,)."""


def read_observations(
    rows: Sequence[Mapping[str, Any]],
    fitted: Fitted,
    ledger: Ledger,
    versions: Mapping[str, str],
    embed: Embed,
    *,
    max_scored: int = MAX_SCORED,
) -> list[Observation]:
    """Observations of verdicts (``Ledger.verdicts_since``), of the weights that the pool has now,
    in their order."""
    state_id = fitted.state_id
    credited = [(row, shares) for row in rows if (shares := _shares(row, ledger, versions))]
    told = {id(row): _told(row, fitted, state_id) for row, _ in credited}
    strange = {row["query_id"]: row["messages"] for row, _ in credited if told[id(row)] is None}
    scored = _scored(list(strange.items())[-max_scored:], fitted, embed)
    columns = {arm: i for i, arm in enumerate(fitted.router.arms_)}
    found = []
    for row, shares in credited:
        beliefs = told[id(row)] or scored.get(row["query_id"])
        if beliefs is None:
            continue
        n_asked, by_arm = shares
        is_blind = n_asked == 1
        # Scored again without its keywords, a question would be taken for another skill's.
        if told[id(row)] is None and (not is_blind or row["by_keywords"]):
            continue
        parts = tuple(
            Credit(
                arm=columns[arm],
                share=share,
                p=_expected(arm, beliefs, None if is_blind else row["p_answer"]),
                sd=beliefs.sd[arm],
            )
            for arm, share in by_arm.items()
            if arm in columns and arm in beliefs.p
        )
        if parts:
            found.append(
                Observation(
                    subject=_subject(row),
                    query_id=row["query_id"],
                    at=row["at"],
                    score=row["score"],
                    credits=parts,
                    p_skill=_labelled(row, fitted, beliefs),
                    caller=(row["caller"] or "") if row["source"] == FEEDBACK else None,
                    is_blind=is_blind,
                )
            )
    return found


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """Of each subject the last, where it came."""
    found: dict[str, Observation] = {}
    for o in observations:
        found.pop(o.subject, None)
        found[o.subject] = o
    return list(found.values())


def _subject(row: Mapping[str, Any]) -> str:
    return row["decision_id"] if row["call_id"] is None else f"call {row['call_id']}"


def _shares(
    row: Mapping[str, Any], ledger: Ledger, versions: Mapping[str, str]
) -> tuple[int, dict[Arm, float]] | None:
    """How many arms were asked, and each maker's share; None where nobody's work was judged."""
    if row["call_id"] is not None:
        is_current = versions.get(row["expert"]) == row["version"]
        return (1, {Arm(row["expert"], row["mode"]): 1.0}) if is_current else None
    contributors = {Arm.parse(name) for name in json.loads(row["contributors"] or "[]")}
    calls = [c for c in ledger.calls_of_decision(row["decision_id"]) if not c["error"]]
    arms = [Arm(c["expert"], c["mode"]) for c in calls]
    said = Counter(
        arm
        for arm, call in zip(arms, calls, strict=True)
        if arm in contributors and call["answer"] == row["answer"]
    )
    current = {
        arm
        for arm, call in zip(arms, calls, strict=True)
        if versions.get(call["expert"]) == call["version"]
    }
    n = {arm: max(1, said[arm]) for arm in contributors}  # equal answers may be written otherwise
    shares = {arm: n[arm] / sum(n.values()) for arm in contributors if arm in current}
    return (len(set(arms)), shares) if shares else None


def _told(row: Mapping[str, Any], fitted: Fitted, state_id: str) -> _Beliefs | None:
    """What the decision itself says, if this state took it."""
    said = json.loads(row["scores"] or "{}")
    if said.get("state") != state_id:
        return None
    skills = fitted.router.annotator_.skills
    p_skill = np.zeros(len(skills) + 1)
    if said["is_general"]:
        p_skill[-1] = 1.0
    else:
        for name, p in said["skills"].items():
            p_skill[skills.index(name)] = p
    scores = {Arm.parse(s["arm"]): s for s in said["scores"]}
    return _Beliefs(
        p={arm: s.get("p_fitted", s["p_correct"]) for arm, s in scores.items()},
        sd={arm: s["sd"] for arm, s in scores.items()},
        shift={arm: s.get("shift", 0.0) for arm, s in scores.items()},
        p_skill=p_skill / max(p_skill.sum(), 1e-9),
    )


def _scored(
    questions: Sequence[tuple[str, str]], fitted: Fitted, embed: Embed
) -> dict[str, _Beliefs]:
    """By query id; questions are (query id, messages as the ledger has them)."""
    if not questions:
        return {}
    messages = [json.loads(text) for _, text in questions]
    texts = [next(m[1] for m in reversed(one) if m[0] == "user") for one in messages]
    n_chars = np.array([sum(len(m[1]) for m in one) for one in messages])
    scores = fitted.score(texts, n_chars, embed)
    p_skill = np.column_stack([scores.p_skill, np.zeros(len(scores))])
    p_skill[scores.is_general] = np.eye(p_skill.shape[1])[-1]
    return {
        query_id: _Beliefs(
            p=dict(zip(scores.arms, scores.p_correct[i].tolist(), strict=True)),
            sd=dict(zip(scores.arms, scores.sd[i].tolist(), strict=True)),
            shift={},
            p_skill=p_skill[i],
        )
        for i, (query_id, _) in enumerate(questions)
    }


def _expected(arm: Arm, beliefs: _Beliefs, p_answer: float | None) -> float:
    """P(right) by the fitted state: of the answer, where that is given, with what the arm's beliefs
    had been moved by taken out again."""
    if p_answer is None:
        return beliefs.p[arm]
    return float(shifted(np.array(p_answer), np.array(-beliefs.shift.get(arm, 0.0))))


def _labelled(row: Mapping[str, Any], fitted: Fitted, beliefs: _Beliefs) -> np.ndarray:
    """Where somebody said which skill a question needs, that one counts."""
    skills = fitted.router.annotator_.skills
    if row["skill"] in skills:
        one: np.ndarray = np.eye(len(skills) + 1)[skills.index(row["skill"])]
        return one
    return beliefs.p_skill
