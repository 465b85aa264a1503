"""Skill profiles as they are now: what was fitted, moved by what was learned since.

Decisions are moved by the same shifts, so what is shown is what is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from experts.expert import Pool
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.learning.learner import Learner
from orchestrator.ledger import Ledger
from routers.online import Shifts
from skills.embedders import Embedder
from skills.profiles import SkillProfiles


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentProfiles:
    """Of a fitted state and its ledger."""

    fitted: Fitted
    profiles: SkillProfiles
    n_newer: int
    """Outcomes since the fit that were learned from."""


def current_profiles(fitted: Fitted, learned: Shifts | None) -> SkillProfiles:
    """The fitted profiles with shifts of use: those of the state, and those learned since."""
    profiles = fitted.router.profiles_
    for shifts in (fitted.shifts, learned):
        if shifts is not None:  # their last column is of general questions
            profiles = profiles.moved(
                shifts.logits[:, :-1], shifts.n[:, :-1], shifts.prior_n[:, :-1]
            )
    return profiles


def load_current(config: Config, pool: Pool, embedder: Embedder) -> CurrentProfiles:
    """Of the configured pool. Raises NotFitted as ``load_fitted``."""
    from orchestrator.states import load_fitted

    fitted = load_fitted(config, pool, embedder)
    if not config.shortcut:
        fitted = replace(fitted, shortcut=None)
    if not config.ledger_path.exists():
        return CurrentProfiles(fitted=fitted, profiles=current_profiles(fitted, None), n_newer=0)
    with Ledger(config.ledger_path) as ledger:
        learner = Learner(
            fitted, ledger, versions=pool.versions, embed=embedder.embed, settings=config.learning
        )
        learner.catch_up()
        return CurrentProfiles(
            fitted=fitted,
            profiles=current_profiles(fitted, learner.shifts),
            n_newer=len(learner.observations()),
        )
