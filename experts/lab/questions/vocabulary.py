"""Words that the laboratory's questions use as words, as opposed to letters to work on.

The word tokenizer keeps these whole and spells everything else, so that "What is the capital of"
costs five tokens while "Mauritania" and "planet" stay visible letter by letter.
"""

from __future__ import annotations

import re

from experts.lab.questions import SKILLS, arithmetic, facts, lists, logic, units
from experts.lab.questions.grammar import wording_words


def closed_words() -> set[str]:
    """Words of trained wordings and of slots and answers that come from short closed lists."""
    texts: list[str] = [
        *arithmetic.THINGS, *arithmetic.CONTAINERS, *lists.ORDINALS, *lists.POSITIONS,
        *units.WEEKDAYS, *units.MONTHS, *logic.THINGS, *logic.KINDS, "yes no true false",
        "True False not and or largest biggest highest greatest smallest lowest ascending rising",
        "increasing decreasing falling following past prior to preceding",
        "descending maximum minimum after before later earlier ago from now forward back on will",
        "it is was month months day days 1st 2nd 3rd 4th last",
    ]  # fmt: skip
    texts += [word for scale in (*units.METRIC, *units.TIME) for word in _flat(scale)]
    texts += [w for scale in (*logic.PEOPLE_SCALES, *logic.THING_SCALES) for w in scale]
    texts += [form for fact in logic.FACTS for form in fact]
    texts += [row["continent"] for row in facts.table("countries")]
    texts += [row["family"] for row in facts.table("elements")]
    words = {w for text in texts for w in re.findall(r"[A-Za-z]+", text)}
    return words | wording_words([p for skill in SKILLS for p in skill.patterns])


def _flat(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [t for part in value for t in _flat(part)] if isinstance(value, tuple) else []
