"""What goes into the ledger and comes out, where no value of ``experts`` says it."""

from __future__ import annotations

from dataclasses import dataclass

from experts.values import Arm, Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """Answers that somebody has judged."""

    n: int
    n_right: float
    """The sum of their latest verdicts, each from 0 to 1."""
    cost_usd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What is known about a question."""

    skill: str | None = None
    reference: tuple[str, ...] = ()
    """Right answers."""
    split: str | None = None
    """train, val or test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a call's answer was right, and who says so."""

    call_id: int
    score: float
    """In [0, 1]."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCall:
    """A completion as the ledger holds it, with what is known about its question."""

    call_id: int
    completion: Completion
    version: str
    """Of the expert's weights."""
    skill: str | None
    split: str | None
    score: float | None
    """Latest verdict on the call, in [0, 1]; None where nobody judged it."""
    score_source: str | None = None
    """Who gave it."""
    reference: tuple[str, ...] = ()
    """Right answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunCall:
    """A call of a durable run: it was about to be made, and what is known of it since."""

    begun_id: int
    at: float
    """Seconds since 1970."""
    seq: int
    """Which of the run's calls, from 0. One that was begun again has several rows."""
    arm: Arm
    digest: str
    """Of what was asked (``experts.digests``)."""
    most_usd: float
    """Upper bound of what it costs in tokens."""
    completion: Completion | None
    """None while it is under way, and when whoever waited for it was killed: then it may have been
    paid, and nobody knows."""
