"""Words that composites use as words; names, numbers and words to work on are spelled."""

from __future__ import annotations

import re

from experts.lab.composites.phrases import UNKNOWN_WORDINGS
from experts.lab.composites.steps import STEPS
from experts.lab.composites.world import TOKENS
from experts.lab.questions.grammar import wording_words
from experts.lab.questions.words import word_list


def composite_words() -> list[str]:
    """Pre-tokens (with their leading space, if any) that are kept whole."""
    words = wording_words([p for step in STEPS for p in step.patterns]) | set(TOKENS)
    words |= {w for t in UNKNOWN_WORDINGS for w in re.findall(r"[A-Za-z]+", _without_slots(t))}
    words = {w for w in words if len(w) > 1} - (set(word_list()) - set(TOKENS))
    words |= {w.capitalize() for w in words} | {w.lower() for w in words}
    return sorted({*words, *(f" {w}" for w in words)})


def _without_slots(text: str) -> str:
    return re.sub(r"\{\w+\}", " ", text)
