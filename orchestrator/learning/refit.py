"""A new fit from the ledger, put to use unless it is shown to be worse than what is in use.

What is fitted: router, plans and all on recorded outcomes (``orchestrator.fitting``), and on top
the shifts that outcomes of use speak for, at a half-life ten times the online one. The state
carries the ledger's position, so what comes later is learned online again.

How it is judged: of the questions with outcomes that are newer than the state in use, every fourth
(by a hash) is kept out of a candidate. Neither has seen these, so their squared errors are
compared, question by question; if the candidate's are larger by more than luck (one-sided t-test at
``ALPHA``), nothing changes. Otherwise the same is fitted with all outcomes, and that is put to use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from experts.errors import ConclaveError
from experts.expert import Pool
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.fitting import fit_from_ledger
from orchestrator.learning.history import FitHistory
from orchestrator.learning.learner import MAX_OBSERVATIONS, feedback_caps, prior_n_of, since
from orchestrator.learning.observations import latest, read_observations
from orchestrator.ledger import Ledger
from orchestrator.pool import make_experts
from orchestrator.states import load_fitted
from routers.online import LearningRates, OnlineBeliefs
from skills.embedders import make_embedder

MIN_HELD_OUT = 20
"""Questions; with fewer nobody could tell worse from better, and what is in use stays."""
ALPHA = 0.1
HELD_OUT = 4
"""Every so manieth newer question."""
SLOWER = 10
"""Times the online half-life."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A candidate beside what is in use, on questions that neither has seen."""

    n: int
    error: float
    """Mean squared error of P(right): the candidate's."""
    error_in_use: float
    p_worse: float
    """p-value of the candidate being no worse; small is bad for it."""

    @property
    def is_worse(self) -> bool:
        return self.error > self.error_in_use and self.p_worse < ALPHA

    def __str__(self) -> str:
        return (
            f"squared error {self.error:.4f} beside {self.error_in_use:.4f} on {self.n} questions "
            f"that neither has seen, p = {self.p_worse:.2g} for being no worse"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Refit:
    """What became of a refit."""

    outcome: str
    """in use, worse, too few, overtaken, or failed."""
    position: int
    """Of the ledger, when it began."""
    fit_id: str | None = None
    judgement: Judgement | None = None
    reason: str = ""

    def noted(self) -> dict[str, Any]:
        """For the log."""
        return {k: v for k, v in asdict(self).items() if v not in (None, "")}


def refit(
    config: Config, ledger: Ledger, history: FitHistory, *, on_stage: Say = lambda stage: None
) -> Refit:
    """Fit, judge, and put to use or not; what became of it is in the history's log.

    Raises UserError where another process is at it. What fails is noted, and raised.
    """
    with history.alone():
        position = int(ledger.position()["last_verdict_id"])
        try:
            done = _refit(config, ledger, history, position, on_stage)
        except ConclaveError as error:
            history.note(**Refit(outcome="failed", position=position, reason=str(error)).noted())
            raise
        history.note(**done.noted())
        return done


def _refit(
    config: Config, ledger: Ledger, history: FitHistory, position: int, on_stage: Say
) -> Refit:
    began_with = history.current_id
    pool = Pool.of(make_experts(config).values())
    embed = make_embedder(config.embedder).embed
    in_use = load_fitted(config, pool, make_embedder(config.embedder))
    rows = ledger.verdicts_since(since(in_use, ledger), n=MAX_OBSERVATIONS)
    held_out = frozenset(
        row["query_id"] for row in rows if crc32(row["query_id"].encode()) % HELD_OUT == 0
    )
    if len(held_out) < MIN_HELD_OUT:
        return Refit(
            outcome="too few",
            position=position,
            reason=f"{len(held_out)} newer questions could be kept out, of {MIN_HELD_OUT} that are "
            "needed to judge",
        )
    on_stage("fitting without those that judge")
    candidate = fit_with_use(config, ledger, pool, without=held_out, on_stage=on_stage)
    on_stage("judging")
    judged = judge(
        candidate,
        in_use,
        [row for row in rows if row["query_id"] in held_out],
        lambda fitted, of: _expected(fitted, of, ledger, pool, embed),
    )
    if judged is None:
        why = "too few outcomes are of an expert's own answer"
        return Refit(outcome="too few", position=position, reason=why)
    if judged.is_worse:
        return Refit(outcome="worse", position=position, judgement=judged, reason=str(judged))
    on_stage("fitting with all")
    fit_id = history.add(fit_with_use(config, ledger, pool, on_stage=on_stage))
    if (now := history.current_id) != began_with:  # restored meanwhile, by somebody who knew why
        return Refit(
            outcome="overtaken",
            position=position,
            fit_id=fit_id,
            judgement=judged,
            reason=f"{now} was put to use while it was judged against {began_with}",
        )
    history.use(fit_id)
    return Refit(
        outcome="in use", position=position, fit_id=fit_id, judgement=judged, reason=str(judged)
    )


def fit_with_use(
    config: Config,
    ledger: Ledger,
    pool: Pool,
    *,
    without: frozenset[str] = frozenset(),
    on_stage: Say = lambda stage: None,
) -> Fitted:
    """Fitted on recorded outcomes, with the shifts that outcomes of use speak for; but for the
    questions ``without``."""
    fitted = fit_from_ledger(config, ledger, without=without, on_stage=on_stage)
    rows = [
        row
        for row in ledger.verdicts_since(0, n=MAX_OBSERVATIONS)
        if row["purpose"] != "record"
        and row["query_id"] not in without
        and row["verdict_id"] <= fitted.report["last_verdict_id"]
    ]
    if not rows or not config.learning.enabled:
        return fitted
    on_stage("learning from use")
    settings = config.learning
    rates = LearningRates(
        half_life_n=SLOWER * settings.half_life_n,
        prior_n=settings.prior_n,
        max_shift=settings.max_shift,
    )
    beliefs = OnlineBeliefs(prior_n_of(fitted), rates)
    caps = feedback_caps(settings)
    embed = make_embedder(config.embedder).embed
    read = read_observations(rows, fitted, ledger, pool.versions, embed, max_scored=len(rows))
    blind = [o for o in latest(read) if o.is_blind]
    for o in blind:
        for credit in o.credits:
            if (weight := caps.weight(o, credit)) > 0:
                beliefs.observe(credit.arm, o.p_skill, credit.p, o.score, weight)
    if not blind:
        return fitted
    report = {**fitted.report, "n_outcomes_of_use": len(blind)}
    return replace(fitted, shifts=beliefs.shifts(), report=report)


Expected = Mapping[str, tuple[str, list[float], float]]
"""By subject: its question, P(right) of each credit, score."""


def judge(
    candidate: Fitted,
    in_use: Fitted,
    rows: Sequence[Mapping[str, Any]],
    expected: Callable[[Fitted, Sequence[Mapping[str, Any]]], Expected],
) -> Judgement | None:
    """Paired by question; None where there are fewer than ``MIN_HELD_OUT``."""
    new, old = expected(candidate, rows), expected(in_use, rows)
    errors: dict[str, list[tuple[float, float]]] = {}
    for subject in new.keys() & old.keys():
        query_id, p_new, score = new[subject]
        _, p_old, _ = old[subject]
        errors.setdefault(query_id, []).append((_squared(p_new, score), _squared(p_old, score)))
    if len(errors) < MIN_HELD_OUT:
        return None
    of_query = np.array([np.mean(pairs, axis=0) for pairs in errors.values()])
    excess = of_query[:, 0] - of_query[:, 1]
    return Judgement(
        n=len(excess),
        error=float(of_query[:, 0].mean()),
        error_in_use=float(of_query[:, 1].mean()),
        p_worse=_p_no_worse(excess),
    )


def _p_no_worse(excess: np.ndarray) -> float:
    from scipy.stats import ttest_1samp

    if np.ptp(excess) < 1e-12:
        return 0.0 if excess[0] > 1e-12 else 1.0
    return float(ttest_1samp(excess, 0.0, alternative="greater").pvalue)


def _squared(p: Sequence[float], score: float) -> float:
    return float(np.mean([(x - score) ** 2 for x in p]))


def _expected(
    fitted: Fitted,
    rows: Sequence[Mapping[str, Any]],
    ledger: Ledger,
    pool: Pool,
    embed: Callable[[Sequence[str]], np.ndarray],
) -> Expected:
    found = read_observations(rows, fitted, ledger, pool.versions, embed, max_scored=len(rows))
    return {
        o.subject: (o.query_id, [c.p for c in o.credits], o.score)
        for o in latest(found)
        if o.is_blind
    }
