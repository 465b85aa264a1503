"""Questions of the laboratory: 28 skills in 7 categories, drawn at random and asked in many ways.

``draw_question`` is the one door. Training draws from split ``train`` with trained wordings only;
evaluation draws from ``val`` or ``test``, with trained or with held-out wordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from experts.lab.questions import arithmetic, facts, lists, logic, units, words
from experts.lab.questions.grammar import CLEAN, Noise, ask
from experts.lab.questions.skill import LabSkill, Split

SKILLS: tuple[LabSkill, ...] = (
    *arithmetic.SKILLS,
    *words.SKILLS,
    *lists.SKILLS,
    *units.SKILLS,
    *logic.SKILLS,
    *facts.SKILLS,
)
__all__ = ["CATEGORIES", "SKILLS", "LabQuestion", "LabSkill", "Split", "draw_question", "skills_of"]

CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(s.category for s in SKILLS))


@dataclass(frozen=True, kw_only=True, slots=True)
class LabQuestion:
    """One question with its reference answer."""

    text: str
    answer: str
    worked: str
    """The text that experts are trained to say; the answer, or the work that ends in it."""
    skill: str
    category: str
    held_out_wording: bool
    case_matters: bool


def skills_of(categories: Sequence[str]) -> tuple[LabSkill, ...]:
    """Skills of the given categories, in the order of the registry."""
    return tuple(s for s in SKILLS if s.category in categories)


def draw_question(
    skill: LabSkill,
    rng: Random,
    split: Split,
    *,
    held_out_wording: bool = False,
    noise: Noise = CLEAN,
) -> LabQuestion:
    """Draw one question of a skill.

    With ``held_out_wording`` the pattern is one of the split's own, which training never sees, and
    half of the time so is its shell. A held-out wording may ask for any fact: it is what is new.
    Raises ValueError for held-out wordings of train: there are none.
    """
    if held_out_wording and split == "train":
        raise ValueError("Held-out wordings belong to val and test; train has none.")
    wordings: Split = split if held_out_wording else "train"
    patterns = [p for p in skill.patterns if p.split == wordings]
    while True:
        pattern = rng.choice(patterns)
        draw = skill.draw(rng)
        if (held_out_wording and skill.is_fact) or skill.split_of(draw, pattern) == split:
            break
    shells_of = wordings if held_out_wording and rng.random() < 0.5 else "train"
    return LabQuestion(
        text=ask(pattern, draw.slots, rng, shells_of=shells_of, noise=noise),
        answer=draw.answer,
        worked=draw.worked or draw.answer,
        skill=skill.name,
        category=skill.category,
        held_out_wording=held_out_wording,
        case_matters=skill.case_matters,
    )
