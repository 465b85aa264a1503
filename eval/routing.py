"""Routing judged on recorded outcomes: every router, its knob, and composition, beside baselines.

Everything is chosen on train and val (together: the development queries), by cross-fitting, and
reported on test, once. Points of a policy with a knob are its curve; two are picked on the
development queries: the most accurate one, and the cheapest that is not below the best single one.
Costs are the recorded ones, every call that a policy makes is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.equality import answer_numbers
from eval.matrix import OutcomeMatrix
from experts.errors import DataError
from experts.values import Arm
from routers.answers import AnswerModel
from routers.composition import (
    BlindAnswers,
    Composition,
    Recorded,
    Stage,
    Waves,
    fit_answer_model,
    fit_composition,
    last_stage,
    play,
    play_blind,
    search_waves,
)
from routers.estimators import ESTIMATORS, Estimator
from routers.options import OptionPrior
from routers.outcomes import Features, Outcomes

N_FOLDS = 5
PRICE_FACTORS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 100)
"""Fallback prices V that a curve is drawn at, as multiples of what the best single model pays for
what it gets wrong: its mean cost over its error rate."""
COMPOSITION_ESTIMATOR = "ensemble"
MAX_EFFORT = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A policy at one setting of its knob: per-query scores and dollars, on both sides."""

    policy: str
    knob: float
    dev_score: np.ndarray
    dev_cost: np.ndarray
    test_score: np.ndarray
    test_cost: np.ndarray
    test_asked: np.ndarray
    """(n_test, n_arms) which arms were paid; bool, or a share where a policy is an expectation."""
    test_p: np.ndarray | None = None
    """(n_test,) what the policy believed of the answer that it gave; None where it says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """A pool's outcomes, ready for fitting and for judging."""

    matrix: OutcomeMatrix
    features: Features
    outcomes: Outcomes
    dev: np.ndarray
    test: np.ndarray
    fold: np.ndarray
    """(n_dev,) in [0, N_FOLDS)."""

    @property
    def dev_matrix(self) -> OutcomeMatrix:
        return self.matrix[self.dev]

    @property
    def test_matrix(self) -> OutcomeMatrix:
        return self.matrix[self.test]


def sides_of(matrix: OutcomeMatrix, embeddings: np.ndarray, *, seed: int = 0) -> Sides:
    """Split a complete pool; embeddings: (n_queries, n_dims) of the prompts.

    Raises DataError when a side is empty, or a cost is unknown: a policy that pays an unknown price
    cannot be judged by what it costs.
    """
    if np.isnan(matrix.cost_usd).any():
        unknown = [
            m for m, c in zip(matrix.models, matrix.cost_usd.T, strict=True) if np.isnan(c).any()
        ]
        raise DataError(
            f"Unknown costs of {', '.join(unknown)}. Fill them in (cost_usd in outcomes.csv), or "
            "leave these models out of the pool."
        )
    split = np.array([q.split for q in matrix.queries])
    dev, test = np.flatnonzero(split != "test"), np.flatnonzero(split == "test")
    if not (len(dev) and len(test)):
        raise DataError("Both test and train/val queries are needed; one side is empty.")
    unknown_cells = np.full(matrix.score.shape, np.nan)
    outcomes = Outcomes(
        arms=tuple(Arm(m) for m in matrix.models),
        skills=tuple(matrix.tasks),
        scores=matrix.score,
        input_tokens=matrix.input_tokens,
        output_tokens=matrix.output_tokens,
        latency_s=unknown_cells,
        logprob=unknown_cells,
    )
    features = Features(
        embeddings=embeddings.astype(float),
        n_chars=np.array([len(q.prompt) for q in matrix.queries]),
    )
    fold = np.random.default_rng(seed).permutation(len(dev)) % N_FOLDS
    return Sides(matrix=matrix, features=features, outcomes=outcomes, dev=dev, test=test, fold=fold)


