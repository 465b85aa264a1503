"""Composers of a pool, from its recorded answers: one to use, and blind ones to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from experts.equality import canonical, numbered
from experts.errors import DataError
from experts.values import Arm, Completion
from routers.composer import (
    Composer,
    Leading,
    Usual,
    Weighing,
    blind_composers,
    form_of,
    whole_composer,
)
from routers.composition import BlindAnswers, Recorded, search_sequences
from routers.options import OptionPrior
from routers.outcomes import Outcomes
from routers.scores import QueryScores, Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Composers:
    """What was learned of composing a pool's answers."""

    whole: Composer
    blind: Sequence[RememberedComposer]
    """(n_queries,) the composer that was fitted without each query's fold."""
    strange: Sequence[RememberedComposer]
    """(n_queries,) the composer that was fitted without each query's kin."""


def fit_composers(
    questions: Sequence[str],
    completions: Sequence[Sequence[Completion]],
    scores: Scores,
    outcomes: Outcomes,
    *,
    folds: Sequence[np.ndarray],
    kin: Sequence[np.ndarray],
    prices_usd: Sequence[float],
) -> Composers | None:
    """None where all recorded answers are right, or all wrong: there is nothing to weigh.

    completions: (n_queries, n_arms); scores: predicted blindly; folds and kin: rows of each fold.
    """
    usual = Usual.of(outcomes.output_tokens, outcomes.logprob)
    letters = [
        next((c.answer for c, s in zip(row, score, strict=True) if s > 0.5), None)
        for row, score in zip(completions, outcomes.scores, strict=True)
    ]
    arms = outcomes.arms
    sequences = None
    found: list[list[RememberedComposer]] = []
    try:
        for parts in (folds, kin) if kin is not folds else (folds,):
            fold = np.zeros(len(outcomes), int)
            for k, rows in enumerate(parts):
                fold[rows] = k
            priors = [_prior(questions, letters, fold != k) for k in range(len(parts))]
            recorded = _recorded(questions, completions, scores, outcomes, usual, priors, fold)
            answers = BlindAnswers.fit(recorded, fold=fold)
            if sequences is None:
                sequences = search_sequences(answers, prices_usd)
                prior = _prior(questions, letters, np.ones(len(outcomes), bool))
                whole = whole_composer(answers, recorded, sequences, arms, prior, usual)
            each = [
                RememberedComposer(c)
                for c in blind_composers(answers, sequences, arms, priors, usual)
            ]
            found.append([each[k] for k in fold])
    except DataError:
        return None
    return Composers(whole=whole, blind=found[0], strange=found[-1])


class RememberedComposer:
    """A composer for replays: the same answers to the same question are weighed once."""

    def __init__(self, composer: Composer) -> None:
        self.compositions = composer.compositions
        self.waves, self.goes_on = composer.waves, composer.goes_on
        self.believed = composer.believed
        self._composer = composer
        self._known: dict[tuple[str, tuple[Arm, ...]], Leading] = {}

    def weighing(self, question: str, scores: QueryScores) -> Weighing:
        """As the composer's; recorded completions of an arm are always the same one."""
        weigh = cache(lambda: self._composer.weighing(question, scores))

        def leading(completions: Sequence[Completion]) -> Leading:
            key = question, tuple(c.call.arm for c in completions)
            if key not in self._known:
                self._known[key] = weigh()(completions)
            return self._known[key]

        return leading


def _prior(
    questions: Sequence[str], letters: Sequence[str | None], rows: np.ndarray
) -> OptionPrior:
    kept = np.flatnonzero(rows)
    return OptionPrior().fit([questions[int(i)] for i in kept], [letters[int(i)] for i in kept])


def _recorded(
    questions: Sequence[str],
    completions: Sequence[Sequence[Completion]],
    scores: Scores,
    outcomes: Outcomes,
    usual: Usual,
    priors: Sequence[OptionPrior],
    fold: np.ndarray,
) -> Recorded:
    """As the answer model needs it; forms are judged by the prior of the query's fold."""
    shape = len(questions), len(outcomes.arms)
    answer, cost, form = np.full(shape, -1), np.zeros(shape), np.zeros(shape)
    for i, (question, row) in enumerate(zip(questions, completions, strict=True)):
        odds = priors[fold[i]].log_odds([question])[0]
        keys = canonical([c.answer if c.ok else None for c in row])
        cost[i] = [c.cost_usd for c in row]
        answer[i] = numbered(keys)
        form[i] = [form_of(key, odds) for key in keys]
    columns = np.broadcast_to(np.arange(shape[1]), shape)
    effort, surprise = usual.deviations(columns, outcomes.output_tokens, outcomes.logprob)
    return Recorded(
        p_arm=scores.p_correct,
        answer=answer,
        score=outcomes.scores,
        cost_usd=cost,
        effort=effort,
        form=form,
        surprise=surprise,
        own_odds=np.nan_to_num(outcomes.own_odds),
    )


def ordered(arms: Sequence[Arm], completions: Sequence[Completion]) -> list[Completion]:
    """The greedy completion of each arm, in the arms' order."""
    first = {c.call.arm: c for c in completions if not c.call.sample}
    return [first[arm] for arm in arms]
