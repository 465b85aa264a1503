"""Exploration: now and then an arm is asked because too little is known of it.

Thompson sampling with known propensities: a draw of every arm's P(right) from its belief says which
arm would be best if that were the truth; the share of draws that an arm wins is its chance. So an
arm is explored as often as it may well be the best, and one that is surely worse is left alone.
Beliefs are about today: what was fitted counts for a few observations only (``LearningRates``), as
an arm may have changed since; else nobody would notice one that has become better.
With probability ``share`` the arm is drawn from these chances, otherwise nothing is explored.
Source of the rule: Thompson 1933; Chapelle and Li 2011 (NIPS 24).

What was done had a probability that is recorded, so that outcomes under other policies can be
estimated from the ledger (inverse propensity weights: Horvitz and Thompson 1952).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experts.values import Arm
from routers.scores import QueryScores

N_DRAWS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """What became of one question's chance to explore."""

    arm: Arm | None
    """Who is explored; None where the plan is carried out as it would be."""
    propensity: float
    """Probability of what is done, given all that was known before; in (0, 1]."""
    reserved_usd: float = 0.0
    """The most that the explored arm's call can cost."""


def chances(
    scores: QueryScores,
    known_n: np.ndarray,
    fallback_price_usd: float,
    rng: np.random.Generator,
    *,
    n_draws: int = N_DRAWS,
) -> np.ndarray:
    """(n_arms,) share of the draws in which each arm has the least cost + (1 - p) V; sums to 1.
    known_n: (n_arms,) observations that each belief is worth today."""
    k = np.maximum(known_n, 1.0)
    p = np.clip(scores.p_correct, 0.01, 0.99)
    drawn = rng.beta(p * k, (1 - p) * k, size=(n_draws, len(p)))
    best = (scores.cost_usd + (1 - drawn) * fallback_price_usd).argmin(axis=1)
    result: np.ndarray = np.bincount(best, minlength=len(p)) / n_draws
    return result


def sd_today(scores: QueryScores, known_n: np.ndarray) -> np.ndarray:
    """(n_arms,) of a Beta of that mean and so many observations."""
    p = np.clip(scores.p_correct, 0.01, 0.99)
    result: np.ndarray = np.sqrt(p * (1 - p) / (np.maximum(known_n, 1.0) + 1))
    return result


def explore(
    scores: QueryScores,
    known_n: np.ndarray,
    fallback_price_usd: float,
    most_usd: np.ndarray,
    rng: np.random.Generator,
    *,
    share: float,
    min_sd: float,
    left_usd: float,
) -> Exploration:
    """Explore or not, and whom.

    scores: of the arms that the caller allows; known_n: as of ``chances``; most_usd: (n_arms,) the
    most that a call to each can cost. Only arms that are not known better than ``min_sd`` and fit
    into ``left_usd`` are explored, and never the one that would be asked anyway.
    """
    usual = int(scores.objective(fallback_price_usd).argmin())
    may = (sd_today(scores, known_n) >= min_sd) & (most_usd <= left_usd)
    may[usual] = False
    if not may.any() or share <= 0:
        return Exploration(arm=None, propensity=1.0)
    chance = share * np.where(may, chances(scores, known_n, fallback_price_usd, rng), 0.0)
    edges = np.cumsum(chance)
    i = int(np.searchsorted(edges, rng.random(), side="right"))
    if i >= len(chance):
        return Exploration(arm=None, propensity=float(1 - chance.sum()))
    return Exploration(
        arm=scores.arms[i], propensity=float(chance[i]), reserved_usd=float(most_usd[i])
    )
