"""What was learned since the fit, kept current from the ledger.

A learner belongs to one fitted state. ``catch_up`` reads the verdicts that are newer than the state
and those it has read; ``learned`` is what decisions use: one value, replaced as a whole, so a
decision sees one state of knowledge. Nothing here is lost with the process: all of it is computed
from the ledger again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experts.values import Arm
from orchestrator.config import LearningSettings
from orchestrator.fitted import Fitted
from orchestrator.learning.observations import Embed, latest, read_observations
from orchestrator.ledger import Ledger
from routers.drift import DriftRates, PageHinkley
from routers.intervals import wilson_interval
from routers.online import (
    FeedbackCaps,
    LearningRates,
    Observation,
    OnlineBeliefs,
    Shifts,
    prior_observations,
)

MAX_OBSERVATIONS = 20_000
"""That are kept and, at a start, read; what is older has faded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedRate:
    """An arm on one skill, or (``skill`` None) on all."""

    arm: Arm
    skill: str | None
    recent: float
    """Rate of recent outcomes, discounted."""
    fitted: float
    """What the fitted state expected of the same."""
    n: float
    """Observations, discounted."""
    interval: tuple[float, float]
    """95 %, of ``recent``."""
    shift: float
    """What is added to the log-odds of P(right); of an arm as a whole, its calibration's."""
    drift: str | None = None
    """better or worse, where the arm has changed; only of an arm as a whole."""


