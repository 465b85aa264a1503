"""What recent outcomes say against the fitted beliefs: shifts in log-odds, with bounds.

Two steps, as an arm may change as a whole (other weights behind a name, a provider's bad day) or on
one skill. First its calibration: one shift t of the arm's log-odds, from blind residuals (each
outcome against what the fitted state said of it). Then per skill a Beta posterior that starts
from the fitted rate so shifted. Old observations fade: each one's weight halves with every
``half_life_n`` observations of its arm that come after it.

With discounted sums n, y, e over the observations of an arm on skill s (their weight, their scores,
and what the fitted state expected of them), r = e / n, and S the logistic function:

    calibration   t = argmax of sum_s [y log S(logit r + t) + (n - y) log(1 - S(logit r + t))]
                      - t^2 / (2 arm_sd^2),   cut to +- max_shift
    profile       Beta(k q + y, k (1 - q) + n - y),   q = S(logit r + t), k = prior observations
    shift         logit(mean of the profile) - logit r,   cut to +- max_shift

Discounting a Beta's counts and not its prior is discounted Thompson sampling's rule (Raj and
Kalyani 2017, arXiv:1707.09727, algorithm 1), there with a constant factor a time step; ours is a
factor 2^(-weight / half_life_n) an observation of the arm, so an arm that is not asked forgets
nothing. The calibration's term is Platt scaling (1999) with the slope kept at one, and a ridge.

Pure: who observed what is read by ``orchestrator.learning``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routers.scores import Scores

_EPS = 0.01
_NEWTON_STEPS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRates:
    """How quickly recent outcomes count, and how far. The defaults were chosen on recorded outcomes
    (``conclave eval learning``, docs/learning.md)."""

    half_life_n: float = 100.0
    """Observations of an arm after which an observation counts half."""
    prior_n: float = 20.0
    """Observations that the fitted rate of an arm on a skill counts for, at most."""
    arm_sd: float = 0.7
    """Standard deviation, in log-odds, of what arms are expected to change by as a whole."""
    max_shift: float = 5.0
    """Bound on every shift, in log-odds: 5 takes 0.9 to 0.06, and 0.99 to 0.40."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shifts:
    """What was learned since the fit. Axes: arms, skills and, last, questions taken for general."""

    logits: np.ndarray
    """(n_arms, n_skills + 1) added to the log-odds of P(right)."""
    n: np.ndarray
    """(n_arms, n_skills + 1) observations, discounted."""
    prior_n: np.ndarray
    """(n_arms, n_skills + 1) observations that the fitted rates count for."""

    def apply(self, scores: Scores) -> Scores:
        """The same scores moved; ``shift`` says by how much. Sure beliefs become surer as their
        skill's observations add to the prior's: sd times sqrt(k / (k + n)), carried over to the new
        rate by the logistic function's slope."""
        weights = _weights(scores)
        shift = weights @ self.logits.T
        known = weights @ (self.prior_n / np.maximum(self.prior_n + self.n, _EPS)).T
        moved = shift != 0
        p = np.where(moved, shifted(scores.p_correct, shift), scores.p_correct)
        clipped = np.clip(scores.p_correct, _EPS, 1 - _EPS)
        slope = p * (1 - p) / (clipped * (1 - clipped))
        sd = np.where(moved, np.minimum(scores.sd * np.sqrt(known) * slope, 0.5), scores.sd)
        before = 0.0 if scores.shift is None else scores.shift
        return replace(scores, p_correct=p, sd=sd, shift=before + shift)

    def known_n(self, scores: Scores) -> np.ndarray:
        """(n_queries, n_arms) observations that beliefs about today's rates are worth: the prior's,
        which are few, as rates may have changed since, and those since."""
        result: np.ndarray = _weights(scores) @ (self.prior_n + self.n).T
        return result


def _weights(scores: Scores) -> np.ndarray:
    """(n_queries, n_skills + 1) how much each skill is a query's."""
    weights = np.column_stack([scores.p_skill, np.zeros(len(scores))])
    weights[scores.is_general] = np.eye(weights.shape[1])[-1]
    return weights


