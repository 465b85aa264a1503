"""Which strategies are compared, and the settings that are tried on development."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from routers.plans import Plan

Sight = Literal["by_meaning", "by_cluster", "by_arm"]
"""Whose beliefs a plan runs on (``World``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A strategy of the field, and settings to choose among."""

    name: str
    tried: tuple[tuple[Sight, Plan], ...]
    note: str = ""
    """What its replay leaves out."""


def methods(n_samples: int, n_arms: int) -> tuple[Method, ...]:
    """``n_samples`` that are recorded of every arm; a method that needs several is played with
    models in the place of samples where there is one, and says so. What is missing is in
    ``cannot_be_replayed``."""
    of = Plan.of
    arms = [a for a in (3, 5, 7) if a <= n_arms]
    stops = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
    again = "" if n_samples > 1 else "; whoever is drawn twice says the same twice"
    found = [
        Method(name="top-k", tried=_on("by_meaning", [of("recruit", k=k) for k in (2, *arms)])),
        Method(
            name="top-p",
            tried=_on("by_meaning", [of("recruit_top_p", p=p, k=5) for p in (0.1, 0.2, 0.4, 0.6)]),
        ),
        Method(
            name="Symbolic-MoE",
            tried=tuple(
                (sight, of("recruit_by_skill", k=k, distinct=distinct, merge=merge))
                for sight in ("by_meaning", "by_cluster")
                for k in (3, 5)
                for distinct in (0, 1)
                for merge in ("vote", "weighted_vote")
            ),
            note="tasks or clusters stand for its keywords, a vote for its aggregator" + again,
        ),
        Method(
            name="Symbolic-MoE, as published",
            tried=tuple(
                (sight, of("recruit_by_skill", k=3, merge="vote"))
                for sight in ("by_meaning", "by_cluster")
            ),
            note="three drawn and a plain vote; chosen is only whether tasks or clusters are its "
            "skills" + again,
        ),
        Method(name="cascade", tried=_on("by_meaning", [of("cascade", stop_at=s) for s in stops])),
        Method(
            name="FrugalGPT",
            tried=_on("by_meaning", [of("frugal", stop_at=s, rungs=3) for s in stops]),
            note="no scorer is recorded: answers are accepted by what the router believed",
        ),
        Method(
            name="agreement",
            tried=_on(
                "by_meaning",
                [of("agreement", agree=a, most=m) for a in (2, 3) for m in (3, 4, 6) if m > a],
            ),
        ),
        Method(
            name="TEE guards",
            tried=_on("by_meaning", [of("guarded", margin=m) for m in (0, 0.02, 0.05, 0.1, 0.2)]),
        ),
    ]  # fmt: skip
    several = sorted({n for n in (3, 5, n_samples) if 1 < n <= n_samples})
    if several:
        found += [
            Method(
                name="self-consistency", tried=_on("by_arm", [of("vote", n=n) for n in several])
            ),
            Method(name="Avengers", tried=_on("by_cluster", [of("vote", n=n) for n in several])),
            Method(
                name="Model-Switch",
                tried=_on(
                    "by_meaning",
                    [of("switch", n=n, consistent=c) for n in several for c in (0.6, 0.8, 1)],
                ),
            ),
        ]
    else:
        found += [
            Method(
                name="Avengers, models for samples",
                tried=_on("by_cluster", [of("vote", n=1, arms=a) for a in (1, *arms)]),
                note="one sample of each model is recorded: the cluster's best few vote",
            ),
            Method(
                name="Model-Switch, models for samples",
                tried=_on(
                    "by_meaning",
                    [
                        of("switch", n=1, team=t, consistent=c)
                        for t in (2, 3, 5)
                        for c in (0.6, 0.8, 1)
                        if 2 * t <= n_arms
                    ],
                ),
                note="one sample of each model is recorded: a team of models must agree, or the "
                "next team votes, too",
            ),
        ]
    return tuple(method for method in found if method.tried)


def cannot_be_replayed(n_samples: int, n_arms: int) -> list[str]:
    """What recorded outcomes cannot say, by name."""
    told = ["AutoMix, guide-solver-judge, retrieval, rounds, best-of by a judge, synthesis: they "
            "ask what nobody was asked when the outcomes were recorded"]  # fmt: skip
    if n_samples < 2:
        told.append("self-consistency: one sample of each model is recorded")
        if n_arms < 4:
            told.append("Model-Switch, models for samples: two teams of two need four models")
    return told


def _on(sight: Sight, plans: Sequence[Plan]) -> tuple[tuple[Sight, Plan], ...]:
    return tuple((sight, plan) for plan in plans)
