"""What ``conclave bench latent`` evaluates, in parts that run side by side: a head, the adapters of
a training seed, or other ways to use the members. Each on every draw of test questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from eval.latent.accuracy import TWO_CALLS, latent_right, other_ways
from eval.latent.lora import answers_with, train_adapters
from experts.lab.composites.questions import (
    KINDS,
    Kind,
    LatentQuestion,
    draw_questions,
    training_questions,
)
from experts.latent.plan import TrainingPlan

if TYPE_CHECKING:
    from experts.latent.net.team import Team

What = Literal["head", "lora", "others"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One of the ways of answering, or those that are not trained."""

    what: What
    head: Path
    """Whose members answer; adapters get as many parameters."""
    members: Mapping[str, Path]
    plan: TrainingPlan
    n: int
    """Questions of each kind and draw."""
    draws: tuple[int, ...]
    n_questions: int
    """That adapters are trained on."""


@dataclass(kw_only=True, slots=True)
class Found:
    """Of one part."""

    n_parameters: int
    seconds: float
    """Of the head's training."""
    shares: dict[tuple[Kind, str], list[float]] = field(default_factory=dict)
    """Right answers by kind and way, a number a draw; heads and adapters are the way ''."""
    owned: dict[str, list[float]] = field(default_factory=dict)
    """Of single steps, by the member that knows them, a number a draw: of a head, or of that member
    by itself."""


def evaluate(part: Part, report: Callable[[None], None]) -> Found:
    """For ``side_by_side``; tells that it is done."""
    from experts.latent.net.team import Team

    team = Team.load(part.head, part.members)
    found = Found(n_parameters=team.n_parameters, seconds=float(team.card.trained["seconds"]))
    answer = _WAYS[part.what](team, part)
    for draw in part.draws:
        for kind in KINDS:
            questions = draw_questions(kind, "test", part.n, seed=draw)
            ways = answer(questions)
            for way, right in ways.items():
                found.shares.setdefault((kind, way), []).append(float(right.mean()))
            if kind == "single":
                # Two calls, where one step is asked, are one of the member that knows it.
                right = ways[TWO_CALLS] if part.what == "others" else ways[""]
                for member in part.members:
                    its = right[[q.members == (member,) for q in questions]]
                    found.owned.setdefault(member, []).append(float(its.mean()))
    report(None)
    return found


_Answer = Callable[[Sequence[LatentQuestion]], Mapping[str, np.ndarray]]
"""Whether each way is right, (n,) bool."""


def _head(team: Team, part: Part) -> _Answer:
    return lambda questions: {"": latent_right(team, questions, control=part.plan.control)}


def _lora(team: Team, part: Part) -> _Answer:
    shown = training_questions(part.n_questions, seed=part.plan.seed)
    n_steps = part.plan.teach_steps // 4 + part.plan.joint_steps
    adapters = train_adapters(team, shown, part.plan, n_steps=n_steps)

    def right(questions: Sequence[LatentQuestion]) -> Mapping[str, np.ndarray]:
        said = answers_with(team, adapters, questions)
        return {"": np.array([s == q.answer for s, q in zip(said, questions, strict=True)])}

    return right


def _others(team: Team, part: Part) -> _Answer:
    return lambda questions: other_ways(team, questions)


_WAYS: Mapping[What, Callable[[Team, Part], _Answer]] = {
    "head": _head, "lora": _lora, "others": _others,
}  # fmt: skip
