"""The skill taxonomy: categories, the skills under them, and a sentence about each.

It is a small JSON file that people can read and edit; ids are what ledgers and profiles store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from skills.errors import SkillsError


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """One thing that a question may need."""

    name: str
    category: str
    description: str


@dataclass(frozen=True)
class Taxonomy:
    """Skills under categories, two levels."""

    skills: tuple[Skill, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.skills)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """In order of first appearance."""
        return tuple(dict.fromkeys(s.category for s in self.skills))

    @cached_property
    def category_of(self) -> dict[str, str]:
        """Skill name to category name."""
        return {s.name: s.category for s in self.skills}

    @classmethod
    def load(cls, path: Path | None = None) -> Taxonomy:
        """Read a taxonomy file, or the shipped one.

        Raises SkillsError when a skill stands twice or has no description: profiles would mix.
        """
        text = (
            path.read_text(encoding="utf-8")
            if path
            else files("skills").joinpath("taxonomy.json").read_text(encoding="utf-8")
        )
        try:
            skills = tuple(
                Skill(name=name, category=category, description=description)
                for category, members in json.loads(text).items()
                for name, description in members.items()
            )
        except (AttributeError, TypeError, json.JSONDecodeError) as error:
            raise SkillsError(
                f"{path or 'taxonomy.json'} is not a taxonomy: {error}. It should read "
                '{"category": {"skill": "One sentence about it."}}.'
            ) from None
        names = [s.name for s in skills]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise SkillsError(f"Skills stand under two categories: {', '.join(twice)}. Rename one.")
        if empty := [s.name for s in skills if not s.description.strip()]:
            raise SkillsError(f"Skills without a description: {', '.join(empty)}. Add a sentence.")
        return cls(skills)
