"""Scores: what a router believes about every arm for every query, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from experts.values import Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadShare:
    """One query's part in the load of an expert that is not there."""

    load_s: float
    """Expected seconds of the load."""
    load_usd: float
    """Of all of it."""
    n_sharing: int
    """Calls that are expected to pay for it together, this query's included."""

    @property
    def cost_usd(self) -> float:
        """This query's part."""
        return self.load_usd / self.n_sharing

    def __str__(self) -> str:
        return f"cold: load {self.load_s:.2g} s, {self.load_usd:.2g} $ shared by {self.n_sharing}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPrefix:
    """The part of a conversation that an arm has read before, and its server may still have."""

    n_tokens: float
    """Expected to be in its cache."""
    saves_usd_per_mtok: float
    """How much less these cost than other input."""
    cached_usd_per_mtok: float

    @property
    def saves_usd(self) -> float:
        return self.n_tokens * self.saves_usd_per_mtok / 1e6

    @property
    def cost_usd(self) -> float:
        """Of these tokens."""
        return self.n_tokens * self.cached_usd_per_mtok / 1e6

    def __str__(self) -> str:
        return f"has read {self.n_tokens:.0f} tokens, which saves {self.saves_usd:.2g} $"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryScores:
    """One query's beliefs; arrays have shape (n_arms,)."""

    arms: tuple[Arm, ...]
    p_correct: np.ndarray
    """In [0, 1], calibrated."""
    sd: np.ndarray
    """Standard deviation of ``p_correct`` as a belief."""
    cost_usd: np.ndarray
    """Expected dollars of one call, the share of its expert's load included."""
    latency_s: np.ndarray
    """Expected seconds of one call, likewise."""
    novelty: float
    """1 - cosine to the nearest questions that the router knows; in [0, 2]. Of a question that its
    words settled (routers/shortcut.py): the share of these that no known question has."""
    is_general: bool
    """The question is unlike all that is known: beliefs are the general ones."""
    skills: Mapping[str, float]
    """Likely skills, most likely first, with their probabilities."""
    loads: Mapping[str, LoadShare] = field(default_factory=dict)
    """By expert, of those that are not loaded."""
    may_stand_in: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By expert, others that can answer in its place; none unless their owner wants it."""
    prefixes: Mapping[Arm, ReadPrefix] = field(default_factory=dict)
    """By arm, what ``cost_usd`` is lower by; none unless the question continues a conversation."""

    other_choice: Arm | None = None
    """Whom a second router would ask, which looks at something else (words and not meaning, say);
    None where there is none, as there ships none, or it would ask the same."""
    shift: np.ndarray | None = None
    """(n_arms,) how far outcomes of use have moved the log-odds of ``p_correct``; None where
    nothing was learned from them."""
    fitted_shift: np.ndarray | None = None
    """(n_arms,) the part of it that belongs to the fitted state; the rest came since."""
    known_n: np.ndarray | None = None
    """(n_arms,) observations that beliefs are worth today; told where something may be explored."""
    _columns: dict[Arm, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Filled when first asked for: strategies look arms up after every answer."""

    @property
    def shift_since_fit(self) -> np.ndarray:
        """(n_arms,)."""
        zero = np.zeros(len(self.arms))
        total = zero if self.shift is None else self.shift
        result: np.ndarray = total - (zero if self.fitted_shift is None else self.fitted_shift)
        return result

    @property
    def p_fitted(self) -> np.ndarray:
        """(n_arms,) ``p_correct`` by the fitted state alone."""
        return without_shift(self.p_correct, self.shift_since_fit)

    @property
    def load_usd(self) -> np.ndarray:
        """(n_arms,) what loads add to ``cost_usd``."""
        return np.array(
            [self.loads[a.expert].cost_usd if a.expert in self.loads else 0.0 for a in self.arms]
        )

    def with_loads(self, loads: Mapping[str, LoadShare]) -> QueryScores:
        """The same beliefs at what cold experts cost, and take, with their loads."""
        loaded = replace(self, loads=loads)
        load_s = [loads[a.expert].load_s if a.expert in loads else 0.0 for a in self.arms]
        return replace(
            loaded,
            cost_usd=self.cost_usd + loaded.load_usd,
            latency_s=self.latency_s + np.array(load_s),
        )

    def with_prefixes(self, prefixes: Mapping[Arm, ReadPrefix]) -> QueryScores:
        """The same beliefs at what arms cost that have read the conversation before. All others
        would have to read it from its beginning: that is the price of switching."""
        if not prefixes:
            return self
        cost_usd = self.cost_usd.copy()
        for i, arm in enumerate(self.arms):
            if prefix := prefixes.get(arm):
                # What an answer is expected to cost comes of a rough line through the prompt's
                # characters; never less than what is cached.
                cost_usd[i] = max(cost_usd[i] - prefix.saves_usd, prefix.cost_usd)
        mine = {arm: prefix for arm, prefix in prefixes.items() if arm in self.arms}
        return replace(self, cost_usd=cost_usd, prefixes=mine)

    def objective(self, fallback_price_usd: float) -> np.ndarray:
        """Expected dollars of asking each arm alone: cost + (1 - p) V. Lower is better."""
        result: np.ndarray = self.cost_usd + (1 - self.p_correct) * fallback_price_usd
        return result

    def index(self, arm: Arm) -> int:
        """Raises KeyError for an arm that there are no beliefs about."""
        return self._column_of[arm]

    def __contains__(self, arm: Arm | None) -> bool:
        return arm is not None and arm in self._column_of

    def p_of(self, arm: Arm, otherwise: float) -> float:
        """P(right) of one arm; ``otherwise`` where there are no beliefs about it."""
        i = self._column_of.get(arm)
        return otherwise if i is None else float(self.p_correct[i])

    @property
    def _column_of(self) -> Mapping[Arm, int]:
        if not self._columns:
            self._columns.update(zip(self.arms, range(len(self.arms)), strict=True))
        return self._columns

    def allowed(self, experts: frozenset[str] | None) -> QueryScores:
        """The same beliefs about the arms of these experts only; None allows all."""
        if experts is None:
            return self
        return self._of([i for i, arm in enumerate(self.arms) if arm.expert in experts])

    def without(self, arm: Arm) -> QueryScores:
        """The same beliefs about the other arms."""
        return self._of([i for i, other in enumerate(self.arms) if other != arm])

    def affordable(self, max_cost_usd: float | None) -> QueryScores:
        """The same beliefs about the arms that are expected to cost no more; None is no limit."""
        if max_cost_usd is None:
            return self
        return self._of([i for i, cost in enumerate(self.cost_usd) if cost <= max_cost_usd])

    def _of(self, keep: list[int]) -> QueryScores:
        return replace(
            self,
            arms=tuple(self.arms[i] for i in keep),
            p_correct=self.p_correct[keep],
            sd=self.sd[keep],
            cost_usd=self.cost_usd[keep],
            latency_s=self.latency_s[keep],
            shift=None if self.shift is None else self.shift[keep],
            fitted_shift=None if self.fitted_shift is None else self.fitted_shift[keep],
            known_n=None if self.known_n is None else self.known_n[keep],
        )


