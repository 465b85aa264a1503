"""What all strategies share: making calls, and ranking the arms that may be asked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from experts.expert import Pool
from experts.values import Arm, Call, Completion, Query, StandIn
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
    if sample or temperature is not None:
        hot = sampling.temperature if temperature is None else temperature
        sampling = replace(sampling, seed=sampling.seed + sample, temperature=hot)
    return Call(
        query_id=query.query_id,
        arm=arm,
        messages=query.messages,
        sampling=sampling,
        sample=sample,
        timeout_s=query.limits.timeout_s,
        streams_answer=streams_answer,
        caller=query.caller,
        account=query.account,
        stand_ins=stand_ins,
    )


Asking = Generator[Sequence[Call], Sequence[Completion], list[Completion]]
"""A part of a strategy: it yields calls and returns what was heard."""


def hear(calls: Sequence[Call]) -> Asking:
    """What is said to these calls, of which there may be none."""
    return list((yield calls)) if calls else []


def or_anyone(query: Query, scores: QueryScores, heard: Sequence[Completion]) -> Asking:
    """What was heard. While all of it failed, also those who were not asked yet, the likeliest to
    be right first, one at a time."""
    known = list(heard)
    if any(c.ok for c in known):
        return known
    for arm in by_success(scores):
        if arm not in {c.asked for c in known}:
            known += yield [ask(query, arm)]
            if known[-1].ok:
                break
    return known


def named(name: str, scores: QueryScores, pool: Pool) -> Arm:
    """The arm that a setting names; the likeliest to be right where it names none.

    Raises UnknownExpert, with the nearest names, for one that nobody has.
    """
    if not name:
        return by_success(scores)[0]
    arm = Arm.parse(name)
    if arm not in scores:
        pool.card(arm.expert)
    return arm


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
