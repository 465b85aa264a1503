"""How often a team is right, beside its members alone, their vote, a synthesis, and two calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.latent.answering import answers, own_routes
from eval.latent.baselines import alone, any_right, synthesised, two_calls, votes
from eval.statistics import Estimate, mean_interval
from experts.lab.composites.questions import KINDS, Kind, LatentQuestion, draw_questions
from experts.lab.questions.skill import Split
from experts.latent.net.team import Team
from experts.latent.plan import Control

LATENT, BEST_SINGLE, ANY, VOTE, SYNTHESIS, TWO_CALLS = WAYS = (
    "latent", "best single", "any member", "vote", "synthesis", "two calls",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class KindFigures:
    """Of one kind of question."""

    n: int
    ways: Mapping[str, Estimate]
    """Share right, by way of answering."""
    right: Mapping[str, np.ndarray]
    """(n,) bool, by way: for differences question by question."""


def accuracy(
    team: Team, *, n: int, split: Split, seed: int, kinds: Sequence[Kind] = KINDS
) -> dict[str, KindFigures]:
    """Figures of each kind; questions are of the split, and no two are the same."""
    return {kind: _of_kind(team, draw_questions(kind, split, n, seed=seed)) for kind in kinds}


def latent_right(
    team: Team, questions: Sequence[LatentQuestion], *, control: Control = "none"
) -> np.ndarray:
    """Whether the team itself is right, (n,) bool; under a control, with what that leaves of the
    peers' thoughts."""
    texts = [q.text for q in questions]
    return _right(answers(team, texts, own_routes(team, texts), control=control), questions)


def other_ways(team: Team, questions: Sequence[LatentQuestion]) -> dict[str, np.ndarray]:
    """Whether each other way is right: (n,) bool. Best single and synthesis are those of the member
    that does best on these questions: a choice that nobody could make beforehand."""
    said = alone(team, questions)
    single = [_right(answers_, questions) for answers_ in said.values()]
    merged = [_right(synthesised(team, by, said, questions), questions) for by in said]
    return {
        BEST_SINGLE: max(single, key=np.sum),
        ANY: np.array(any_right(said, questions)),
        VOTE: _right(votes(said), questions),
        SYNTHESIS: max(merged, key=np.sum),
        TWO_CALLS: _right(two_calls(team, questions), questions),
    }


def report_object(found: Mapping[str, KindFigures]) -> dict[str, Any]:
    """For JSON."""
    return {
        kind: {"n": f.n, **{way: {"value": e.value, "ci": e.ci} for way, e in f.ways.items()}}
        for kind, f in found.items()
    }


def _of_kind(team: Team, questions: Sequence[LatentQuestion]) -> KindFigures:
    right = {LATENT: latent_right(team, questions), **other_ways(team, questions)}
    ways = {
        way: Estimate(value=float(values.mean()), ci=mean_interval(values.astype(float)))
        for way, values in right.items()
    }
    return KindFigures(n=len(questions), ways=ways, right=right)


def _right(said: Sequence[str], questions: Sequence[LatentQuestion]) -> np.ndarray:
    return np.array([s == q.answer for s, q in zip(said, questions, strict=True)])