def without_shift(p: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """P before so much was added to its log-odds; as it is where nothing was."""
    odds = p / np.maximum(1 - p, 1e-9) * np.exp(-shift)
    before: np.ndarray = np.where(shift == 0, p, odds / (1 + odds))
    return before


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """A batch of queries' beliefs."""

    arms: tuple[Arm, ...]
    p_correct: np.ndarray
    """(n_queries, n_arms)."""
    sd: np.ndarray
    """(n_queries, n_arms)."""
    cost_usd: np.ndarray
    """(n_queries, n_arms)."""
    latency_s: np.ndarray
    """(n_queries, n_arms)."""
    novelty: np.ndarray
    """(n_queries,)."""
    is_general: np.ndarray
    """(n_queries,) bool."""
    skills: tuple[str, ...]
    p_skill: np.ndarray
    """(n_queries, n_skills)."""
    shift: np.ndarray | None = None
    """(n_queries, n_arms) as of ``QueryScores``, as is the next."""
    fitted_shift: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.novelty)

    def __getitem__(self, rows: np.ndarray) -> Scores:
        arrays = [
            "p_correct", "sd", "cost_usd", "latency_s", "novelty", "is_general", "p_skill",
        ]  # fmt: skip
        arrays += [n for n in ("shift", "fitted_shift") if getattr(self, n) is not None]
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})

    def row(self, i: int, *, n_skills: int = 3) -> QueryScores:
        """Query i alone, with its most likely skills (those above 1 %)."""
        p_skill = self.p_skill[i]
        order = np.argsort(-p_skill)[:n_skills]
        return QueryScores(
            arms=self.arms,
            p_correct=self.p_correct[i],
            sd=self.sd[i],
            cost_usd=self.cost_usd[i],
            latency_s=self.latency_s[i],
            novelty=float(self.novelty[i]),
            is_general=bool(self.is_general[i]),
            skills={self.skills[j]: float(p_skill[j]) for j in order if p_skill[j] >= 0.01},
            shift=None if self.shift is None else self.shift[i],
            fitted_shift=None if self.fitted_shift is None else self.fitted_shift[i],
        )
