"""Skill profiles: which skill does the question need, and who is good at it."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes
from skills.annotate import NeighbourAnnotator
from skills.profiles import SkillProfiles


class ProfileRates:
    """P(skill | question) by neighbours of known skill, times P(right | arm, skill) as Beta means.

    With tasks as skills and a hard label this is "best model per data set", the plateau that most
    published routers end on (LLMRouterBench, arXiv:2601.07206).
    """

    def __init__(
        self, *, k: int = 15, sharpness: float = 20.0, prior_strength: float = 4.0
    ) -> None:
        self.k, self.sharpness, self.prior_strength = k, sharpness, prior_strength

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        arm_rates(outcomes.scores)  # the same refusals as every estimator's
        skills = tuple(dict.fromkeys(outcomes.skills))
        self.annotator_ = NeighbourAnnotator(k=self.k, sharpness=self.sharpness).fit(
            features.embeddings, outcomes.skills, skills
        )
        profiles = SkillProfiles.from_outcomes(
            [str(a) for a in outcomes.arms],
            skills,
            dict.fromkeys(skills, "all"),
            outcomes.skills,
            outcomes.scores,
            prior_strength=self.prior_strength,
        )
        self.rates_ = profiles.posterior()[0].T
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "rates_")
        result: np.ndarray = self.annotator_.annotate(features.embeddings).p_skill @ self.rates_
        return result
