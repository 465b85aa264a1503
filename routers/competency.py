"""Who suits a question, by the skills that it needs: Symbolic-MoE's weights (arXiv:2503.05641).

Local suitability times global competency. Their profile of a model counts right minus wrong answers
per skill, so it also grows with how often a skill was asked; that is kept, because it is their
method. Rates that are shrunk (``skills/profiles``) are what the router's own P(right) is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from experts.values import Arm
from routers.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True, slots=True)
class Competency:
    """Right minus wrong answers of each arm on each skill."""

    arms: tuple[Arm, ...]
    skills: tuple[str, ...]
    margin: np.ndarray
    """(n_arms, n_skills)."""

    @classmethod
    def of(cls, outcomes: Outcomes) -> Self:
        """Of recorded outcomes; those that are not known do not count."""
        skills = tuple(dict.fromkeys(outcomes.skills))
        index = {s: i for i, s in enumerate(skills)}
        one_hot = np.zeros((len(outcomes), len(skills)))
        one_hot[np.arange(len(outcomes)), [index[s] for s in outcomes.skills]] = 1
        signs = np.where(np.isnan(outcomes.scores), 0.0, 2 * outcomes.scores - 1)
        return cls(arms=outcomes.arms, skills=skills, margin=signs.T @ one_hot)

    def weights(
        self, skills: Mapping[str, float], arms: Sequence[Arm], *, temperature: float = 0.5
    ) -> np.ndarray:
        """(n_arms,) of ``arms``, summing to 1: the chances that each is recruited.

        L = sum of the margins on the question's skills (here by how likely each is needed); g = sum
        of all margins, lifted above 0 where one is not; gamma = g^(1/T), normalised; w = L gamma
        where L > 0. All alike for a question of no known skill, or arms that nothing is known of.
        """
        rows = [self.arms.index(arm) for arm in arms if arm in self.arms]
        known = {s: p for s, p in skills.items() if s in self.skills}
        if len(rows) < len(arms) or not known:
            return np.full(len(arms), 1 / max(1, len(arms)))
        wanted = np.zeros(len(self.skills))
        for skill, p in known.items():
            wanted[self.skills.index(skill)] = p
        local = (self.margin @ wanted)[rows]
        overall = self.margin.sum(axis=1)[rows]
        if overall.min() < 0:
            overall = overall - overall.min() + 1
        if local.max() <= 0:
            local = local - local.min() + 1
        # A share of the largest first: powers of large counts are large.
        share = (overall / max(overall.max(), 1e-12)) ** (1 / temperature)
        weights = np.maximum(local, 0) * share
        if weights.sum() <= 0:
            return np.full(len(arms), 1 / len(arms))
        result: np.ndarray = weights / weights.sum()
        return result
