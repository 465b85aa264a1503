"""Plans and what they are expected to bring: the menu that a policy chooses from.

A plan names a strategy and its settings. What it brings is not guessed from formulas: at fitting
time every plan was replayed on the recorded outcomes, with scores predicted blindly; what it was
shown to gain (``routers.shown_gains``) and the mean number of calls to each arm are kept per skill
(and for general questions) and by how sure the router was: where it believes that some arm is
nearly always right, a second answer is hardly worth its price. Dollars follow from today's prices,
so a price change needs no refit.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from experts.values import Arm
from routers.scores import QueryScores, without_shift
from routers.shown_gains import believed_success

GENERAL = "general"

_SURE_QUANTILES = (1 / 3, 2 / 3)
"""Of the recorded questions: three levels of sureness, as many in each."""
_PRIOR_QUERIES = 4.0
_ARRAYS = ("p_correct", "n_calls")

Setting = float | str
_PLAN = re.compile(r"(\w+)(?:\((.*)\))?", re.S)


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy and its settings, e.g. ``cascade(stop_at=0.9)``, ``recruit(by='large', k=3)``."""

    strategy: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(
            f"{k}='{v}'" if isinstance(v, str) else f"{k}={v:g}" for k, v in self.settings
        )
        return f"{self.strategy}({inner})" if inner else self.strategy

    @classmethod
    def of(cls, strategy: str, **settings: Setting) -> Self:
        return cls(strategy, tuple(sorted(settings.items())))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of ``str``; what is no number may also stand without quotes.

        Raises ValueError, with what is wrong, for what no plan is written like.
        """
        if not (match := _PLAN.fullmatch(text.strip())):
            raise ValueError(f"{text!r} is not written like cascade(stop_at=0.9)")
        told: dict[str, Setting] = {}
        for part in filter(None, (match[2] or "").split(",")):
            key, equals, value = (word.strip() for word in part.partition("="))
            if not (key and equals and value):
                raise ValueError(f"{part.strip()!r} in {text!r} is not written like k=3")
            if key in told:
                raise ValueError(f"{key!r} is set twice in {text!r}")
            told[key] = _setting(value)
        return cls.of(match[1], **told)


def _setting(text: str) -> Setting:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise ValueError(f"{text} is no setting: a number must be finite")
    return number


SINGLE = Plan("single")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOutlook:
    """What a plan is expected to bring for one query."""

    plan: Plan
    p_correct: float
    cost_usd: float
    """Loads included."""
    n_calls: float
    """Expected calls."""
    objective_usd: float
    """cost + (1 - p) V."""
    load_usd: float = 0.0
    """What the query's shares of loads are of the cost."""


