"""What an audit finds: a line each, with how bad it is and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["severe", "warning", "note", "fine"]
ORDER: tuple[Severity, ...] = ("severe", "warning", "note", "fine")
"""Severe: figures of this data would be wrong. Warning: they may mislead. Note: worth knowing.
Fine: looked at, nothing found."""

CHECKS = (
    "always-right", "answer-given-away", "answer-in-prompt", "columns", "constant-answer",
    "controls", "coverage", "duplicates-across-splits", "duplicates-within-split", "free-models",
    "ids-with-other-texts", "leave-one-task-out", "missing-not-at-random", "near-duplicates",
    "never-right", "no-answers", "no-tokens", "one-class", "pool", "prices", "same-column",
    "score-disagrees", "score-lenient", "shared-with-other", "shuffled-labels", "splits",
    "splits-differ", "tasks-by-split", "two-answers", "unknown-prices", "unseen-tasks",
)  # fmt: skip
"""Names of all findings, ``pool`` of the command among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of an audit."""

    check: str
    """Short name; ``--allow`` takes it."""
    severity: Severity
    what: str
    advice: str = ""
    """What to do."""
    n: int = 0
    """How many queries, models or cells it is about."""
    examples: tuple[str, ...] = ()


N_EXAMPLES = 3
_EXAMPLE_CHARS = 100


def shown(texts: Iterable[str]) -> tuple[str, ...]:
    """The first few, on a line each, cut."""
    some = list(texts)[:N_EXAMPLES]
    flat = (" ".join(t.split()) for t in some)
    return tuple(t if len(t) <= _EXAMPLE_CHARS else t[: _EXAMPLE_CHARS - 3] + "..." for t in flat)


def listed(names: Iterable[str], limit: int = 6) -> str:
    """``a, b and 3 more``."""
    every = list(names)
    told = ", ".join(every[:limit])
    return f"{told} and {len(every) - limit} more" if len(every) > limit else told
