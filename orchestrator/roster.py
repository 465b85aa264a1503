"""The pool as its owners and its users see it: what each expert is, costs, and is good at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from experts.cards import ExpertCard
from skills.profiles import SkillProfiles

Strengths = Mapping[str, Mapping[str, float]]
"""Per expert and category, the share of questions that it is expected to answer right."""


def expert_rows(
    cards: Iterable[ExpertCard], strengths: Strengths = MappingProxyType({})
) -> list[dict[str, Any]]:
    """JSON-ready, one row an expert."""
    return [
        {
            "name": card.name,
            "kind": card.kind,
            "description": card.description,
            "parameters": card.parameters,
            "memory_bytes": card.memory_bytes,
            "context_tokens": card.context_tokens,
            "input_usd_per_mtok": card.prices.input_usd_per_mtok,
            "output_usd_per_mtok": card.prices.output_usd_per_mtok,
            "call_usd": card.prices.call_usd,
            "cached_input_usd_per_mtok": card.prices.cached_input_usd_per_mtok,
            "price_source": card.price_source,
            "success_by_category": dict(strengths.get(card.name, {})),
        }
        for card in cards
    ]


def success_by_category(profiles: SkillProfiles) -> dict[str, dict[str, float]]:
    """The mean of the posterior means of a category's skills."""
    names, mean, _, _ = profiles.by_category()
    return {
        arm: {name: round(float(p), 4) for name, p in zip(names, row, strict=True)}
        for arm, row in zip(profiles.arms, mean, strict=True)
    }
