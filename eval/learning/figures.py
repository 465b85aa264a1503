"""Figures of learning from use: regret with intervals over seeds, delays and false alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from eval.learning.simulation import (
    SCENARIOS,
    Policy,
    Stream,
    World,
    false_alarms,
    make_world,
    run_stream,
)
from eval.outcomes.matrix import OutcomeMatrix
from eval.statistics import Estimate, Interval, mean_estimate, wilson_interval
from experts.errors import DataError
from routers.online import LearningRates

HALF_LIVES = (50.0, 100.0, 200.0, 400.0)
PRIORS = (5.0, 10.0, 20.0, 40.0)
CHOOSING_SEED, REPORTING_SEED = 1000, 2000
"""First seeds: settings are chosen on some, figures are of others."""
N_FALSE_ALARM = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Regret:
    """Of one policy in one scenario; dollars for 1000 questions, mean over seeds with 95 %."""

    scenario: str
    policy: str
    n_questions: int
    n_seeds: int
    after_usd: Estimate
    """After the change, or in the second half."""
    saved_usd: Estimate
    """Of what learning nothing costs there, paired by seed."""
    explored: float
    """Share of questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """Of the arm that changed, by policy ``online``."""

    scenario: str
    n_streams: int
    n_detected: int
    delay_p50: float | None
    """Outcomes of the arm from the change to the alarm; None where it was never detected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarms:
    """Alarms where nothing changes."""

    fitted_on: int | None
    """Outcomes that the rate was fitted on; None where it is known."""
    n_alarms: int
    n: int
    per_1000: float
    interval: Interval
    """95 %, Wilson's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningReport:
    """All of it."""

    n_arms: int
    n_tasks: int
    fallback_price_usd: float
    fit_on: tuple[str, ...]
    stream_of: tuple[str, ...]
    told: float
    rates: LearningRates
    seeds: tuple[int, int]
    regrets: tuple[Regret, ...]
    detections: tuple[Detection, ...]
    false_alarms: tuple[FalseAlarms, ...]
    chosen_from: Mapping[str, float]
    """Mean regret by settings, on the choosing seeds; empty where nothing was chosen."""

    def told_as(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is simulated."""

    n_questions: int = 2000
    n_seeds: int = 20
    n_fit: int = 300
    told: float = 0.3
    """Probability that an outcome is told."""
    share: float = 0.05
    """Of questions that may explore, in the policy that does."""


def splits_of(matrix: OutcomeMatrix, *, choosing: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is fitted on and what streams: train and val to choose, train and test to report; where
    there is no test, val."""
    there = {q.split for q in matrix.queries}
    if "train" not in there or len(there) < 2:
        raise DataError("Learning is simulated on two splits, train and another; there is one.")
    stream = "val" if choosing or "test" not in there else "test"
    if stream not in there:
        raise DataError(f"There is no split {stream!r} to take the stream from.")
    return ("train",), (stream,)


def usual_price(matrix: OutcomeMatrix) -> float:
    """V where none is given: ten calls of the middling model."""
    return float(10 * np.median(np.nanmean(matrix.cost_usd, axis=0)))


def choose_rates(
    matrix: OutcomeMatrix, size: Size, *, fallback_price_usd: float, tell: Callable[[str], None]
) -> tuple[LearningRates, dict[str, float]]:
    """The settings of least regret over all scenarios, on val and seeds of their own."""
    tried: dict[str, float] = {}
    best: tuple[float, LearningRates] | None = None
    for half_life_n, prior_n in product(HALF_LIVES, PRIORS):
        rates = LearningRates(half_life_n=half_life_n, prior_n=prior_n)
        tell(f"half_life_n {half_life_n:g}, prior_n {prior_n:g}")
        total = 0.0
        for scenario in SCENARIOS:
            streams = _streams(
                matrix, Policy(name="online", rates=rates), scenario, size,
                seed=CHOOSING_SEED, fallback_price_usd=fallback_price_usd, choosing=True,
            )  # fmt: skip
            total += float(np.mean([s.regret_usd.mean() for s in streams]))
        tried[f"half_life_n={half_life_n:g}, prior_n={prior_n:g}"] = 1000 * total / len(SCENARIOS)
        if best is None or total < best[0]:
            best = total, rates
    if best is None:
        raise DataError("No settings were tried.")
    return best[1], tried


def report_learning(
    matrix: OutcomeMatrix,
    size: Size,
    *,
    fallback_price_usd: float | None = None,
    choose: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> LearningReport:
    """Regret with and without learning and exploring, what is detected, and false alarms."""
    v = usual_price(matrix) if fallback_price_usd is None else fallback_price_usd
    rates = LearningRates()
    tried: dict[str, float] = {}
    if choose:
        rates, tried = choose_rates(matrix, size, fallback_price_usd=v, tell=tell)
    policies = (
        Policy(name="frozen"),
        Policy(name="online", rates=rates),
        Policy(name="online, exploring", rates=rates, share=size.share),
    )
    regrets: list[Regret] = []
    detections: list[Detection] = []
    first = REPORTING_SEED + seed
    for scenario in SCENARIOS:
        frozen: list[Stream] = []
        for policy in policies:
            tell(f"{scenario}: {policy.name}")
            streams = _streams(
                matrix, policy, scenario, size, seed=first, fallback_price_usd=v, choosing=False
            )
            frozen = frozen or streams
            regrets.append(_regret(scenario, policy, streams, frozen, size))
            if policy.name == "online" and scenario != "none":
                detections.append(_detection(scenario, streams, size))
    fit_on, stream_of = splits_of(matrix, choosing=False)
    world = _world(matrix, size, first, v, choosing=False)
    tell("false alarms")
    return LearningReport(
        n_arms=len(world.arms),
        n_tasks=len(world.tasks),
        fallback_price_usd=v,
        fit_on=fit_on,
        stream_of=stream_of,
        told=size.told,
        rates=rates,
        seeds=(first, first + size.n_seeds - 1),
        regrets=tuple(regrets),
        detections=tuple(detections),
        false_alarms=tuple(false_alarm_rates(first)),
        chosen_from=tried,
    )


def false_alarm_rates(seed: int, *, n_arms: int = 400) -> list[FalseAlarms]:
    """Of the drift test, where rates are known and where they were fitted on few outcomes."""
    found = []
    for n_fit in (None, 100, 20):
        alarms, n = false_alarms(n=N_FALSE_ALARM, n_fit=n_fit, seed=seed, n_arms=n_arms)
        low, high = wilson_interval(alarms, n)
        found.append(
            FalseAlarms(
                fitted_on=n_fit, n_alarms=alarms, n=n, per_1000=1000 * alarms / n,
                interval=(1000 * low, 1000 * high),
            )
        )  # fmt: skip
    return found


def _world(
    matrix: OutcomeMatrix, size: Size, seed: int, fallback_price_usd: float, *, choosing: bool
) -> World:
    fit_on, stream_of = splits_of(matrix, choosing=choosing)
    return make_world(
        matrix, fit_on=fit_on, stream_of=stream_of, n_fit=size.n_fit,
        fallback_price_usd=fallback_price_usd, seed=seed,
    )  # fmt: skip


def _streams(
    matrix: OutcomeMatrix,
    policy: Policy,
    scenario: str,
    size: Size,
    *,
    seed: int,
    fallback_price_usd: float,
    choosing: bool,
) -> list[Stream]:
    return [
        run_stream(
            _world(matrix, size, s, fallback_price_usd, choosing=choosing),
            policy, scenario, n=size.n_questions, told=size.told, seed=s,
        )
        for s in range(seed, seed + size.n_seeds)
    ]  # fmt: skip


def _regret(
    scenario: str, policy: Policy, streams: Sequence[Stream], frozen: Sequence[Stream], size: Size
) -> Regret:
    half = size.n_questions // 2
    after = 1000 * np.array([s.regret_usd[half:].mean() for s in streams])
    saved = 1000 * np.array([s.regret_usd[half:].mean() for s in frozen]) - after
    return Regret(
        scenario=scenario,
        policy=policy.name,
        n_questions=size.n_questions,
        n_seeds=len(streams),
        after_usd=mean_estimate(after),
        saved_usd=mean_estimate(saved),
        explored=float(np.mean([s.n_explored / size.n_questions for s in streams])),
    )


def _detection(scenario: str, streams: Sequence[Stream], size: Size) -> Detection:
    half, delays = size.n_questions // 2, []
    for s in streams:
        at = [i for i, arm, kind in s.alarms if arm == s.changed and i >= half and kind == scenario]
        if at:
            delays.append(at[0] - half)
    return Detection(
        scenario=scenario,
        n_streams=len(streams),
        n_detected=len(delays),
        delay_p50=float(np.median(delays)) if delays else None,
    )
