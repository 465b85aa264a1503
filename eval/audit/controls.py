"""Controls: routers must find nothing where there is nothing, and may fail where all is new.

Only development queries (train, val, and those without a split) are looked at. *Shuffled labels*:
outcomes are dealt to other queries, whole rows, so that every model keeps its accuracy; a router
fitted on them by cross-fitting that beats the best single model has seen what it should predict.
*Leave one data set out*: fitted on all tasks but one and judged on that one, beside the best single
model of the other tasks and the same router fitted on its own task, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from eval.audit.findings import Finding, listed
from eval.outcomes.for_routers import for_routers
from eval.outcomes.matrix import OutcomeMatrix
from routers.estimators import ESTIMATORS, Estimator
from routers.outcomes import Outcomes

CONTROLLED = ("knn", "ridge")
"""A router that only remembers, and one that learns."""
N_FOLDS = 5
N_SHUFFLES = 3
MIN_QUERIES = 50
MIN_TASK = 20
_Z_SEVERE, _Z_WARNING = 3.3, 2.0


def controls(
    pool: OutcomeMatrix,
    embeddings: np.ndarray,
    *,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[Finding]:
    """pool: complete, development queries only; embeddings: (n_queries, n_dims) of its prompts."""
    if len(pool) < MIN_QUERIES or len(pool.models) < 2:
        what = f"Controls need {MIN_QUERIES} development queries and two models; they were left out"
        return [Finding(check="controls", severity="note", what=what)]
    data = _Data(pool, embeddings, seed)
    found = []
    for name in CONTROLLED:
        on_stage(f"{name} on shuffled labels")
        found.append(_shuffled(name, data))
        on_stage(f"{name} without each task")
        found.append(_left_out(name, data))
    return found


class _Data:
    """Outcomes of a pool, and folds."""

    def __init__(self, pool: OutcomeMatrix, embeddings: np.ndarray, seed: int) -> None:
        self.features, self.outcomes = for_routers(pool, embeddings)
        self.tasks, self.seed = pool.tasks.astype(str), seed
        self.rng = np.random.default_rng(seed)
        self.fold = self.rng.permutation(len(pool)) % N_FOLDS

    def believed(
        self, make: Callable[[], Estimator], outcomes: Outcomes, group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, n_arms) P(right) and plain rates of the arms, each learned without the own group."""
        p, rates = np.zeros(outcomes.scores.shape), np.zeros(outcomes.scores.shape)
        for g in np.unique(group):
            rest, here = np.flatnonzero(group != g), np.flatnonzero(group == g)
            fitted = make().fit(self.features[rest], outcomes[rest])
            p[here] = fitted.predict(self.features[here])
            rates[here] = outcomes.scores[rest].mean(axis=0)
        return p, rates


def _shuffled(name: str, data: _Data) -> Finding:
    rows = np.arange(len(data.fold))
    real = data.outcomes.scores
    gaps: dict[str, list[np.ndarray]] = {"shuffled": [], "real": []}
    surplus = []
    for _ in range(N_SHUFFLES):
        scores = real[data.rng.permutation(len(rows))]
        p, rates = data.believed(ESTIMATORS[name], replace(data.outcomes, scores=scores), data.fold)
        routed, single = p.argmax(axis=1), rates.argmax(axis=1)
        for judged, on in (("shuffled", scores), ("real", real)):
            gaps[judged].append(on[rows, routed] - on[rows, single])
        # Where one model is far ahead, every router names it. So also: is the model that is
        # believed to be most above its own rate above it?
        favoured = (p - rates).argmax(axis=1)
        surplus.append((scores - scores.mean(axis=0))[rows, favoured])
    judged_on = [(f"{k} outcomes", np.mean(some, axis=0)) for k, some in gaps.items()]
    worst = max(_z(gap) for gap in (*(g for _, g in judged_on), np.mean(surplus, axis=0)))
    told = ", ".join(f"{gap.mean() * 100:+.1f} points on {on}" for on, gap in judged_on)
    severe = worst > _Z_SEVERE
    return Finding(
        check="shuffled-labels",
        severity="severe" if severe else "fine",
        what=f"{name} fitted on shuffled outcomes, against the best single model: {told}; its "
        f"favourites against their own rate: {np.mean(surplus) * 100:+.1f} "
        f"(largest z {worst:+.1f})",
        advice="It has seen what it predicts: look for outcomes shared between folds." * severe,
        n=len(rows),
    )


def _left_out(name: str, data: _Data) -> Finding:
    check = "leave-one-task-out"
    tasks, counts = np.unique(data.tasks, return_counts=True)
    judged = [t for t, n in zip(tasks, counts, strict=True) if n >= MIN_TASK]
    if len(judged) < 2:
        what = "One task only: how routers do on a task that they never saw cannot be seen."
        return Finding(check=check, severity="note", what=what)
    rows, scores = np.arange(len(data.fold)), data.outcomes.scores
    _, task = np.unique(data.tasks, return_inverse=True)
    outside, rates = data.believed(ESTIMATORS[name], data.outcomes, task)
    inside, _ = data.believed(ESTIMATORS[name], data.outcomes, data.fold)
    won, base = scores[rows, outside.argmax(axis=1)], scores[rows, rates.argmax(axis=1)]
    known = scores[rows, inside.argmax(axis=1)]
    gap = won - base
    by_task = {t: float(gap[data.tasks == t].mean()) * 100 for t in judged}
    losers = [f"{t} {by_task[t]:+.1f}" for t in sorted(judged, key=by_task.__getitem__)]
    worse = _z(gap) < -_Z_WARNING
    return Finding(
        check=check,
        severity="warning" if worse else "fine",
        what=(
            f"{name} on tasks that it never saw: {won.mean():.1%}; best single model of the other "
            f"tasks {base.mean():.1%} ({gap.mean() * 100:+.1f} points, z = {_z(gap):+.1f}); fitted "
            f"on the task, too, {known.mean():.1%}"
            + (f"; points by task, worst first: {listed(losers, 3)}" if gap.any() else "")
        ),
        advice="It does not carry over: guard it (guarded-knn), or record the new traffic." * worse,
        n=len(judged),
    )


def _z(gap: np.ndarray) -> float:
    """Mean over its standard error; 0 where nothing differs."""
    return float(gap.mean() / max(gap.std() / np.sqrt(len(gap)), 1e-12)) if gap.any() else 0.0
