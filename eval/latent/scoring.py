"""How well a scorer tells right answers from wrong ones, beside the log-probability alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eval.metrics.reliability import ece
from eval.outcomes.splits import split_of
from eval.questions import GREEDY, Question, lab_questions
from eval.statistics import Estimate, percentile_interval, resampled
from experts.errors import DataError
from experts.scoring.scorer import AnswerScorer
from experts.scoring.training import Answers, answers_from_inside, fit_scorer
from experts.values import Arm

OWN_ODDS, LOGPROB = "own odds", "log-probability"
_MIN_LOGPROB = -20.0
_N_RESAMPLES = 500

Tell = Callable[[int, int], None]
"""Is told how many of how many questions were answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerFigures:
    """On questions that nothing was fitted on."""

    n: int
    right_share: float
    ways: Mapping[str, Mapping[str, Estimate]]
    """By way of telling, by figure: AUC; log loss, nats; ECE; share right of the surest half."""


def lab_set(n: int, *, seed: int) -> list[Question]:
    """``n`` questions of each lab skill, half in wordings that no expert was trained on: three
    quarters to fit and to calibrate on, of split val, since experts know those of train by heart;
    and a quarter of split test."""
    drawn: list[Question] = []
    for held_out in (False, True):
        for i, q in enumerate(
            lab_questions(n * 3 // 8, "val", held_out_wording=held_out, seed=seed)
        ):
            drawn.append(q.model_copy(update={"split": "val" if i % 5 == 0 else "train"}))
        drawn += lab_questions(n // 8, "test", held_out_wording=held_out, seed=seed)
    return drawn


def train_and_judge(
    folder: Path, questions: Sequence[Question], *, seed: int, tell: Tell
) -> tuple[AnswerScorer, ScorerFigures]:
    """Fitted on questions of split train, stopped and calibrated on val, judged on test; what has
    no split gets one by its text. Raises DataError where a split is empty or says nothing."""
    splits = np.array([q.split or split_of(q.prompt) for q in questions])
    for name in ("train", "val", "test"):
        if name not in splits:
            raise DataError(f"No question is of split {name!r}; a scorer needs all three.")
    calls = [q.call(Arm(folder.name), GREEDY) for q in questions]
    answers = answers_from_inside(folder, calls, tell=tell)
    right = np.array([q.score(t) for q, t in zip(questions, answers.texts, strict=True)])
    known = splits != "test"
    scorer = fit_scorer(
        folder,
        answers.features[known],
        torch.tensor(right[known], dtype=torch.float32),
        torch.tensor(splits[known] == "val"),
        seed=seed,
    )
    return scorer, _judged(scorer, answers, right, known, seed)


def _judged(
    scorer: AnswerScorer, answers: Answers, right: np.ndarray, known: np.ndarray, seed: int
) -> ScorerFigures:
    own = 1 / (1 + np.exp(-scorer.odds(answers.features[~known]).numpy().astype(float)))
    plain = _by_logprob(answers.logprob.numpy(), right, known)
    told = right[~known]
    ways = {
        OWN_ODDS: _figures(own, told, seed),
        LOGPROB: _figures(plain, told, seed),
    }
    return ScorerFigures(n=len(told), right_share=float(told.mean()), ways=ways)


def _by_logprob(logprob: np.ndarray, right: np.ndarray, known: np.ndarray) -> np.ndarray:
    """P(right) of the others, (n,): a logistic model of what routers use, fitted on the known."""
    from sklearn.linear_model import LogisticRegression

    x = np.log1p(-np.clip(logprob, _MIN_LOGPROB, 0) * 10)[:, None]
    model = LogisticRegression().fit(x[known], right[known] > 0.5)
    p: np.ndarray = model.predict_proba(x[~known])[:, 1]
    return p


def _figures(p: np.ndarray, right: np.ndarray, seed: int) -> dict[str, Estimate]:
    from sklearn.metrics import roc_auc_score

    def log_loss(rows: np.ndarray) -> np.ndarray:
        q = np.clip(p[rows], 1e-6, 1 - 1e-6)
        y = right[rows]
        losses: np.ndarray = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean(-1)
        return losses

    def surest(rows: np.ndarray) -> np.ndarray:
        half = rows.shape[-1] // 2
        order = np.argsort(-p[rows], axis=-1, kind="stable")[:, :half]
        shares: np.ndarray = np.take_along_axis(right[rows], order, -1).mean(-1)
        return shares

    def discrimination(rows: np.ndarray) -> float:
        told = right[rows] > 0.5
        return float("nan") if told.all() or not told.any() else roc_auc_score(told, p[rows])

    def calibration(rows: np.ndarray) -> float:
        return ece(p[rows], right[rows])

    statistics: Mapping[str, Statistic] = {
        "AUC": _row_by_row(discrimination),
        "log loss": log_loss,
        "ECE": _row_by_row(calibration),
        "surest half right": surest,
    }
    return {name: _estimate(one, len(p), seed) for name, one in statistics.items()}


Statistic = Callable[[np.ndarray], np.ndarray]
"""Of (n_resamples, n) indices, (n_resamples,) values."""


def _row_by_row(statistic: Callable[[np.ndarray], float]) -> Statistic:
    return lambda rows: np.array([statistic(row) for row in rows])


def _estimate(statistic: Statistic, n: int, seed: int) -> Estimate:
    drawn = resampled(statistic, n, n_resamples=_N_RESAMPLES, seed=seed)
    value = float(statistic(np.arange(n)[None])[0])
    return Estimate(value=value, ci=percentile_interval(drawn))
