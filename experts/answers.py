"""The final answer in a completion's text, in a form that can be compared.

Votes, outcomes and graders all compare these strings, so there is one way to make them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_EQUATION = re.compile(r"=\s*(-?\w[\w.,]*?)\s*\.?\Z")
# Models write these texts, and tools write to models: no two neighbouring parts of a pattern may
# match the same run, or reading a long run of it is quadratic or worse.
_MARKER = re.compile(r"(?:final )?answer[\s*_]*(?:is[\s*_]*)?[:=][*_]*", re.I)
_SENTENCE = re.compile(r"\banswer is\s+(?=\S)((?:(?!\.\s)[^\n]){1,80})\Z", re.I)
"""Without a colon it may be any talk of answers, so only the end of the text counts."""
_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.S | re.I)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.S | re.I)
_BOX = "\\boxed{"
_EMPHASIS = re.compile(r"\A([*_`]{1,3})(?=\S)((?:(?!\1).)+)\1\.?\Z", re.S)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.S)
_SIGNS = re.compile(r"[=<\\*_`]|answer", re.I)
"""Without any of these, none of the above is in a text."""
_SHORT_CHARS = 2000
_LAYERS = 8
"""Of markup around an answer that are taken off: more than anybody means, and each is a reading of
the whole text."""


def extract_answer(text: str) -> str:
    """What follows the last ``Answer:``, stands in the last ``\\boxed{}`` or ``<answer>``, or ends
    an equation, else the whole text; spaces collapsed, markup around it and the final stop dropped.
    What comes before ``</think>`` is not looked at, unless nothing comes after it. Empty where the
    text says that an answer follows, and none does.

    Letter case is kept: for "write it in capitals" it is the answer.

    >>> extract_answer("7 + 5 = 12.  Answer: 12.")
    '12'
    >>> extract_answer("64 x 7 = 420 + 28 = 448")
    '448'
    >>> extract_answer("<think>Answer: 3?</think> **Answer:** $\\\\boxed{4}$")
    '4'
    """
    tail = text.strip()
    if len(tail) < _SHORT_CHARS and not _SIGNS.search(tail):
        return " ".join(tail.split()).removesuffix(".").strip()
    tail = _THOUGHT.sub("", tail).strip() or tail
    if tagged := _TAGGED.findall(tail):
        tail = _last_said(tagged)
    if marks := list(_MARKER.finditer(tail)):
        ends = [*(m.start() for m in marks[1:]), len(tail)]
        tail = _last_said([tail[m.end() : end] for m, end in zip(marks, ends, strict=True)])
    boxed = _last_boxed(tail)
    if boxed is not None:
        tail = boxed
    elif match := _SENTENCE.search(tail):
        tail = match.group(1).strip()
    if tail.endswith("**") and tail.count("**") == 1:  # "**Answer: 12**"
        tail = tail.removesuffix("**").strip()
    for _ in range(_LAYERS):
        if not (bare := _FENCE.match(tail) or _EMPHASIS.match(tail)):
            break
        tail = bare.group(bare.lastindex or 0).strip()
    if chained := _EQUATION.search(tail):
        tail = chained.group(1)
    return re.sub(r"\s+", " ", tail).removesuffix(".").strip()


def _last_said(places: Sequence[str]) -> str:
    """What stands in the last of the places for an answer that holds anything; else empty."""
    return next((said for place in reversed(places) if (said := place.strip())), "")


def _last_boxed(text: str) -> str | None:
    """What is in the last LaTeX box, its braces balanced; None where there is none that closes."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    depth = 1
    for i in range(start + len(_BOX), len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if not depth:
            return text[start + len(_BOX) : i].strip()
    return None
