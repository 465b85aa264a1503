"""Strategies and aggregators that are compared, with the settings to choose among."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.strategies import COMPOSE
from routers.plans import Plan

JUDGE = "generalist"
"""Whoever judges, guides, looks up and puts together: the one expert that reads of every field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A strategy or an aggregator, and settings to choose among."""

    name: str
    plans: tuple[Plan, ...]
    role: str = "strategy"
    """Or ``aggregator``: ``vote`` is the name of one of each."""

    @property
    def key(self) -> tuple[str, str]:
        return self.role, self.name


def families(n_sequences: int, judge: str = JUDGE) -> tuple[Family, ...]:
    """The menu of docs/strategies.md. ``n_sequences`` of waves that were learned. Modes are left
    out: no bundled expert has more than one."""
    of = Plan.of
    tried = {
        "single": [of("single")],
        "vote": [of("vote", n=3), of("vote", n=5)],
        "switch": [of("switch", n=3, consistent=1), of("switch", n=5, consistent=0.8)],
        "cascade": [of("cascade", stop_at=s) for s in (0.8, 0.9, 0.97)],
        "frugal": [of("frugal", stop_at=s, rungs=3) for s in (0.8, 0.9)],
        "agreement": [of("agreement", agree=2, most=4)],
        "automix": [of("automix", by=judge)],
        "recruit": [of("recruit", k=k) for k in (2, 3)],
        "recruit_top_p": [of("recruit_top_p", p=p, k=4) for p in (0.4, 0.6)],
        "recruit_by_skill": [of("recruit_by_skill", k=3, distinct=d) for d in (0, 1)],
        "guarded": [of("guarded", margin=m) for m in (0.1, 0.3)],
        "guide": [of("guide", by=judge)],
        "retrieve": [of("retrieve", by=judge)],
        "rounds": [of("rounds", by=judge)],
        "compose": [of(COMPOSE, sequence=k) for k in range(n_sequences)],
        "abstain": [of("abstain")],
    }
    merges = ("first", "vote", "weighted_vote", "ranked_choice", "best_of", "synthesis")
    return (
        *(Family(name=name, plans=tuple(plans)) for name, plans in tried.items() if plans),
        *(
            Family(
                name=name,
                plans=(of("recruit", k=3, merge=name, by=judge),),
                role="aggregator",
            )
            for name in merges
        ),
    )
