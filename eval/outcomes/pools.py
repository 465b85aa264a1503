"""Named pools: which models of a data set play, so that figures can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from experts.errors import DataError, UnknownName

MIN_COVERAGE = 0.95


def pool_of(matrix: OutcomeMatrix, spec: str | None) -> OutcomeMatrix:
    """The queries that all models of a pool answered, under these models.

    ``spec``: a name below, a JSON file with a list of models, or None for all that answered at
    least 95 % of the queries. Raises UnknownName, or DataError from the matrix.
    """
    if spec is None:
        return _well_covered(matrix)
    if spec in POOLS:
        return POOLS[spec](matrix)
    path = Path(spec)
    if not path.is_file():
        raise UnknownName(spec, POOLS, what="pool (or file)")
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a JSON list of models: {error}") from None
    if not (isinstance(models, list) and all(isinstance(m, str) for m in models)):
        raise DataError(f'{path} must be a JSON list of model names, like ["a", "b"].')
    if not models:
        raise DataError(f"{path} names no model. List those that play.")
    return matrix.of_models(models).complete()


def _well_covered(matrix: OutcomeMatrix, without: str | None = None) -> OutcomeMatrix:
    if np.isnan(matrix.score).all():
        raise DataError("There are no outcomes: no model has a score on any query.")
    models = [
        m
        for m, share in zip(matrix.models, matrix.coverage(), strict=True)
        if share >= MIN_COVERAGE and not (without and m.startswith(without))
    ]
    if not models:
        raise DataError("No model answered 95 % of the queries. Name the pool's models in a file.")
    return matrix.of_models(sorted(models)).complete()


def _mmlu_pro_8(matrix: OutcomeMatrix) -> OutcomeMatrix:
    return matrix.of_models(
        (
            "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct", "gemini-1.5-flash-002",
            "gemini-1.5-pro-002", "DeepSeek-Coder-V2", "jamba-1.5-large", "mathstral-7B",
            "Mixtral-8x7B-Instruct-v0.1",
        )
    ).complete()  # fmt: skip


POOLS: Mapping[str, Callable[[OutcomeMatrix], OutcomeMatrix]] = {
    "zeroeval-28": lambda matrix: _well_covered(matrix, without="o1-"),
    "mmlu_pro-8": _mmlu_pro_8,
}
"""``zeroeval-28``: at least 95 % coverage, without o1 (hidden reasoning has no cost there).
``mmlu_pro-8``: instruct and API models (29 guessers on 10 options inflate an oracle)."""
