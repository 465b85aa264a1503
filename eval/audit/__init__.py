"""An audit of recorded outcomes: whether figures computed from them can be believed.

Looks at prompts and at holes of every split, at outcomes of test only to see whether the splits are
alike, and never at which model or router is best on test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.audit.columns import balance, constants, coverage, prices
from eval.audit.controls import controls
from eval.audit.duplicates import exact, near, shared
from eval.audit.findings import CHECKS, ORDER, Finding
from eval.audit.leakage import answers_in_prompts, scores_and_answers
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix

__all__ = ["CHECKS", "Finding", "audit"]

NEAR = 0.8
"""Jaccard similarity from which two prompts are nearly alike."""


def audit(
    matrix: OutcomeMatrix,
    *,
    near_threshold: float = NEAR,
    others: tuple[MatrixQuery, ...] = (),
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[Finding]:
    """Everything that needs no router, worst first; ``others``: queries of another data set."""
    on_stage("coverage, prices, columns, splits")
    found = [*coverage(matrix), *prices(matrix), *constants(matrix), *balance(matrix)]
    on_stage("duplicates")
    found += exact(matrix.queries)
    found += near(matrix.queries, threshold=near_threshold, seed=seed)
    if others:
        found += shared(matrix.queries, others, threshold=near_threshold, seed=seed)
    on_stage("leaks")
    found += answers_in_prompts(matrix.queries, seed=seed)
    found += scores_and_answers(matrix, seed=seed)
    return worst_first(found)


def audit_routers(
    pool: OutcomeMatrix,
    embed: Callable[[list[str]], np.ndarray],
    *,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[Finding]:
    """The controls, on the development queries of a complete pool."""
    dev = np.array([q.split != "test" for q in pool.queries], bool)
    part = pool[dev]
    on_stage(f"embedding {len(part)} prompts")
    vectors = embed([q.prompt for q in part.queries])
    return controls(part, vectors, seed=seed, on_stage=on_stage)


def worst_first(found: list[Finding]) -> list[Finding]:
    """By severity; in order of looking within one."""
    return sorted(found, key=lambda f: ORDER.index(f.severity))
