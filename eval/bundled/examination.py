"""The laboratory's examination: every bundled expert on every skill, on questions held out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.questions import lab_questions
from eval.statistics import wilson_interval
from experts.expert import Expert
from experts.lab.questions import SKILLS
from experts.values import Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One expert on one skill."""

    expert: str
    skill: str
    category: str
    held_out_wording: bool
    n: int
    n_right: int

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.n_right, self.n)


async def examine(
    experts: Mapping[str, Expert],
    *,
    n: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Cell]:
    """``n`` test questions a skill with trained wordings and ``n`` with held-out ones, of each
    expert."""
    cells: list[Cell] = []
    for held_out in (False, True):
        questions = lab_questions(n, "test", held_out_wording=held_out, seed=seed)
        for name, expert in experts.items():
            completions = await expert.complete([q.call(Arm(name)) for q in questions])
            right: dict[str, int] = {}
            for question, completion in zip(questions, completions, strict=True):
                score = question.score(completion.text) if completion.ok else 0.0
                right[str(question.skill)] = right.get(str(question.skill), 0) + int(score)
            cells += [
                Cell(
                    expert=name,
                    skill=s.name,
                    category=s.category,
                    held_out_wording=held_out,
                    n=n,
                    n_right=right[s.name],
                )
                for s in SKILLS
            ]
            on_progress(len(cells) // len(SKILLS), 2 * len(experts))
    return cells


def run_examination(
    experts: Mapping[str, Expert],
    *,
    n: int,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> list[Cell]:
    """``examine`` without an event loop."""
    return asyncio.run(examine(experts, n=n, seed=seed, on_progress=on_progress))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How an expert did inside and outside of its field; accuracies are means over skills."""

    expert: str
    own: float
    own_worst: float
    """Its weakest own skill."""
    own_held_out: float
    own_held_out_worst: float
    outside: float
    outside_best: float
    """Its strongest skill outside of its field."""


def verdicts(cells: Sequence[Cell], fields: Mapping[str, Sequence[str]]) -> list[Verdict]:
    """One verdict an expert; ``fields`` maps experts to their categories."""
    result = []
    for expert, field in fields.items():
        mine = [c for c in cells if c.expert == expert]
        own = [c.accuracy for c in mine if c.category in field and not c.held_out_wording]
        own_held = [c.accuracy for c in mine if c.category in field and c.held_out_wording]
        outside = [c.accuracy for c in mine if c.category not in field]
        result.append(
            Verdict(
                expert=expert,
                own=sum(own) / len(own),
                own_worst=min(own),
                own_held_out=sum(own_held) / len(own_held),
                own_held_out_worst=min(own_held),
                outside=sum(outside) / len(outside) if outside else float("nan"),
                outside_best=max(outside, default=float("nan")),
            )
        )
    return result
