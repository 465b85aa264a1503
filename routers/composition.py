"""Whom to ask, in which order, and when to stop: composition learned from recorded answers.

A composition is a sequence of waves of arms. After each wave the answer model says how likely the
leading answer is right; from that P alone the expected gain of going on to every later wave was
learned by replay (isotonic: the surer, the less there is to gain). At a price V per wrong answer it
goes on while some package of further waves is expected to gain more than it costs, so one fitted
composition is a single call, a cascade or a vote of all, depending on the question and on V.

The sequence itself is searched greedily on the same replays: put an arm in, anywhere, or merge,
swap or drop waves, whatever lowers the expected cost most. Answer models and gains are learned by
folds; which sequence is best, on all of them, so what it promises is a little too good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from routers.answers import AnswerModel, Votes

Waves = tuple[tuple[int, ...], ...]
"""Columns of arms, asked wave by wave."""

N_FOLDS = 5
N_SUBSETS = 3
"""Random subsets of the arms per recorded query that the answer model is fitted on."""
MAX_ROUNDS = 12
N_BINS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What every arm answered to every query; arrays are (n_queries, n_arms)."""

    p_arm: np.ndarray
    """Believed before anyone was asked, predicted blindly."""
    answer: np.ndarray
    """Equal numbers in a row are equal answers; -1 for none."""
    score: np.ndarray
    """In [0, 1]."""
    cost_usd: np.ndarray
    effort: np.ndarray
    """As in ``routers.answers.Votes``."""
    form: np.ndarray
    """As in ``routers.answers.Votes``."""
    surprise: np.ndarray | None = None
    """As in ``routers.answers.Votes``; None where no arm told log-probabilities."""
    own_odds: np.ndarray | None = None
    """As in ``routers.answers.Votes``; None where nobody reads an arm's states."""

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: np.ndarray) -> Recorded:
        return Recorded(
            p_arm=self.p_arm[rows],
            answer=self.answer[rows],
            score=self.score[rows],
            cost_usd=self.cost_usd[rows],
            effort=self.effort[rows],
            form=self.form[rows],
            surprise=None if self.surprise is None else self.surprise[rows],
            own_odds=None if self.own_odds is None else self.own_odds[rows],
        )

    def votes(self, asked: np.ndarray) -> tuple[Votes, np.ndarray]:
        """Votes of the arms that ``asked`` (n_queries, n_arms; bool) marks, and their scores."""
        query, arm = np.nonzero(asked)
        votes = Votes(
            query=query,
            arm=arm,
            answer=self.answer[query, arm],
            effort=self.effort[query, arm],
            surprise=(np.zeros(len(query)) if self.surprise is None else self.surprise[query, arm]),
            form=self.form[query, arm],
            own_odds=(np.zeros(len(query)) if self.own_odds is None else self.own_odds[query, arm]),
        )
        return votes, self.score[query, arm]

    def score_of(self, answer: np.ndarray) -> np.ndarray:
        """(n_queries,) mean score of the arms that gave each query's ``answer``; 0 for -1."""
        same = (self.answer == answer[:, None]) & (answer[:, None] >= 0)
        result: np.ndarray = (self.score * same).sum(axis=1) / np.maximum(same.sum(axis=1), 1)
        return result


def random_subsets(cost_usd: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, n_arms) bool, none empty: the states that cascades pass through, cheap arms first.

    cost_usd: (n_arms,).
    """
    log_cost = np.log(np.maximum(cost_usd, 1e-12))
    rank = (log_cost - log_cost.min()) / max(float(np.ptp(log_cost)), 1e-12)
    chance = rng.random((n, 1)) * 1.6 - rank * rng.random((n, 1))
    asked = rng.random((n, len(rank))) < np.clip(chance, 0.03, 0.97)
    empty = np.flatnonzero(~asked.any(axis=1))
    asked[empty, rng.integers(0, len(rank), len(empty))] = True
    result: np.ndarray = asked
    return result


def fit_answer_model(recorded: Recorded, *, seed: int = 0) -> AnswerModel:
    """An answer model for every stage: on all answers, and on random subsets of them."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(recorded)), N_SUBSETS)
    asked = random_subsets(recorded.cost_usd.mean(axis=0), len(rows), rng)
    asked[::N_SUBSETS] = True
    several = recorded[rows]
    votes, scores = several.votes(asked)
    return AnswerModel().fit(votes, several.p_arm, scores)


