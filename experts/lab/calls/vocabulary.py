"""Words that the tool caller reads whole; all others, and whatever calls copy, it reads spelled."""

from __future__ import annotations

import re
from collections.abc import Iterable

from experts.lab.calls.kinds import GROUPS, tool_kinds
from experts.lab.calls.slots import UNITS
from experts.lab.questions.arithmetic import SKILLS as ARITHMETIC
from experts.lab.questions.grammar import wording_words
from experts.lab.questions.units import MONTHS

_ALWAYS = (
    "string", "number", "integer", "strings", "numbers", "boolean", "any", "label", "probability",
    "answer", "result", "class", "value", "No", "tool", "fits",
)  # fmt: skip


def call_words() -> list[str]:
    """Pre-tokens (with their leading space, if any) that are kept whole."""
    spoken = wording_words([p for skill in ARITHMETIC for p in skill.patterns])
    written = set(_ALWAYS)
    """Words that stand without a space before them: in names and between JSON's marks."""
    for kind in (kind for group in GROUPS for kind in tool_kinds(group) if kind.split != "test"):
        said = (*kind.descriptions, *kind.wordings)
        spoken |= _words(re.sub(r"\{\w+\}", " ", p.text) for p in said if p.split == "train")
        written |= _words(p.text for p in kind.names if p.split == "train")
        written |= _words(name for p in kind.parameters for name in p.names)
        choices = [choice for p in kind.parameters for choice in p.choices]
        written |= _words(value for value, _ in choices)
        spoken |= _words(phrase for _, phrase in choices)
    units = {unit for alike in UNITS for unit in alike}
    spoken |= {*MONTHS, *units}
    written |= {*MONTHS, *units}
    both = {w for w in spoken | written if len(w) > 1}
    bare = {w for w in written if len(w) > 1}
    capital = {w.capitalize() for w in spoken if len(w) > 1 and w.islower()}
    return sorted({*bare, *capital, *(w for w in spoken if len(w) > 1 and not w.islower()),
                   *(f" {w}" for w in both), *(f" {w.lower()}" for w in both)})  # fmt: skip


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[A-Za-z]+", text)}
