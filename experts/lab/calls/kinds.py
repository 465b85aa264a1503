"""Kinds of tools: what one can be called, how it is described, what it takes, how it is asked for.

A file of ``texts/`` holds several. Names, descriptions and wordings belong to train, val or test by
a hash of their text, as the wordings of questions do; a kind that says so belongs to one split as a
whole: look-alikes of the test are of fields that training never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from experts.lab.questions.grammar import FORMS, Pattern, Split, parse_pattern

Group = Literal["wireless", "lookalikes", "general"]
GROUPS: tuple[Group, ...] = ("wireless", "lookalikes", "general")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One argument of a kind of tool."""

    slot: str
    """Its value, as patterns name it and ``experts.lab.calls.slots`` draws it."""
    type: str
    """Of JSON Schema; ``strings`` and ``numbers`` are arrays of these."""
    names: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()
    """Where the schema lists the values: each, and how patterns say it."""
    is_either: bool = False
    """All names are on offer, none is required, and a question uses one; patterns say which in the
    slot ``m``."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ToolKind:
    """One kind of tool."""

    key: str
    group: Group
    split: Split | None
    """The only split that offers it; None: all do."""
    names: tuple[Pattern, ...]
    parameters: tuple[Parameter, ...]
    descriptions: tuple[Pattern, ...]
    wordings: tuple[Pattern, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitTexts:
    """What a split may use of a kind of tool."""

    names: Sequence[Pattern]
    descriptions: Sequence[Pattern]
    wordings: Sequence[Pattern]


@cache
def texts_of(kind: ToolKind, split: Split) -> SplitTexts:
    return SplitTexts(
        names=of_split(kind.names, split),
        descriptions=of_split(kind.descriptions, split),
        wordings=of_split(kind.wordings, split),
    )


def of_split(patterns: Sequence[Pattern], split: Split) -> Sequence[Pattern]:
    """Those of the split, or of train where it has none, or all where that has none: small kinds
    have few."""
    own = [p for p in patterns if p.split == split]
    return own or [p for p in patterns if p.split == "train"] or patterns


@cache
def tool_kinds(group: Group) -> tuple[ToolKind, ...]:
    """Kinds of ``texts/{group}.txt``. Raises ValueError for a line that is of no section."""
    text = files("experts.lab.calls").joinpath(f"texts/{group}.txt").read_text("utf-8")
    return tuple(_kind(block, group) for block in text.split("== ")[1:])


def _kind(block: str, group: Group) -> ToolKind:
    key, *lines = block.strip().splitlines()
    names: list[Pattern] = []
    parameters: list[Parameter] = []
    sections: dict[str, list[Pattern]] = {form: [] for form in ("says", *FORMS)}
    section, split = "", None
    for line in lines:
        head, _, rest = line.partition(": ")
        if head == "split":
            split = rest
        elif head == "names":
            names = [parse_pattern(name, "name") for name in rest.split()]
        elif head == "param":
            slot, kind, *known = rest.split()
            parameters.append(Parameter(slot=slot, type=kind, names=tuple(known)))
        elif head == "either":
            slot, kind, *known = rest.split()
            made = Parameter(slot=slot, type=kind, names=tuple(known), is_either=True)
            parameters.append(made)
        elif head == "choice":
            told, _, listed = rest.partition(" = ")
            slot, *known = told.split()
            pairs = (pair.split(":") for pair in listed.split(", "))
            choices = tuple((value, phrase) for value, phrase in pairs)
            made = Parameter(slot=slot, type="string", names=tuple(known), choices=choices)
            parameters.append(made)
        elif line.removesuffix(":") in sections:
            section = line.removesuffix(":")
        elif section:
            sections[section].append(parse_pattern(line, section))
        else:
            raise ValueError(f"{group}.txt: {line!r} of {key!r} is of no section.")
    return ToolKind(
        key=key,
        group=group,
        split=split,  # type: ignore[arg-type]
        names=tuple(names),
        parameters=tuple(parameters),
        descriptions=tuple(sections.pop("says")),
        wordings=tuple(p for patterns in sections.values() for p in patterns),
    )
