"""Composition judged on recorded outcomes: fitted and searched on development, played on test.

What is learned is in ``routers.composition``; here recorded matrices are put into its terms: which
answers are equal, how long they were, how right they look.
"""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_uppercase

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from eval.routing.points import N_FOLDS, Point, Sides, blind_and_test, prices_usd
from experts.equality import answer_numbers
from routers.answers import AnswerModel
from routers.composer import Usual, form_of
from routers.composition import (
    BlindAnswers,
    Composition,
    Recorded,
    Stage,
    Waves,
    believed,
    fit_answer_model,
    fit_composition,
    last_stage,
    play,
    play_blind,
    search_sequences,
)
from routers.estimators import DEFAULT_ESTIMATOR, ESTIMATORS
from routers.options import OptionPrior


def recorded_of(sides: Sides, rows: np.ndarray, p_arm: np.ndarray, form: np.ndarray) -> Recorded:
    """Recorded answers of some rows; effort is measured against the development queries."""
    tokens = sides.matrix.output_tokens
    untold = np.full(tokens.shape, np.nan)
    usual = Usual.of(tokens[sides.dev], untold[sides.dev])
    arms = np.broadcast_to(np.arange(tokens.shape[1]), (len(rows), tokens.shape[1]))
    effort, _ = usual.deviations(arms, tokens[rows], untold[rows])
    return Recorded(
        p_arm=p_arm,
        answer=answer_numbers(sides.matrix.pred[rows]),
        score=sides.matrix.score[rows],
        cost_usd=sides.matrix.cost_usd[rows],
        effort=effort,
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
        looks = [
            [form_of(p, known) for p in preds] for known, preds in zip(odds, some.pred, strict=True)
        ]
        return np.array(looks).reshape(some.pred.shape)  # of no rows, too: a fold may be empty

    dev = sides.dev
    blind = np.zeros((len(dev), len(sides.matrix.models)))
    for k in range(N_FOLDS):
        here = sides.fold == k
        blind[here] = forms(fitted(dev[~here]), dev[here])
    return blind, forms(fitted(dev), sides.test)


def _right_letters(matrix: OutcomeMatrix) -> list[str | None]:
    """The right option of each query, from the reference or from an arm that was right."""
    found: list[str | None] = []
    for query, preds, scores in zip(matrix.queries, matrix.pred, matrix.score, strict=True):
        said = [query.answer, *(p for p, s in zip(preds, scores, strict=True) if s > 0.5)]
        found.append(next((a for a in said if a and a in ascii_uppercase and len(a) == 1), None))
    return found


def composed(
    sides: Sides,
    *,
    decision_usd: float = 0.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[Point]:
    """Composition, searched on development for several regions of prices, at every price.

    Raises DataError when the recorded answers are all right, or all wrong.
    """
    on_stage("composition: believing")
    blind, test = blind_and_test(ESTIMATORS[DEFAULT_ESTIMATOR], sides)
    dev_forms, test_forms = blind_and_test_forms(sides)
    dev_record = recorded_of(sides, sides.dev, blind, dev_forms)
    test_record = recorded_of(sides, sides.test, test, test_forms)
    on_stage("composition: weighing answers")
    answers = BlindAnswers.fit(dev_record, fold=sides.fold)
    model = fit_answer_model(dev_record)
    prices = prices_usd(sides)
    points = []
    on_stage("composition: searching sequences")
    for waves in search_sequences(answers, prices):
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
                    dev_cost=dev_cost + decision_usd,
                    test_score=test_score,
                    test_cost=test_cost + decision_usd,
                    test_asked=np.array(
                        [_asked_until(waves, k, len(sides.matrix.models)) for k in last]
                    ),
                    test_p=believed(composition, stages, last),
                )
            )
    return points


def _asked_until(waves: Waves, stage: int, n_arms: int) -> np.ndarray:
    asked = np.zeros(n_arms, bool)
    asked[[arm for wave in waves[: stage + 1] for arm in wave]] = True
    return asked


def _test_stages(composition: Composition, model: AnswerModel, recorded: Recorded) -> list[Stage]:
    asked = np.zeros(recorded.score.shape, bool)
    stages: list[Stage] = []
    for wave in composition.waves:
        asked[:, list(wave)] = True
        votes, _ = recorded.votes(asked)
        answer, p = model.predict(votes, recorded.p_arm).leading(len(recorded))
        stages.append((p, recorded.score_of(answer), recorded.cost_usd[:, list(wave)].sum(axis=1)))
    return stages
