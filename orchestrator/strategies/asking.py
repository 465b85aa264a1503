"""What all strategies share: making calls, and ranking the arms that may be asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experts.values import Arm, Call, Query, StandIn
from routers.scores import QueryScores


def ask(
    query: Query,
    arm: Arm,
    *,
    sample: int = 0,
    temperature: float | None = None,
    streams_answer: bool = False,
    stand_ins: tuple[StandIn, ...] = (),
) -> Call:
    """A call that puts the query to an arm. Samples of one arm differ by their seed."""
    sampling = query.sampling
    if sample:
        sampling = replace(sampling, seed=sampling.seed + sample)
    if temperature is not None:
        sampling = replace(sampling, temperature=temperature)
    return Call(
        query_id=query.query_id,
        arm=arm,
        messages=query.messages,
        sampling=sampling,
        sample=sample,
        timeout_s=query.limits.timeout_s,
        streams_answer=streams_answer,
        caller=query.caller,
        stand_ins=stand_ins,
    )


def by_objective(query: Query, scores: QueryScores) -> list[Arm]:
    """Arms from the best single one on: least cost + (1 - p) V first."""
    order = np.argsort(scores.objective(query.fallback_price_usd), kind="stable")
    return [scores.arms[i] for i in order]


def by_success(scores: QueryScores) -> list[Arm]:
    """Arms from the likeliest to be right on; the cheaper first among equals."""
    order = np.lexsort((scores.cost_usd, -scores.p_correct))
    return [scores.arms[i] for i in order]


def ladder(scores: QueryScores) -> list[Arm]:
    """Arms worth climbing, cheapest first: each is likelier to be right than all below it."""
    rungs: list[Arm] = []
    best = -1.0
    for i in np.lexsort((-scores.p_correct, scores.cost_usd)):
        if scores.p_correct[i] > best:
            rungs.append(scores.arms[i])
            best = float(scores.p_correct[i])
    return rungs
