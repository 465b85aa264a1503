"""Graders: is an answer right? Each takes answer and reference and gives a score in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from experts.answers import extract_answer
from experts.errors import UnknownName

Grader = Callable[[str, str], float]


def exact(answer: str, reference: str) -> float:
    """Equal but for letter case, spaces and a final stop.

    >>> exact("paris.", "Paris"), exact("PLANET", "planet"), exact("Lyon", "Paris")
    (1.0, 1.0, 0.0)
    """
    return float(extract_answer(answer).casefold() == extract_answer(reference).casefold())


def exact_case(answer: str, reference: str) -> float:
    """Like ``exact``, letter case included: for "write it in capitals".

    >>> exact_case("planet", "PLANET")
    0.0
    """
    return float(extract_answer(answer) == extract_answer(reference))


GRADERS: Mapping[str, Grader] = {"exact": exact, "exact_case": exact_case}


def grader(name: str) -> Grader:
    """Raises UnknownName with the nearest names."""
    if name not in GRADERS:
        raise UnknownName(name, GRADERS, what="grader")
    return GRADERS[name]