class Learner:
    """See the module. Safe to use from several threads."""

    def __init__(
        self,
        fitted: Fitted,
        ledger: Ledger,
        *,
        versions: Mapping[str, str],
        embed: Embed,
        settings: LearningSettings,
    ) -> None:
        self.fitted, self._ledger, self._embed = fitted, ledger, embed
        self._versions, self._settings = versions, settings
        self._observations: dict[str, Observation] = {}
        self._lock = threading.Lock()
        self._position: int | None = None
        self.problem: str | None = None
        """Why it is behind the ledger; None when it is not."""
        self.shifts: Shifts | None = None
        """All zero where nothing was learned; None where nothing is to be."""
        self.state_id = fitted.state_id
        if settings.enabled:
            self._begin()

    @property
    def has_learned(self) -> bool:
        return bool(self._observations)

    def begin(self) -> None:
        """Catch up, if nobody ever has: what is behind afterwards is somebody's to call for."""
        if self._position is None and self.problem is None:
            self.catch_up()

    def catch_up(self) -> None:
        """Take in new verdicts. A ledger that cannot be read leaves what is known as it is, and is
        tried again the next time; so does another thread that is at it."""
        if not self._settings.enabled or not self._lock.acquire(blocking=False):
            return
        try:
            self._take_in()
            self.problem = None
        except sqlite3.Error as error:
            self.problem = f"the ledger cannot be read: {error}"
        finally:
            self._lock.release()

    def rates(self) -> list[LearnedRate]:
        """Of every arm with outcomes since the fit: as a whole, and on each skill."""
        with self._lock:
            return self._rates()

    def facts(self) -> dict[str, Any]:
        """JSON-ready, for operators."""
        with self._lock:
            drifted = {str(r.arm): r.drift for r in self._rates() if r.drift}
            return {
                "enabled": self._settings.enabled,
                "state": self.state_id,
                "n_outcomes": len(self._observations),
                "drift": drifted,
                **({"problem": self.problem} if self.problem else {}),
            }

    def observations(self) -> Sequence[Observation]:
        """What was learned from, oldest first."""
        with self._lock:
            return list(self._observations.values())

    def _begin(self) -> None:
        settings = self._settings
        rates = LearningRates(
            half_life_n=settings.half_life_n,
            prior_n=settings.prior_n,
            max_shift=settings.max_shift,
        )
        self._beliefs = OnlineBeliefs(prior_n_of(self.fitted), rates)
        self._caps = feedback_caps(settings)
        self._tests = [PageHinkley(DriftRates()) for _ in self.fitted.router.arms_]
        if self._position is None:
            self.shifts = self._beliefs.shifts()

    def _take_in(self) -> None:
        if self._position is None:
            self._position = since(self.fitted, self._ledger)
        rows = self._ledger.verdicts_since(self._position, n=MAX_OBSERVATIONS)
        if not rows:
            return
        read = read_observations(rows, self.fitted, self._ledger, self._versions, self._embed)
        fresh = latest(read)
        corrects = any(o.subject in self._observations for o in fresh)
        for o in fresh:
            self._observations.pop(o.subject, None)
            self._observations[o.subject] = o
        while len(self._observations) > MAX_OBSERVATIONS:
            del self._observations[next(iter(self._observations))]
        if corrects:  # sums cannot forget one observation
            self._begin()
            fresh = list(self._observations.values())
        for o in fresh:
            self._learn(o)
        self._position = int(rows[-1]["verdict_id"])
        self.shifts = self._beliefs.shifts()

    def _learn(self, o: Observation) -> None:
        for credit in o.credits:
            weight = self._caps.weight(o, credit)
            if weight > 0:
                self._beliefs.observe(credit.arm, o.p_skill, credit.p, o.score, weight)
                self._tests[credit.arm].observe(credit.p, credit.sd, o.score, weight)

    def _rates(self) -> list[LearnedRate]:
        if not self._settings.enabled:
            return []
        beliefs, skills = self._beliefs, self.fitted.router.annotator_.skills
        n, y, e = beliefs.n, beliefs.successes, beliefs.expected
        shifts = beliefs.shifts().logits
        found = []
        for j, arm in enumerate(self.fitted.router.arms_):
            total = float(n[j].sum())
            if total <= 0:
                continue
            interval = wilson_interval(float(y[j].sum()), total)
            expected = float(e[j].sum()) / total
            alarm = self._tests[j].alarm
            # An alarm stands as long as recent outcomes bear it out.
            stands = alarm == "worse" and expected > interval[1]
            stands |= alarm == "better" and expected < interval[0]
            found.append(
                LearnedRate(
                    arm=arm, skill=None, recent=float(y[j].sum()) / total, fitted=expected,
                    n=total, interval=interval, shift=float(beliefs.arm_shifts[j]),
                    drift=alarm if stands else None,
                )
            )  # fmt: skip
            for s, skill in enumerate((*skills, GENERAL)):
                if n[j, s] >= 0.5:
                    found.append(
                        LearnedRate(
                            arm=arm, skill=skill, recent=float(y[j, s] / n[j, s]),
                            fitted=float(e[j, s] / n[j, s]), n=float(n[j, s]),
                            interval=wilson_interval(float(y[j, s]), float(n[j, s])),
                            shift=float(shifts[j, s]),
                        )
                    )  # fmt: skip
        return found


GENERAL = "(general)"
"""In place of a skill: questions that the router takes for general ones."""


def feedback_caps(settings: LearningSettings) -> FeedbackCaps:
    """As configured."""
    return FeedbackCaps(settings.max_feedback_per_caller_day, settings.max_feedback_per_day)


def since(fitted: Fitted, ledger: Ledger) -> int:
    """The ledger's position that a state was fitted at: 0 where it was another ledger's, as of the
    shipped state."""
    position, report = ledger.position(), fitted.report
    known = report.get("ledger") == position["ledger"] and position["ledger"]
    at = int(report.get("last_verdict_id", 0)) if known else 0
    return at if at <= position["last_verdict_id"] else 0


def prior_n_of(fitted: Fitted) -> np.ndarray:
    """(n_arms, n_skills + 1) what fitted rates are worth; of general questions, what is known of
    the arm as a whole counts for little, since skills differ."""
    mean, sd = fitted.router.profiles_.posterior()
    by_skill = prior_observations(mean, sd)
    spread = np.sqrt((sd**2).mean(axis=1) + mean.var(axis=1))
    general = prior_observations(fitted.router.profiles_.overall(), spread)
    return np.column_stack([by_skill, general])
