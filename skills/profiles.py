"""Skill profiles: how often each arm is right on each skill, with its uncertainty.

A profile is a Beta posterior per (arm, skill). Few observations are shrunk towards the arm's rate
in the category, and that towards the arm's overall rate, so that two lucky answers do not make an
expert. Counts come from the ledger; nothing here reads it.

Where a question's skill is not known but believed, each of its skills gets its share of the
outcome: the expected counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    since: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    """What later outcomes add (``moved``): log-odds, a factor of the sd, and how many they are."""

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

    def moved(self, logits: np.ndarray, n: np.ndarray, prior_n: np.ndarray) -> Self:
        """The profiles with what later outcomes taught; each (n_arms, n_skills): added to the
        log-odds, of so many outcomes, to beliefs that counted for ``prior_n``."""
        before, known, since_n = self._since()
        factor = np.sqrt(prior_n / np.maximum(prior_n + n, 1e-9))
        return replace(self, since=(before + logits, known * factor, since_n + n))

    @property
    def n(self) -> np.ndarray:
        """(n_arms, n_skills) outcomes behind the posteriors; later ones discounted."""
        result: np.ndarray = self.trials + self._since()[2]
        return result

    def _since(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        zeros = np.zeros(self.trials.shape)
        return self.since or (zeros, zeros + 1, zeros)

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

    def interval(
        self, mean: np.ndarray, sd: np.ndarray, *, coverage: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Central credible interval of beliefs with these moments, as Beta distributions, each with
        Jeffreys' half success and half failure more.

        Without these an arm that was right 200 times of 200 would have the interval [1, 1]: what it
        is shrunk towards was seen in the same 200.
        """
        from scipy.stats import beta

        total = np.maximum(mean * (1 - mean) / np.maximum(sd, 1e-9) ** 2 - 1, 1e-6)
        tail = (1 - coverage) / 2
        a, b = mean * total + 0.5, (1 - mean) * total + 0.5
        low, high = beta.ppf([[[tail]], [[1 - tail]]], a, b)
        return np.minimum(low, mean), np.maximum(high, mean)

    def by_category(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        """Categories, and of each the mean rate over its skills, all weighted alike, its standard
        deviation, and trials; each (n_arms, n_categories)."""
        names = tuple(dict.fromkeys(self.categories))
        members = np.array([[c == name for name in names] for c in self.categories], float)
        share = members / members.sum(axis=0)
        mean, sd = self.posterior()
        return names, mean @ share, np.sqrt(sd**2 @ share**2), self.n @ members

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
        mean, sd = a / total, np.sqrt(a * b / (total**2 * (total + 1)))
        logits, known, _ = self._since()
        before = np.clip(mean, 0.01, 0.99)  # as decisions are moved (routers/online.py)
        after = 1 / (1 + (1 - before) / before * np.exp(-logits))
        slope = after * (1 - after) / (before * (1 - before))
        is_moved = logits != 0
        return (
            np.where(is_moved, after, mean),
            np.where(is_moved, np.minimum(sd * known * slope, 0.5), sd),
        )
