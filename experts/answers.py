"""The final answer in a completion's text, in a form that can be compared.

Votes, outcomes and graders all compare these strings, so there is one way to make them.
"""

from __future__ import annotations

import re

_EQUATION = re.compile(r"=\s*(-?\w[\w.,]*?)\s*\.?\Z")
_MARKER = re.compile(r"(?:final answer|answer)\s*(?:is)?\s*[:=]\s*(.+)\Z", re.I | re.S)


def extract_answer(text: str) -> str:
    """What follows the last ``Answer:`` or ends an equation, else the whole text; spaces collapsed,
    final stop dropped.

    Letter case is kept: for "write it in capitals" it is the answer.

    >>> extract_answer("7 + 5 = 12.  Answer: 12.")
    '12'
    >>> extract_answer("64 x 7 = 420 + 28 = 448")
    '448'
    """
    tail = text.strip()
    while match := _MARKER.search(tail):
        tail = match.group(1).strip()
    if chained := _EQUATION.search(tail):
        tail = chained.group(1)
    return re.sub(r"\s+", " ", tail).removesuffix(".").strip()