def blind_and_test(make: Callable[[], Estimator], sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """P(right), (n_dev, n_arms) each predicted without its fold, and (n_test, n_arms)."""
    dev = sides.dev
    blind = np.zeros((len(dev), len(sides.matrix.models)))
    for k in range(N_FOLDS):
        rest, here = dev[sides.fold != k], dev[sides.fold == k]
        fitted = make().fit(sides.features[rest], sides.outcomes[rest])
        blind[sides.fold == k] = fitted.predict(sides.features[here])
    everything = make().fit(sides.features[dev], sides.outcomes[dev])
    return blind, everything.predict(sides.features[sides.test])


def prices_usd(sides: Sides) -> list[float]:
    """The fallback prices of every curve."""
    dev = sides.dev_matrix
    best = int(dev.score.mean(axis=0).argmax())
    error = max(1e-3, 1 - float(dev.score[:, best].mean()))
    return [f * float(dev.cost_usd[:, best].mean()) / error for f in PRICE_FACTORS]


def routed(policy: str, blind: np.ndarray, test: np.ndarray, sides: Sides) -> list[Point]:
    """Argmax of P - cost / V at every V: expected cost is each model's mean on development."""
    dev_matrix, test_matrix = sides.dev_matrix, sides.test_matrix
    mean_cost = dev_matrix.cost_usd.mean(axis=0)
    points = []
    for price in [*prices_usd(sides), np.inf]:
        chosen = [(p - mean_cost / price).argmax(axis=1) for p in (blind, test)]
        dev_rows, test_rows = np.arange(len(blind)), np.arange(len(test))
        points.append(
            Point(
                policy=policy,
                knob=price,
                dev_score=dev_matrix.score[dev_rows, chosen[0]],
                dev_cost=dev_matrix.cost_usd[dev_rows, chosen[0]],
                test_score=test_matrix.score[test_rows, chosen[1]],
                test_cost=test_matrix.cost_usd[test_rows, chosen[1]],
                test_asked=_only(chosen[1], test.shape[1]),
                test_p=test[test_rows, chosen[1]],
            )
        )
    return points


def baselines(sides: Sides) -> list[Point]:
    """Best single, cheapest, random, best per task (told it), oracle; chosen on development."""
    dev, test = sides.dev_matrix, sides.test_matrix
    best = int(dev.score.mean(axis=0).argmax())
    cheapest = int(dev.cost_usd.mean(axis=0).argmin())

    def told(name: str, pick: Callable[[OutcomeMatrix], np.ndarray]) -> Point:
        values = []
        for side in (dev, test):
            rows, chosen = np.arange(len(side)), pick(side)
            values += [side.score[rows, chosen], side.cost_usd[rows, chosen]]
        return Point(
            policy=name, knob=np.nan, dev_score=values[0], dev_cost=values[1],
            test_score=values[2], test_cost=values[3],
            test_asked=_only(pick(test), test.score.shape[1]),
        )  # fmt: skip

    by_task = {t: int(dev.score[dev.tasks == t].mean(axis=0).argmax()) for t in set(dev.tasks)}

    def oracle(side: OutcomeMatrix) -> np.ndarray:
        priced = np.where(side.score > 0, side.cost_usd, np.inf)
        none = np.isinf(priced).all(axis=1)
        priced[none] = side.cost_usd[none]
        chosen: np.ndarray = priced.argmin(axis=1)
        return chosen

    return [
        told("best-single", lambda side: np.full(len(side), best)),
        told("cheapest", lambda side: np.full(len(side), cheapest)),
        told("best-per-task", lambda side: np.array([by_task.get(t, best) for t in side.tasks])),
        told("oracle", oracle),
        Point(
            policy="random", knob=np.nan,
            dev_score=dev.score.mean(axis=1), dev_cost=dev.cost_usd.mean(axis=1),
            test_score=test.score.mean(axis=1), test_cost=test.cost_usd.mean(axis=1),
            test_asked=np.full(test.score.shape, 1 / test.score.shape[1]),
        ),
    ]  # fmt: skip


def _only(chosen: np.ndarray, n_arms: int) -> np.ndarray:
    """(n, n_arms) bool: one arm a query."""
    asked: np.ndarray = np.arange(n_arms) == chosen[:, None]
    return asked


def recorded_of(sides: Sides, rows: np.ndarray, p_arm: np.ndarray, form: np.ndarray) -> Recorded:
    """Recorded answers of some rows; effort is measured against the development queries."""
    log_tokens = np.log1p(np.nan_to_num(sides.matrix.output_tokens))
    dev = log_tokens[sides.dev]
    effort = (log_tokens[rows] - dev.mean(axis=0)) / np.maximum(dev.std(axis=0), 0.1)
    return Recorded(
        p_arm=p_arm,
        answer=answer_numbers(sides.matrix.pred[rows]),
        score=sides.matrix.score[rows],
        cost_usd=sides.matrix.cost_usd[rows],
        effort=np.clip(effort, -MAX_EFFORT, MAX_EFFORT),
        form=form,
    )


def blind_and_test_forms(sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """How right each answer looks, (n_dev, n_arms) each judged without its fold, and test."""

    def fitted(rows: np.ndarray) -> OptionPrior:
        some = sides.matrix[rows]
        return OptionPrior().fit([q.prompt for q in some.queries], _right_letters(some))

    def forms(prior: OptionPrior, rows: np.ndarray) -> np.ndarray:
        some = sides.matrix[rows]
        odds = prior.log_odds([q.prompt for q in some.queries])
        return np.array(
            [
                [known[_place(p)] if 0 <= _place(p) < len(known) else 0.0 for p in preds]
                for known, preds in zip(odds, some.pred, strict=True)
            ]
        )

    dev = sides.dev
    blind = np.zeros((len(dev), len(sides.matrix.models)))
    for k in range(N_FOLDS):
        here = sides.fold == k
        blind[here] = forms(fitted(dev[~here]), dev[here])
    return blind, forms(fitted(dev), sides.test)


def _place(answer: str | None) -> int:
    """Of an option's letter; -1 for anything else."""
    return ord(answer) - ord("A") if answer and len(answer) == 1 and answer.isupper() else -1


def _right_letters(matrix: OutcomeMatrix) -> list[str | None]:
    """The right option of each query, from the reference or from an arm that was right."""
    found: list[str | None] = []
    for query, preds, scores in zip(matrix.queries, matrix.pred, matrix.score, strict=True):
        said = [query.answer, *(p for p, s in zip(preds, scores, strict=True) if s > 0.5)]
        found.append(next((a for a in said if _place(a) >= 0), None))
    return found


def composed(sides: Sides, *, on_stage: Callable[[str], None] = lambda stage: None) -> list[Point]:
    """Composition, searched on development for a few prices, at every price."""
    on_stage("composition: believing")
    blind, test = blind_and_test(ESTIMATORS[COMPOSITION_ESTIMATOR], sides)
    dev_forms, test_forms = blind_and_test_forms(sides)
    dev_record = recorded_of(sides, sides.dev, blind, dev_forms)
    test_record = recorded_of(sides, sides.test, test, test_forms)
    on_stage("composition: weighing answers")
    answers = BlindAnswers.fit(dev_record)
    on_stage("composition: searching waves")
    prices = prices_usd(sides)
    found = dict.fromkeys(_searched(answers, prices))
    on_stage("composition: playing the test")
    model = fit_answer_model(dev_record)
    points = []
    for waves in found:
        composition = fit_composition(answers, waves)
        stages = _test_stages(composition, model, test_record)
        plays = play_blind(answers, waves, prices)
        for price, (dev_score, dev_cost) in zip(prices, plays, strict=True):
            test_score, test_cost = play(composition, stages, price)
            last = last_stage(composition, stages, price)
            points.append(
                Point(
                    policy="composition",
                    knob=price,
                    dev_score=dev_score,
                    dev_cost=dev_cost,
                    test_score=test_score,
                    test_cost=test_cost,
                    test_asked=np.array(
                        [_asked_until(waves, k, len(sides.matrix.models)) for k in last]
                    ),
                    test_p=np.array([stages[k][0][i] for i, k in enumerate(last)]),
                )
            )
    return points


def _asked_until(waves: Waves, stage: int, n_arms: int) -> np.ndarray:
    asked = np.zeros(n_arms, bool)
    asked[[arm for wave in waves[: stage + 1] for arm in wave]] = True
    return asked


def _searched(answers: BlindAnswers, prices: Sequence[float]) -> list[Waves]:
    """One sequence for each region of prices, from the cheapest three arms on, and one of all."""
    recorded = answers.recorded
    accuracy, cost = recorded.score.mean(axis=0), recorded.cost_usd.mean(axis=0)
    able = np.flatnonzero(accuracy >= np.quantile(accuracy, 0.4))
    start: Waves = (tuple(int(j) for j in able[np.argsort(cost[able])][:3]),)
    n = len(prices)
    regions = [prices[: n // 2], prices[n // 3 : 2 * n // 3 + 1], prices[n // 2 :]]
    found = [search_waves(answers, [int(j) for j in able], start, region) for region in regions]
    everyone = tuple(range(len(accuracy)))
    rest = tuple(j for j in everyone if j not in {a for w in found[-1] for a in w})
    return [*found, (*found[-1], rest) if rest else found[-1], (everyone,)]


def _test_stages(composition: Composition, model: AnswerModel, recorded: Recorded) -> list[Stage]:
    asked = np.zeros(recorded.score.shape, bool)
    stages: list[Stage] = []
    for wave in composition.waves:
        asked[:, list(wave)] = True
        votes, _ = recorded.votes(asked)
        answer, p = model.predict(votes, recorded.p_arm).leading(len(recorded))
        stages.append((p, recorded.score_of(answer), recorded.cost_usd[:, list(wave)].sum(axis=1)))
    return stages


def most_accurate(points: Sequence[Point]) -> Point:
    """By accuracy on development; the cheaper among equals."""
    return max(points, key=lambda p: (p.dev_score.mean(), -p.dev_cost.mean()))


def cheapest_as_good(points: Sequence[Point], single: Point) -> Point:
    """The cheapest on development that is not below the best single model there, with half a
    standard error of the paired difference to spare: the winner of many is lucky. The most accurate
    one where none is."""
    able = []
    for point in points:
        gap = point.dev_score - single.dev_score
        if gap.mean() >= 0.5 * gap.std() / np.sqrt(len(gap)):
            able.append(point)
    return min(able, key=lambda p: float(p.dev_cost.mean())) if able else most_accurate(points)


def all_points(
    sides: Sides,
    estimators: Mapping[str, Callable[[], Estimator]] = ESTIMATORS,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[Point]:
    """Baselines, every router's curve, and composition's."""
    points = baselines(sides)
    for name, make in estimators.items():
        if name in ("best-single", "random"):
            continue
        on_stage(name)
        points += routed(name, *blind_and_test(make, sides), sides)
    return points + composed(sides, on_stage=on_stage)
