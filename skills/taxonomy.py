"""The skill taxonomy: categories, the skills under them, and a sentence about each.

It is a small JSON file that people can read and edit; names are what ledgers and profiles store.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
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

        Raises SkillsError that names the line: of what is not JSON, or not two levels; of a skill
        that stands twice or has no description of its own, since profiles would mix.
        """
        name = str(path or "taxonomy.json")
        try:
            text = (
                path.read_text(encoding="utf-8")
                if path
                else files("skills").joinpath("taxonomy.json").read_text(encoding="utf-8")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise SkillsError(f"{name} cannot be read: {error}") from None
        return cls.parse(text, name)

    @classmethod
    def parse(cls, text: str, name: str) -> Taxonomy:
        """A taxonomy of a file's text; ``name`` is what errors call it. Raises as ``load``."""
        try:
            # Pairs, because of two equal keys an object would keep the last in silence.
            tree = json.loads(text, object_pairs_hook=tuple)
        except json.JSONDecodeError as error:
            raise SkillsError(
                f"{name}, line {error.lineno}: not JSON ({error.msg}). {_FORM}"
            ) from None
        except RecursionError:
            raise SkillsError(f"{name} is not a taxonomy: too deep. {_FORM}") from None
        skills = _skills(tree, _Places(text, name))
        if not skills:
            raise SkillsError(f"{name} has no skills. {_FORM}")
        return cls(skills)

    def nearest(self, name: str) -> str | None:
        """The skill or category whose name is closest to a mistyped one."""
        return nearest_name(name, (*self.names, *self.categories))


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The closest of the known names; None where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


_FORM = 'It should read {"category": {"skill": "One sentence about it.", ...}, ...}.'
_PAIR = 2


class _Places:
    """Where names stand in a file, to say the line of what is wrong."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._lines: dict[str, list[int]] = {}
        for match in re.finditer(r'("(?:[^"\\\n]|\\.)*")\s*:', text):
            try:
                key = json.loads(match[1])
            except json.JSONDecodeError:
                continue  # within a sentence
            line = text.count("\n", 0, match.start()) + 1
            self._lines.setdefault(key, []).append(line)

    def problem(self, key: str, what: str, *, nth: int = 0) -> SkillsError:
        """An error about the n-th place where a key stands."""
        lines = self._lines.get(key, [])
        line = f", line {lines[nth]}" if nth < len(lines) else ""
        return SkillsError(f"{self.name}{line}: {what}")

    def first_line(self, key: str) -> str:
        lines = self._lines.get(key, [])
        return f" in line {lines[0]}" if lines else ""


def _skills(tree: object, places: _Places) -> tuple[Skill, ...]:
    if not _is_object(tree):
        raise SkillsError(f"{places.name} is not a taxonomy: it has no categories. {_FORM}")
    skills: dict[str, Skill] = {}
    by_description: dict[str, str] = {}
    categories: set[str] = set()
    for category, members in tree:  # type: ignore[attr-defined]
        _check_name(category, places)
        if category in categories:
            raise places.problem(
                category, f"the category {category!r} stands twice. Put its skills together.", nth=1
            )
        categories.add(category)
        if not _is_object(members) or not members:
            raise places.problem(category, f"the category {category!r} holds no skills. {_FORM}")
        for name, description in members:
            _check_name(name, places)
            if name in skills:
                other = skills[name].category
                raise places.problem(
                    name,
                    f"the skill {name!r} stands under {other!r}{places.first_line(name)}, too. "
                    "Rename one: outcomes are kept by the skill's name.",
                    nth=1,
                )
            if not isinstance(description, str) or not description.strip():
                raise places.problem(
                    name, f"the skill {name!r} is without a description. Add a sentence."
                )
            same = by_description.setdefault(" ".join(description.lower().split()), name)
            if same != name:
                raise places.problem(
                    name,
                    f"the skill {name!r} has the same description as {same!r}; nothing could tell "
                    "them apart. Reword one.",
                )
            skills[name] = Skill(name=name, category=category, description=description)
    return tuple(skills.values())


def _is_object(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(p, tuple) and len(p) == _PAIR for p in value)


def _check_name(name: str, places: _Places) -> None:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise places.problem(
            name, f"{name!r} is no name: use letters, digits and underscores, without spaces around"
        )
