"""Arms and their runs: the columns of an outcome matrix, grouped by whom they asked.

Several samples of a model are columns of their own (``name``, ``name#2``, ...: see
``eval.outcomes.matrix``); here they are runs of one arm. A policy's column (a router, a vote, a
cascade) is an arm like any other, as long as its cost is everything it spent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.outcomes.matrix import NUMBERS, OutcomeMatrix
from experts.equality import answer_numbers
from experts.errors import DataError

_RUN = re.compile(r"#\d+\Z")
RIGHT_ABOVE = 0.5
"""Where a pass must be yes or no, a graded score counts as right above it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One model or policy, and what its runs made of n problems."""

    name: str
    score: np.ndarray
    """(n, n_runs) in [0, 1]."""
    cost_usd: np.ndarray
    """(n, n_runs)."""

    @property
    def right(self) -> np.ndarray:
        """(n, n_runs) 0 or 1."""
        result: np.ndarray = (self.score > RIGHT_ABOVE).astype(float)
        return result

    @property
    def n_runs(self) -> int:
        return int(self.score.shape[1])


def arms_of(matrix: OutcomeMatrix) -> tuple[Arm, ...]:
    """The arms of a complete matrix, in the order of their first columns.

    Raises DataError, with the names, where a score or a cost is unknown.
    """
    for what, values in (("scores", matrix.score), ("costs", matrix.cost_usd)):
        unknown = np.isnan(values)
        if unknown.any():
            names = [m for m, u in zip(matrix.models, unknown.T, strict=True) if u.any()]
            raise DataError(
                f"Unknown {what} of {', '.join(names)}. An unknown price is not a price of 0: fill "
                f"the cells in, or name a pool without these models (--pool FILE)."
            )
    return tuple(
        Arm(name=name, score=matrix.score[:, js], cost_usd=matrix.cost_usd[:, js])
        for name, js in columns_by_arm(matrix).items()
    )


def columns_by_arm(matrix: OutcomeMatrix) -> dict[str, list[int]]:
    """Name of an arm to the columns that are its runs, in the order of their first columns."""
    columns: dict[str, list[int]] = {}
    for j, model in enumerate(matrix.models):
        columns.setdefault(_RUN.sub("", model), []).append(j)
    return columns


def with_vote(matrix: OutcomeMatrix, models: Sequence[str]) -> OutcomeMatrix:
    """One more column: these columns are all asked and paid, the most frequent answer wins.

    Ties go to the answer that comes first, as in arXiv:2504.13359. Raises DataError for an unknown
    model, fewer than two of them, or one whose answers were not recorded.
    """
    if len(models) < 2:
        raise DataError(f"A vote needs two models or more, not {', '.join(models) or 'none'}.")
    asked = matrix.of_models(models)
    silent = [
        m
        for m, said in zip(models, asked.pred.T, strict=True)
        if all(answer is None for answer in said)
    ]
    if silent:
        raise DataError(
            f"The answers of {', '.join(silent)} were not recorded (pred), so that no vote of them "
            "can be replayed."
        )
    score = np.empty(len(matrix))
    pred = np.full((len(matrix), 1), None, object)
    for i, answers in enumerate(answer_numbers(asked.pred)):
        said = [a for a in answers if a >= 0]
        winner = max(said, key=said.count) if said else -1
        same = answers == winner
        score[i] = asked.score[i, same].mean()
        pred[i, 0] = asked.pred[i, int(same.argmax())]
    added = {name: getattr(asked, name).sum(axis=1, keepdims=True) for name in NUMBERS}
    added |= {"score": score[:, None], "pred": pred}
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(matrix, name), column], axis=1)
        for name, column in added.items()
    }
    return replace(matrix, models=(*matrix.models, f"vote({'+'.join(models)})"), **joined)
