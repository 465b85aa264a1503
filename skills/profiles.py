"""Skill profiles: how often each arm is right on each skill, with its uncertainty.

A profile is a Beta posterior per (arm, skill). Few observations are shrunk towards the arm's rate
in the category, and that towards the arm's overall rate, so that two lucky answers do not make an
expert. Counts come from the ledger; nothing here reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class SkillProfiles:
    """Success counts of arms on skills, and the posteriors that follow from them."""

    arms: tuple[str, ...]
    skills: tuple[str, ...]
    categories: tuple[str, ...]
    """(n_skills,) category of each skill."""
    successes: np.ndarray
    """(n_arms, n_skills); scores between 0 and 1 count as fractions of a success."""
    trials: np.ndarray
    """(n_arms, n_skills)."""
    prior_strength: float = 4.0
    """How many observations the parent's rate is worth."""

    @classmethod
    def from_outcomes(
        cls,
        arms: Sequence[str],
        skills: Sequence[str],
        category_of: Mapping[str, str],
        labels: Sequence[str],
        scores: np.ndarray,
        *,
        prior_strength: float = 4.0,
    ) -> Self:
        """labels: n skill names; scores: (n, n_arms) in [0, 1], NaN where an arm was not asked."""
        index = {s: i for i, s in enumerate(skills)}
        one_hot = np.zeros((len(labels), len(skills)))
        one_hot[np.arange(len(labels)), [index[label] for label in labels]] = 1
        asked = ~np.isnan(scores)
        return cls(
            arms=tuple(arms),
            skills=tuple(skills),
            categories=tuple(category_of[s] for s in skills),
            successes=np.nan_to_num(scores).T @ one_hot,
            trials=asked.astype(float).T @ one_hot,
            prior_strength=prior_strength,
        )

    def overall(self) -> np.ndarray:
        """(n_arms,) rate over all skills, each skill weighted alike, shrunk towards one half.

        Skills weigh alike because this is the belief about a question of an unknown skill, and
        how often the known ones were asked says nothing about that.
        """
        rates = self.successes / np.maximum(self.trials, 1)
        n_skills = np.maximum((self.trials > 0).sum(axis=1), 1)
        n, prior = self.trials.sum(axis=1), self.prior_strength
        result: np.ndarray = (rates.sum(axis=1) / n_skills * n + 0.5 * prior) / (n + prior)
        return result

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, each (n_arms, n_skills)."""
        strength = self.prior_strength
        members = np.array(
            [[c == d for d in self.categories] for c in self.categories], dtype=float
        )
        in_category = self.successes @ members.T, self.trials @ members.T
        parent = (in_category[0] + strength * self.overall()[:, None]) / (in_category[1] + strength)
        a = self.successes + strength * parent
        b = self.trials - self.successes + strength * (1 - parent)
        total = a + b
        return a / total, np.sqrt(a * b / (total**2 * (total + 1)))
