"""What a lab skill is: a way to draw a problem, and the wordings that ask it.

Splits live here because they are part of what a question *is*: a problem (or, for facts, a pair of
fact and wording) belongs to train, val or test by a hash of its content, whatever the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from experts.lab.questions.grammar import Pattern, Split, content_hash, read_patterns

__all__ = ["Draw", "LabSkill", "Split", "lab_skill", "split_of"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One problem: the values of its slots and the right answer."""

    key: str
    """Identity of the problem within its skill: two draws with equal keys are the same problem."""
    slots: Mapping[str, str]
    answer: str
    worked: str = ""
    """How an expert is taught to write the answer where it helps to show the work first."""


@dataclass(frozen=True, slots=True)
class LabSkill:
    """A skill of the laboratory's questions."""

    name: str
    """As in the skill taxonomy, which describes it."""
    category: str
    draw: Callable[[Random], Draw]
    patterns: tuple[Pattern, ...]
    is_fact: bool = False
    """Facts cannot be held out (nobody can derive a capital): their (fact, wording) pairs are."""
    case_matters: bool = False

    def split_of(self, draw: Draw, pattern: Pattern) -> Split:
        """80 % train, 10 % val, 10 % test, by content."""
        wording = f"|{pattern.text}" if self.is_fact else ""
        return split_of(f"{self.name}|{draw.key}{wording}")


def split_of(content: str) -> Split:
    """Split of a content string by its hash: stable across seeds, processes and machines."""
    bucket = content_hash(content) % 10
    return "test" if bucket == 0 else "val" if bucket == 1 else "train"


def lab_skill(
    name: str,
    category: str,
    draw: Callable[[Random], Draw],
    *,
    is_fact: bool = False,
    case_matters: bool = False,
) -> LabSkill:
    """A skill with the wordings of ``patterns/{name}.txt``."""
    return LabSkill(
        name=name,
        category=category,
        draw=draw,
        patterns=read_patterns(name),
        is_fact=is_fact,
        case_matters=case_matters,
    )