@dataclass(slots=True)
class BlindAnswers:
    """Leading answers on recorded queries by models fitted without them; cached per set of arms, as
    are the gains between sets: the sequences that a search tries have most of theirs in common."""

    recorded: Recorded
    fold: np.ndarray
    """(n_queries,) in [0, n_folds)."""
    models: Sequence[AnswerModel]
    _known: dict[frozenset[int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _gains: dict[tuple[frozenset[int], frozenset[int], int | None], Isotonic] = field(
        default_factory=dict
    )

    @classmethod
    def fit(
        cls, recorded: Recorded, *, fold: np.ndarray | None = None, seed: int = 0
    ) -> BlindAnswers:
        """fold: (n_queries,) in [0, n_folds); random ones when not given."""
        if fold is None:
            fold = np.random.default_rng(seed).permutation(len(recorded)) % N_FOLDS
        models = [fit_answer_model(recorded[fold != k], seed=seed) for k in range(fold.max() + 1)]
        return cls(recorded, fold, models)

    def some(self, n: int, *, seed: int = 0) -> BlindAnswers:
        """The same models on at most n of the queries."""
        if n >= len(self.recorded):
            return self
        rows = np.random.default_rng(seed).choice(len(self.recorded), n, replace=False)
        return BlindAnswers(self.recorded[rows], self.fold[rows], self.models)

    def leading(self, arms: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
        """(n_queries,) P of the leading answer once these arms were asked, and its score."""
        if arms not in self._known:
            p, score = np.zeros(len(self.recorded)), np.zeros(len(self.recorded))
            for k, model in enumerate(self.models):
                part = self.recorded[self.fold == k]
                asked = np.zeros(part.score.shape, bool)
                asked[:, list(arms)] = True
                votes, _ = part.votes(asked)
                answer, p_part = model.predict(votes, part.p_arm).leading(len(part))
                p[self.fold == k], score[self.fold == k] = p_part, part.score_of(answer)
            self._known[arms] = p, score
        return self._known[arms]

    def belief(self, arms: frozenset[int], without: int | None) -> Isotonic:
        """How often the leading answer is right once these arms were asked, by its P; learned
        without a fold, or from all queries when None."""
        keep = slice(None) if without is None else self.fold != without
        p, score = self.leading(arms)
        return Isotonic.fit(p[keep], score[keep], rising=True)

    def gain(self, before: frozenset[int], after: frozenset[int], without: int | None) -> Isotonic:
        """Expected gain in P(right) of having asked ``after`` and not only ``before``, by the P of
        the leading answer; learned without a fold, or from all queries when None."""
        key = before, after, without
        if key not in self._gains:
            keep = slice(None) if without is None else self.fold != without
            p, score = self.leading(before)
            gained = (self.leading(after)[1] - score)[keep]
            self._gains[key] = Isotonic.fit(p[keep], gained, rising=False)
        return self._gains[key]


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A monotone piecewise-linear function of a probability, by isotonic regression; constant
    beyond its ends."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def fit(cls, p: np.ndarray, target: np.ndarray, *, rising: bool) -> Isotonic:
        """p, target: (n,)."""
        if rising:
            falling = cls.fit(p, -target, rising=False)
            return cls(falling.x, -falling.y)
        # Means of equally many first: a search fits thousands of these.
        order = np.argsort(p, kind="stable")
        ends = np.linspace(0, len(p), min(len(p), N_BINS) + 1).astype(int)[:-1]
        n = np.diff(np.append(ends, len(p)))
        x = np.add.reduceat(p[order], ends) / n
        # Pool adjacent violators: sum, weight and number of bins of each block.
        blocks: list[tuple[float, float, int]] = []
        for block in zip(
            np.add.reduceat(target[order], ends), n, np.ones(len(n), int), strict=True
        ):
            blocks.append(block)
            while len(blocks) > 1 and blocks[-1][0] * blocks[-2][1] > blocks[-2][0] * blocks[-1][1]:
                last, before = blocks.pop(), blocks.pop()
                blocks.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
        return cls(x, np.repeat([t / w for t, w, _ in blocks], [k for _, _, k in blocks]))

    def __call__(self, p: np.ndarray | np.float64) -> np.ndarray:
        result: np.ndarray = np.interp(p, self.x, self.y)
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """A fitted sequence of waves."""

    waves: Waves
    beliefs: tuple[Isotonic, ...]
    """``beliefs[k]``: how often the leading answer is right after wave k, by the model's P: one
    model serves all subsets of answers, so it is a little off at any one of them."""
    gains: tuple[tuple[Isotonic, ...], ...]
    """``gains[k][j]``: expected gain in P(right) of going from stage k on to stage k + 1 + j."""
    wave_cost_usd: tuple[float, ...]
    """Mean dollars of each wave."""

    def goes_on(
        self, stage: int, p: np.ndarray | np.float64, fallback_price_usd: float
    ) -> np.ndarray:
        """Whether to ask the next wave; bool for leading answers of probability ``p``, of its
        shape."""
        best: np.ndarray | float = -np.inf
        cost = 0.0
        for j, gain in enumerate(self.gains[stage]):
            cost += self.wave_cost_usd[stage + 1 + j]
            best = np.maximum(best, fallback_price_usd * gain(p) - cost)
        return np.asarray(best > 0)


Stage = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(n_queries,) P of the leading answer, its score, and the dollars of the stage's wave."""
Play = tuple[np.ndarray, np.ndarray]
"""(n_queries,) scores and dollars of playing a composition at some price."""


def asked_by(waves: Waves) -> list[frozenset[int]]:
    """Who has been asked once each wave is through."""
    return [frozenset(arm for wave in waves[: k + 1] for arm in wave) for k in range(len(waves))]


def stages_of(blind: BlindAnswers, waves: Waves) -> list[Stage]:
    """What each stage of a sequence would show and cost."""
    return [
        (*blind.leading(asked), blind.recorded.cost_usd[:, list(wave)].sum(axis=1))
        for asked, wave in zip(asked_by(waves), waves, strict=True)
    ]


def fit_composition(blind: BlindAnswers, waves: Waves, without: int | None = None) -> Composition:
    """Learn the gains of a sequence without a fold (from all queries when None)."""
    stages = asked_by(waves)
    keep = slice(None) if without is None else blind.fold != without
    gains = tuple(
        tuple(blind.gain(before, after, without) for after in stages[k + 1 :])
        for k, before in enumerate(stages)
    )
    cost = blind.recorded.cost_usd[keep]
    costs = tuple(float(cost[:, list(wave)].sum(axis=1).mean()) for wave in waves)
    beliefs = tuple(blind.belief(asked, without) for asked in stages)
    return Composition(waves=waves, beliefs=beliefs, gains=gains, wave_cost_usd=costs)


def play_blind(blind: BlindAnswers, waves: Waves, prices_usd: Sequence[float]) -> list[Play]:
    """What a sequence brings at each price; gains are learned without the query's fold."""
    stages = stages_of(blind, waves)
    plays = [(np.zeros(len(blind.recorded)), np.zeros(len(blind.recorded))) for _ in prices_usd]
    for k in range(len(blind.models)):
        here = blind.fold == k
        composition = fit_composition(blind, waves, without=k)
        for (score, cost), price in zip(plays, prices_usd, strict=True):
            score[here], cost[here] = play(composition, [_rows(s, here) for s in stages], price)
    return plays


def play(
    composition: Composition,
    stages: Sequence[Stage],
    fallback_price_usd: float,
) -> Play:
    """Run a composition over recorded stages."""
    last = last_stage(composition, stages, fallback_price_usd)
    rows = np.arange(len(last))
    score = np.array([right for _, right, _ in stages])[last, rows]
    cost = np.cumsum([wave_cost for _, _, wave_cost in stages], axis=0)[last, rows]
    return score, cost


def last_stage(
    composition: Composition, stages: Sequence[Stage], fallback_price_usd: float
) -> np.ndarray:
    """(n_queries,) number of the stage that a composition stops after."""
    n = len(stages[0][0])
    last, going = np.zeros(n, int), np.ones(n, bool)
    for k, (p, _, _) in enumerate(stages[:-1]):
        going &= composition.goes_on(k, p, fallback_price_usd)
        last[going] = k + 1
    return last


def believed(composition: Composition, stages: Sequence[Stage], last: np.ndarray) -> np.ndarray:
    """(n_queries,) P(right) of the leading answers when each query stops at its ``last`` stage."""
    p = [belief(p) for belief, (p, _, _) in zip(composition.beliefs, stages, strict=True)]
    result: np.ndarray = np.array(p)[last, np.arange(len(last))]
    return result


def search_sequences(blind: BlindAnswers, prices_usd: Sequence[float]) -> list[Waves]:
    """Sequences worth having: the best found for each of several regions of the prices (rising),
    and one of everybody at once. Searched on at most ``MAX_SEARCH_QUERIES`` of the queries."""
    few = blind.some(MAX_SEARCH_QUERIES)
    accuracy, cost = few.recorded.score.mean(axis=0), few.recorded.cost_usd.mean(axis=0)
    able = worth_searching(accuracy, cost)
    cheap = sorted(able, key=lambda j: cost[j])
    found: list[Waves] = []
    for region in _regions(prices_usd):
        starts = [((cheap[0],),), (tuple(cheap[:3]),), *found[-1:]]
        loss = _Remembered(few, region)
        ends = [search_waves(loss, able, start) for start in dict.fromkeys(starts)]
        found.append(min(ends, key=loss))
    everybody: Waves = (tuple(range(len(accuracy))),)
    return list(dict.fromkeys([*found, everybody]))


N_REGIONS = 4
MAX_SEARCHED = 14
MAX_SEARCH_QUERIES = 2500
_PER_REGION = 3
"""Prices of a region that a sequence is searched for."""
_ABLE_QUANTILE = 0.4


def _regions(prices_usd: Sequence[float]) -> list[list[float]]:
    """The upper two thirds of the prices (below, one cheap arm does it all) in equal parts."""
    upper = list(prices_usd)[len(prices_usd) // 3 :]
    parts = np.array_split(np.array(upper), min(N_REGIONS, len(upper)))
    return [[float(v) for v in part[:: max(1, len(part) // _PER_REGION)]] for part in parts]


def worth_searching(accuracy: np.ndarray, cost_usd: np.ndarray) -> list[int]:
    """At most ``MAX_SEARCHED`` of the abler arms: those on the cost-accuracy frontier, then the
    most accurate ones. Both (n_arms,)."""
    able = accuracy >= np.quantile(accuracy, _ABLE_QUANTILE)
    best, front = -np.inf, []
    for j in np.lexsort((-accuracy, cost_usd)):
        if able[j] and accuracy[j] > best:
            best = accuracy[j]
            front.append(int(j))
    rest = [int(j) for j in np.argsort(-accuracy) if able[j] and int(j) not in front]
    return (front[-MAX_SEARCHED:] + rest)[:MAX_SEARCHED]


class _Remembered:
    """``expected_loss`` at some prices; searches from several starts meet on the way."""

    def __init__(self, blind: BlindAnswers, prices_usd: Sequence[float]) -> None:
        self.blind, self.prices_usd = blind, prices_usd
        self.known: dict[Waves, float] = {}

    def __call__(self, waves: Waves) -> float:
        waves = tuple(tuple(sorted(wave)) for wave in waves)
        if waves not in self.known:
            self.known[waves] = expected_loss(self.blind, waves, self.prices_usd)
        return self.known[waves]


def expected_loss(blind: BlindAnswers, waves: Waves, prices_usd: Sequence[float]) -> float:
    """Mean over the prices V of cost / V + (1 - score)."""
    plays = play_blind(blind, waves, prices_usd)
    return float(
        np.mean([(c / v + 1 - s).mean() for (s, c), v in zip(plays, prices_usd, strict=True)])
    )


def search_waves(loss: Callable[[Waves], float], candidates: Sequence[int], start: Waves) -> Waves:
    """Greedy search from ``start`` over sequences of ``candidates``: the change that lowers the
    loss the most; until none does."""
    waves, best = start, loss(start)
    for _ in range(MAX_ROUNDS):
        tried = [(loss(w), w) for w in _changes(waves, candidates)]
        if not tried:
            break
        least, changed = min(tried, key=lambda t: t[0])
        if least >= best - 1e-5:
            break
        waves, best = changed, least
    return waves


def _changes(waves: Waves, candidates: Sequence[int]) -> Iterator[Waves]:
    used = {arm for wave in waves for arm in wave}
    for arm in candidates:
        if arm in used:
            continue
        for i in range(len(waves) + 1):
            yield (*waves[:i], (arm,), *waves[i:])
        for i, wave in enumerate(waves):
            yield (*waves[:i], (*wave, arm), *waves[i + 1 :])
    for i, wave in enumerate(waves):
        if len(wave) > 1:
            for arm in wave:
                rest = tuple(a for a in wave if a != arm)
                yield (*waves[:i], rest, *waves[i + 1 :])
                yield (*waves[:i], rest, (arm,), *waves[i + 1 :])
                yield (*waves[:i], (arm,), rest, *waves[i + 1 :])
        if len(waves) > 1:
            yield (*waves[:i], *waves[i + 1 :])
        if i + 1 < len(waves):
            yield (*waves[:i], waves[i + 1], wave, *waves[i + 2 :])
            yield (*waves[:i], wave + waves[i + 1], *waves[i + 2 :])


def _rows(stage: Stage, rows: np.ndarray) -> Stage:
    p, score, cost = stage
    return p[rows], score[rows], cost[rows]
