"""Composition at work: waves are asked while they are worth it, and everywhere alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import pytest

from experts.cards import Prices
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.values import NO_LIMITS, Arm, Call, Completion, Query
from orchestrator.answer import Answer
from orchestrator.composers import fit_composers
from orchestrator.drivers.live import run_live
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.strategies.asking import ask
from orchestrator.strategies.compose import compose
from routers.composer import Composer
from routers.outcomes import Outcomes
from routers.scores import QueryScores, Scores
from tests import pools

N = 200
ARMS = (Arm("small"), Arm("medium"), Arm("large"))
P_RIGHT = (0.6, 0.75, 0.9)
MTOK_USD = (100.0, 300.0, 3000.0)
PRICES_USD = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def experts(*, broken: tuple[str, ...] = ()) -> dict[str, Expert]:
    """Three of rising skill and price, whose errors have nothing to do with each other; nine times
    in ten they know whether they know."""
    made: dict[str, Expert] = {}
    for seed, (arm, p, usd) in enumerate(zip(ARMS, P_RIGHT, MTOK_USD, strict=True)):
        rng = Random(seed)
        right = [rng.random() < p for _ in range(N)]
        sure = [r == (rng.random() < 0.9) for r in right]
        says = {f"{i}?": str(i if right[i] else -rng.randint(1, 9)) for i in range(N)}
        prices = Prices(input_usd_per_mtok=usd, output_usd_per_mtok=usd)
        made[arm.expert] = FakeExpert(
            arm.expert,
            refuse if arm.expert in broken else says,
            prices=prices,
            logprob=lambda call, sure=sure: -0.1 if sure[int(call.query_id[1:])] else -2.0,  # type: ignore[misc]
        )
    return made


def refuse(call: Call) -> str:
    raise RuntimeError("down")


@dataclass(frozen=True)
class World:
    composer: Composer
    recording: Recording
    scores: Scores


@cache
def world() -> World:
    everybody = experts()
    calls = [[call(i, arm) for arm in ARMS] for i in range(N)]
    rows = [[asyncio.run(everybody[c.arm.expert].complete([c]))[0] for c in some] for some in calls]
    right = np.array([[c.answer == str(i) for c in row] for i, row in enumerate(rows)], float)
    tokens = np.array([[float(c.usage.output_tokens) for c in row] for row in rows])
    unknown = np.full((N, 3), np.nan)
    outcomes = Outcomes(
        arms=ARMS, skills=("sums",) * N, scores=right, input_tokens=tokens, output_tokens=tokens,
        latency_s=unknown, logprob=np.array([[c.logprob for c in row] for row in rows], float),
        own_odds=unknown,
    )  # fmt: skip
    scores = Scores(
        arms=ARMS, p_correct=np.tile(P_RIGHT, (N, 1)), sd=np.zeros((N, 3)),
        cost_usd=np.array([[c.cost_usd for c in row] for row in rows]), latency_s=np.zeros((N, 3)),
        novelty=np.zeros(N), is_general=np.zeros(N, bool), skills=("sums",),
        p_skill=np.ones((N, 1)),
    )  # fmt: skip
    folds = [np.arange(k, N, 5) for k in range(5)]
    found = fit_composers(
        [f"{i}?" for i in range(N)], rows, scores, outcomes,
        folds=folds, kin=folds, prices_usd=PRICES_USD,
    )  # fmt: skip
    assert found
    return World(found.whole, Recording(c for row in rows for c in row), scores)


def call(i: int, arm: Arm) -> Call:
    return ask(query(i), arm)


def query(i: int, fallback_price_usd: float = 1e-2) -> Query:
    return pools.query(f"{i}?", query_id=f"q{i}", fallback_price_usd=fallback_price_usd)


def cascading() -> int:
    """The sequence with the most waves."""
    sequences = world().composer.compositions
    return max(range(len(sequences)), key=lambda k: len(sequences[k].waves))


def replayed(i: int, fallback_price_usd: float) -> Answer:
    strategy = compose(world().composer, sequence=cascading())
    steps = strategy(query(i, fallback_price_usd), world().scores.row(i), Pool(()))
    return run_replay(Run(steps, NO_LIMITS), world().recording)


def figures(fallback_price_usd: float) -> tuple[float, float]:
    """Accuracy and dollars of all questions."""
    answers = [replayed(i, fallback_price_usd) for i in range(N)]
    right = [a.answer == str(i) for i, a in enumerate(answers)]
    return float(np.mean(right)), sum(a.cost_usd for a in answers)


def test_a_dear_failure_buys_more_waves_and_more_right_answers() -> None:
    thrifty, lavish = figures(1e-5), figures(1.0)
    assert thrifty[1] < lavish[1]
    assert thrifty[0] < lavish[0]


def test_it_asks_on_where_the_first_is_unsure() -> None:
    asked: dict[bool, list[int]] = {True: [], False: []}
    for i in range(N):
        completions = replayed(i, 0.1).completions
        asked[(completions[0].logprob or -9) > -1].append(len(completions))
    assert np.mean(asked[True]) < np.mean(asked[False])


def test_what_it_believes_is_what_happens() -> None:
    answers = [replayed(i, 1e-2) for i in range(N)]
    right = np.mean([a.answer == str(i) for i, a in enumerate(answers)])
    assert np.mean([a.p_correct for a in answers]) == pytest.approx(right, abs=0.05)


def test_the_same_live_in_a_wave_and_in_replay() -> None:
    asked = range(40)
    replays = [replayed(i, 1e-2) for i in asked]
    strategy = compose(world().composer, sequence=cascading())

    def runs() -> list[Run]:
        rows = [(query(i), world().scores.row(i)) for i in asked]
        return [Run(strategy(q, row, Pool(())), NO_LIMITS) for q, row in rows]

    async def live() -> list[Answer]:
        return [await run_live(run, experts(), lambda completions: None) for run in runs()]

    waves = asyncio.run(run_wave(runs(), experts(), lambda completions: None))
    for one, two, three in zip(replays, asyncio.run(live()), waves, strict=True):
        assert told(one) == told(two) == told(three)


def told(answer: Answer) -> Mapping[str, object]:
    return {
        "answer": answer.answer,
        "p": pytest.approx(answer.p_correct),
        "asked": [c.call.arm for c in answer.completions],
        "contributors": answer.contributors,
        "cost_usd": pytest.approx(answer.cost_usd),
    }


def test_it_goes_on_with_others_when_experts_fail() -> None:
    strategy = compose(world().composer, sequence=cascading())
    for broken in (("small",), ("small", "medium")):
        steps = strategy(query(3), world().scores.row(3), Pool(()))
        answer = asyncio.run(
            run_live(Run(steps, NO_LIMITS), experts(broken=broken), lambda completions: None)
        )
        assert answer.succeeded
        assert not {a.expert for a in answer.contributors} & set(broken)


def test_only_arms_that_may_be_asked_are() -> None:
    strategy = compose(world().composer, sequence=cascading())
    allowed: QueryScores = world().scores.row(0).allowed(frozenset({"medium"}))
    answer = run_replay(Run(strategy(query(0), allowed, Pool(())), NO_LIMITS), world().recording)
    assert [c.call.arm.expert for c in answer.completions] == ["medium"]


def test_a_composer_is_stored_and_read_back_alike() -> None:
    composer = world().composer
    again = Composer.from_state(composer.state(), composer.about())
    heard: list[Completion] = list(replayed(7, 1e-1).completions)
    row = world().scores.row(7)
    assert again.weighing("7?", row)(heard) == composer.weighing("7?", row)(heard)
    for k in range(len(composer.compositions)):
        assert again.waves(k) == composer.waves(k)
        assert again.goes_on(k, 0, 0.7, 1e-3) == composer.goes_on(k, 0, 0.7, 1e-3)


def test_answers_that_are_all_right_teach_nothing() -> None:
    ready = world()
    rows = [[ready.recording(call(i, a)) for a in ARMS] for i in range(20)]
    same = np.ones((20, 3))
    unknown = np.full((20, 3), np.nan)
    outcomes = Outcomes(
        arms=ARMS, skills=("sums",) * 20, scores=same, input_tokens=same, output_tokens=same,
        latency_s=unknown, logprob=unknown, own_odds=unknown,
    )  # fmt: skip
    folds = [np.arange(k, 20, 5) for k in range(5)]
    found = fit_composers(
        [f"{i}?" for i in range(20)], rows, ready.scores[np.arange(20)], outcomes,
        folds=folds, kin=folds, prices_usd=PRICES_USD,
    )  # fmt: skip
    assert found is None