def shifted(p: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """P with so much added to its log-odds; for that, within [0.01, 0.99].

    >>> float(np.round(shifted(np.array(0.9), np.array(-3.0)), 2))
    0.31
    """
    clipped = np.clip(p, _EPS, 1 - _EPS)
    result: np.ndarray = 1 / (1 + (1 - clipped) / clipped * np.exp(-shift))
    return result


def logit(p: np.ndarray) -> np.ndarray:
    """Log-odds of P, for that within [0.01, 0.99]."""
    clipped = np.clip(p, _EPS, 1 - _EPS)
    result: np.ndarray = np.log(clipped / (1 - clipped))
    return result


class OnlineBeliefs:
    """Takes observations one by one, and tells the shifts that follow from them."""

    def __init__(self, prior_n: np.ndarray, rates: LearningRates) -> None:
        """prior_n: (n_arms, n_skills + 1) what the fitted rates are worth in observations; of more
        than ``rates.prior_n`` that many count."""
        self.rates = rates
        self.prior_n = np.minimum(prior_n, rates.prior_n)
        shape = prior_n.shape
        self.n, self.successes, self.expected = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.arm_shifts = np.zeros(shape[0])
        """(n_arms,) the calibration's t."""
        self._logits = np.zeros(shape)
        self._changed: set[int] = set()

    def observe(
        self, arm: int, p_skill: np.ndarray, p: float, score: float, weight: float = 1.0
    ) -> None:
        """One outcome of an arm. p_skill: (n_skills + 1,) which skill it tells of, sum 1; p: what
        the fitted state said of this question, unshifted; score and weight in [0, 1]."""
        fade = 2.0 ** (-weight / self.rates.half_life_n)
        share = weight * p_skill
        for sums, value in ((self.n, 1.0), (self.successes, score), (self.expected, p)):
            sums[arm] *= fade
            sums[arm] += share * value
        self._changed.add(arm)

    def shifts(self) -> Shifts:
        """As of now; arrays of its own."""
        for arm in self._changed:
            self._update(arm)
        self._changed.clear()
        return Shifts(logits=self._logits.copy(), n=self.n.copy(), prior_n=self.prior_n)

    def _update(self, arm: int) -> None:
        n, y = self.n[arm], self.successes[arm]
        seen = n > 1e-9
        base = logit(self.expected[arm][seen] / n[seen])
        t = self._calibrated(base, n[seen], y[seen], float(self.arm_shifts[arm]))
        self.arm_shifts[arm] = t
        row = np.full(len(n), t)
        k = self.prior_n[arm][seen]
        q = 1 / (1 + np.exp(-(base + t)))
        mean = (k * q + y[seen]) / (k + n[seen])
        row[seen] = logit(mean) - base
        self._logits[arm] = np.clip(row, -self.rates.max_shift, self.rates.max_shift)

    def _calibrated(self, base: np.ndarray, n: np.ndarray, y: np.ndarray, start: float) -> float:
        """Newton's method on a concave function of one number."""
        t, precision = start, self.rates.arm_sd**-2
        for _ in range(_NEWTON_STEPS):
            q = 1 / (1 + np.exp(-(base + t)))
            slope = float((y - n * q).sum()) - precision * t
            step = slope / (float((n * q * (1 - q)).sum()) + precision)
            t += min(1.0, max(-1.0, step))
            if abs(step) < 1e-5:
                break
        return min(self.rates.max_shift, max(-self.rates.max_shift, t))


def prior_observations(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """How many observations a Beta of this mean and sd is worth: m (1 - m) / sd^2 - 1, at least 1.

    >>> float(prior_observations(np.array(0.5), np.array(0.1)).round())
    24.0
    """
    clipped = np.clip(mean, _EPS, 1 - _EPS)
    result: np.ndarray = np.maximum(clipped * (1 - clipped) / np.maximum(sd, 1e-6) ** 2 - 1, 1.0)
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """An arm's part in what was judged."""

    arm: int
    """Its column."""
    share: float
    """In (0, 1]; the shares of one verdict sum to 1."""
    p: float
    """What the fitted state expected of it, unshifted, before anybody judged."""
    sd: float
    """Of that belief."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One judged call or answer."""

    subject: str
    """What was judged; the latest verdict on it counts."""
    query_id: str
    at: float
    """Unix seconds of the verdict."""
    score: float
    """In [0, 1]."""
    credits: tuple[Credit, ...]
    p_skill: np.ndarray
    """(n_skills + 1,), sums to 1."""
    caller: str | None = None
    """Whose feedback it is; None for graders and verifiers, whose weight has no bound."""
    is_blind: bool = True
    """Nobody looked at other answers before this one was picked, so its rate is the arm's own."""


class FeedbackCaps:
    """What feedback counts: all of it until its caller's day (UTC) with an arm is full, or the
    arm's day with all callers, then nothing.

    >>> caps, credit = FeedbackCaps(2.5, 100), Credit(arm=0, share=1.0, p=0.5, sd=0.1)
    >>> one = Observation(subject="a", query_id="q", at=0.0, score=1.0, credits=(credit,),
    ...                   p_skill=np.ones(1), caller="me")
    >>> [caps.weight(one, credit) for _ in range(4)]
    [1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, max_per_caller_day: float, max_per_day: float) -> None:
        self.max_per_caller_day, self.max_per_day = max_per_caller_day, max_per_day
        self._left: dict[tuple[str | None, int, int], float] = {}

    def weight(self, observation: Observation, credit: Credit) -> float:
        """Of this credit, the next of its arm; it is counted as given."""
        if observation.caller is None:
            return credit.share
        day = int(observation.at // 86_400)
        own, all_callers = (observation.caller, day, credit.arm), (None, day, credit.arm)
        left = self._left.get(own, self.max_per_caller_day)
        left_of_all = self._left.get(all_callers, self.max_per_day)
        weight = min(credit.share, left, left_of_all)
        self._left[own], self._left[all_callers] = left - weight, left_of_all - weight
        return weight