@dataclass(frozen=True, slots=True)
class PlanOutlooks:
    """Replayed success and calls of each plan, per skill and sureness, at several fallback prices.

    Axes: fallback price (v), plan (j), skill or GENERAL last (s), sureness (u), arm (a). How sure a
    router is of a query is the P(right) of its likeliest arm.
    """

    fallback_prices_usd: tuple[float, ...]
    plans: tuple[Plan, ...]
    skills: tuple[str, ...]
    arms: tuple[Arm, ...]
    sure_from: tuple[float, ...]
    """Where each level of sureness but the first begins, ascending."""
    p_correct: np.ndarray
    """(v, j, s + 1, u)."""
    n_calls: np.ndarray
    """(v, j, s + 1, u, a) mean calls to each arm."""

    def expect(self, scores: QueryScores, fallback_price_usd: float) -> list[PlanOutlook]:
        """Outlook of every plan for a query, in the order of ``plans``.

        The replays at the nearest fallback price (on a log scale) stand in for the asked one.
        """
        wanted = math.log(fallback_price_usd)
        prices = self.fallback_prices_usd
        v = min(range(len(prices)), key=lambda v: abs(math.log(prices[v]) - wanted))
        weights = self._weights(scores)
        u = bisect.bisect_right(self.sure_from, _sureness(scores))
        p = self.p_correct[v, :, :, u] @ weights
        calls = weights @ self.n_calls[v, :, :, u]
        load = scores.load_usd
        price = scores.cost_usd - load
        if scores.arms != self.arms:
            of = dict(zip(scores.arms, price, strict=True))
            price = np.array([of.get(arm, np.inf) for arm in self.arms])
            load_of = dict(zip(scores.arms, load, strict=True))
            load = np.array([load_of.get(arm, 0.0) for arm in self.arms])
        # However often a plan asks an arm, it is loaded once; P(asked at all) is at most this.
        loading = np.minimum(calls, 1.0) @ load
        cost = calls @ price + loading
        if scores.shift is not None and scores.shift.any() and scores.arms == self.arms:
            p, cost, loading = self._moved(p, cost, loading, calls, scores, fallback_price_usd)
        objective = cost + (1 - p) * fallback_price_usd
        columns = (a.tolist() for a in (p, cost, calls.sum(axis=1), objective, loading))
        return [
            PlanOutlook(
                plan=plan,
                p_correct=p,
                cost_usd=usd,
                n_calls=n,
                objective_usd=objective,
                load_usd=load_usd,
            )
            for plan, p, usd, n, objective, load_usd in zip(self.plans, *columns, strict=True)
        ]

    def _moved(
        self,
        p: np.ndarray,
        cost: np.ndarray,
        loading: np.ndarray,
        calls: np.ndarray,
        scores: QueryScores,
        fallback_price_usd: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Success, dollars and loads, each (n_plans,), now that outcomes since the fit have moved
        the beliefs that the replays were made with.

        A plan moves as the arms that it calls: by the mean shift of its calls' log-odds. That is
        to the first order: a plan that would now ask others is believed to be worse than it is.
        ``single`` is known better: it asks the arm that is best now.
        """
        shift = np.zeros(len(self.arms)) if scores.shift is None else scores.shift
        each = calls / np.maximum(calls.sum(axis=1, keepdims=True), 1e-9)
        by = each @ shift
        clipped = np.clip(p, 0.001, 0.999)
        moved = 1 / (1 + (1 - clipped) / clipped * np.exp(-by))
        p = np.where(by == 0, p, moved)
        if SINGLE in self.plans:
            j = self.plans.index(SINGLE)
            now = int(scores.objective(fallback_price_usd).argmin())
            replayed = without_shift(scores.p_correct, shift)
            then = int((scores.cost_usd + (1 - replayed) * fallback_price_usd).argmin())
            if now != then:
                p[j] = scores.p_correct[now]
                cost[j], loading[j] = scores.cost_usd[now], scores.load_usd[now]
        return p, cost, loading

    def _weights(self, scores: QueryScores) -> np.ndarray:
        """(s + 1,) how much each skill's record counts for this query; sums to 1."""
        weights = np.zeros(len(self.skills) + 1)
        if scores.is_general:
            weights[-1] = 1.0
            return weights
        for name, p in scores.skills.items():
            weights[self.skills.index(name)] = p
        result: np.ndarray = weights / weights.sum()
        return result

    def about(self) -> dict[str, Any]:
        """JSON-ready: what the axes are."""
        return {
            "fallback_prices_usd": list(self.fallback_prices_usd),
            "plans": [str(p) for p in self.plans],
            "skills": list(self.skills),
            "arms": [str(a) for a in self.arms],
            "sure_from": list(self.sure_from),
        }

    def state(self) -> dict[str, np.ndarray]:
        return {n: np.asarray(np.round(getattr(self, n), 4), np.float32) for n in _ARRAYS}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Self:
        return cls(
            fallback_prices_usd=tuple(about["fallback_prices_usd"]),
            plans=tuple(Plan.parse(p) for p in about["plans"]),
            skills=tuple(about["skills"]),
            arms=tuple(Arm.parse(a) for a in about["arms"]),
            sure_from=tuple(about["sure_from"]),
            **{name: state[name].astype(float) for name in _ARRAYS},
        )


def _sureness(scores: QueryScores) -> float:
    """As the replays were made: what has moved beliefs since then moves the plans, and once."""
    p, shift = scores.p_correct, scores.shift
    return float((p if shift is None else without_shift(p, shift)).max())


@dataclass(slots=True)
class ReplayTally:
    """Collects replayed plans into ``PlanOutlooks``: every plan on the same queries."""

    fallback_prices_usd: Sequence[float]
    plans: Sequence[Plan]
    skills: Sequence[str]
    arms: Sequence[Arm]
    _played: list[list[list[_Played]]] = field(init=False)
    """By fallback price and plan, in the order of the queries."""

    def __post_init__(self) -> None:
        self._played = [[[] for _ in self.plans] for _ in self.fallback_prices_usd]

    def add(
        self,
        v: int,
        plan: int,
        skill: str,
        *,
        sureness: float,
        score: float,
        cost_usd: float,
        calls: Sequence[Arm],
    ) -> None:
        """One replayed query; ``skill`` is a skill's name or GENERAL. sureness: P(right) of the
        likeliest arm, as the replay believed."""
        s = len(self.skills) if skill == GENERAL else list(self.skills).index(skill)
        columns = [list(self.arms).index(arm) for arm in calls]
        self._played[v][plan].append(_Played(s, sureness, score, cost_usd, columns))

    def outlooks(self) -> PlanOutlooks:
        sure = np.array([q.sureness for q in self._played[0][0]])
        sure_from = np.unique(np.quantile(sure, _SURE_QUANTILES))
        level = np.searchsorted(sure_from, sure, side="right")
        shape = (
            len(self.fallback_prices_usd),
            len(self.plans),
            len(self.skills) + 1,
            len(sure_from) + 1,
        )
        p, calls = np.zeros(shape), np.zeros((*shape, len(self.arms)))
        for v, plans in enumerate(self._played):
            skill = np.array([q.skill for q in plans[0]])
            score = np.array([[q.score for q in plan] for plan in plans])
            cost = np.array([[q.cost_usd for q in plan] for plan in plans])
            for some in (skill < len(self.skills), skill == len(self.skills)):
                if some.any():
                    of, group = np.unique(skill[some], return_inverse=True)
                    p[v][:, of] = believed_success(
                        score[:, some], cost[:, some].mean(axis=1), group, level[some], shape[3]
                    )
            for j, plan in enumerate(plans):
                calls[v, j] = self._mean_calls(plan, skill, level, shape[3])
        return PlanOutlooks(
            fallback_prices_usd=tuple(self.fallback_prices_usd),
            plans=tuple(self.plans),
            skills=tuple(self.skills),
            arms=tuple(self.arms),
            sure_from=tuple(sure_from.tolist()),
            p_correct=p,
            n_calls=calls,
        )

    def _mean_calls(
        self, plan: Sequence[_Played], skill: np.ndarray, level: np.ndarray, n_levels: int
    ) -> np.ndarray:
        """(s + 1, u, a) of a level the mean is held near that of its skill: few were counted."""
        counted = np.zeros((len(self.skills) + 1, n_levels, len(self.arms)))
        n = np.zeros(counted.shape[:2])
        np.add.at(n, (skill, level), 1.0)
        for q, u in zip(plan, level.tolist(), strict=True):
            np.add.at(counted[q.skill, u], q.calls, 1.0)
        of_skill = counted.sum(axis=1) / np.maximum(n.sum(axis=1), 1.0)[:, None]
        result: np.ndarray = (counted + _PRIOR_QUERIES * of_skill[:, None]) / (n + _PRIOR_QUERIES)[
            :, :, None
        ]
        return result


@dataclass(frozen=True, slots=True)
class _Played:
    """A plan on a query: column of its skill, how sure the router was, score, dollars, columns of
    the arms asked."""

    skill: int
    sureness: float
    score: float
    cost_usd: float
    calls: list[int]
