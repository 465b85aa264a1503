"""Strategies, stepped through by hand: what they ask, when they stop, what they make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from experts.errors import UnknownName
from experts.expert import Pool
from experts.values import NO_LIMITS, Arm, Call, Completion
from orchestrator.answer import Answer
from orchestrator.drivers.run import Run
from orchestrator.strategies import make_strategy
from routers.plans import Plan
from routers.scores import QueryScores
from tests import pools

SCORES = QueryScores(
    arms=(Arm("cheap"), Arm("middle"), Arm("best"), Arm("hopeless")),
    p_correct=np.array([0.5, 0.7, 0.95, 0.1]),
    sd=np.zeros(4),
    cost_usd=np.array([1e-6, 5e-6, 1e-5, 2e-5]),
    latency_s=np.zeros(4),
    novelty=0.0,
    is_general=False,
    skills={},
)


def believe_the_router(completion: Completion, scores: QueryScores) -> float:
    return float(scores.p_correct[scores.index(completion.call.arm)])


def play(
    plan: Plan, says: Mapping[str, str | Sequence[str]], fallback_price_usd: float = 1e-3
) -> tuple[Answer, list[list[Call]]]:
    """Run a plan against experts that say this (or fail, when they are not in it)."""
    query = pools.query("?", fallback_price_usd=fallback_price_usd)
    strategy = make_strategy(plan, believe_the_router)
    run = Run(strategy(query, SCORES, Pool(())), NO_LIMITS)
    asked: list[list[Call]] = []
    while run.answer is None:
        asked.append(run.pending)
        run.send([reply(c, says) for c in run.pending])
    return run.answer, asked


def reply(call: Call, says: Mapping[str, str | Sequence[str]]) -> Completion:
    text = says.get(call.arm.expert)
    if text is None:
        return Completion(call=call, error="down", error_code="failed")
    said = text if isinstance(text, str) else text[call.sample]
    return Completion(call=call, text=said, answer=said, cost_usd=1e-6)


def names(asked: list[list[Call]]) -> list[list[str]]:
    return [[c.arm.expert for c in calls] for calls in asked]


EVERYBODY = {"cheap": "c", "middle": "m", "best": "b", "hopeless": "h"}


def test_single_asks_the_arm_that_is_worth_its_price() -> None:
    answer, asked = play(Plan("single"), EVERYBODY)
    assert names(asked) == [["best"]]
    assert asked[0][0].streams_answer
    assert answer.text == "b"
    assert names(play(Plan("single"), EVERYBODY, fallback_price_usd=2e-6)[1]) == [["cheap"]]


def test_single_goes_to_the_next_best_when_an_expert_fails() -> None:
    answer, asked = play(Plan("single"), {"cheap": "c", "middle": "m"})
    assert names(asked) == [["best"], ["middle"]]
    assert answer.notes == ("best failed: down",)
    assert len(answer.completions) == 2


def test_cascade_climbs_only_rungs_that_are_better_and_stops_when_sure() -> None:
    answer, asked = play(Plan.of("cascade", stop_at=0.53), EVERYBODY)
    assert names(asked) == [["cheap"], ["middle"]]
    assert answer.text == "m"
    assert names(play(Plan.of("cascade", stop_at=0.999), EVERYBODY)[1]) == [
        ["cheap"],
        ["middle"],
        ["best"],
    ]


def test_cascade_stops_early_when_two_agree() -> None:
    agreeing = {**EVERYBODY, "middle": "c"}
    answer, asked = play(Plan.of("cascade", stop_at=0.65), agreeing)
    assert names(asked) == [["cheap"], ["middle"]]
    assert answer.contributors == (Arm("cheap"), Arm("middle"))
    assert (answer.p_correct or 0) == pytest.approx(0.7)  # odds 1 * 7/3, against 1 for neither


def test_recruit_asks_the_likeliest_at_once() -> None:
    answer, asked = play(Plan.of("recruit", k=2), EVERYBODY)
    assert names(asked) == [["best", "middle"]]
    assert answer.text == "b"


def test_vote_draws_samples_of_the_likeliest() -> None:
    answer, asked = play(Plan.of("vote", n=3), {"best": ["x", "y", "y"]})
    assert names(asked) == [["best"] * 3]
    assert [c.sampling.temperature > 0 for c in asked[0]] == [False, True, True]
    assert len({c.sampling.seed for c in asked[0]}) == 3
    assert answer.text == "y"


@pytest.mark.parametrize("plan", ["single", "cascade(stop_at=0.9)", "recruit(k=2)", "vote(n=3)"])
def test_every_strategy_survives_on_the_last_expert_standing(plan: str) -> None:
    answer, _ = play(Plan.parse(plan), {"hopeless": ["h"] * 3})
    assert answer.text == "h"
    assert any("best failed" in note for note in answer.notes)


@pytest.mark.parametrize("plan", ["single", "cascade(stop_at=0.9)", "recruit(k=2)", "vote(n=3)"])
def test_every_strategy_says_when_all_failed(plan: str) -> None:
    answer, asked = play(Plan.parse(plan), {})
    assert not answer.succeeded
    assert {n for batch in names(asked) for n in batch} == set(EVERYBODY)


def test_abstaining_asks_nobody() -> None:
    answer, asked = play(Plan("abstain"), EVERYBODY)
    assert asked == []
    assert answer.abstained
    assert answer.cost_usd == 0


def test_an_unknown_strategy_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="cascade"):
        make_strategy(Plan("cascad"), believe_the_router)


@pytest.mark.parametrize(
    ("plan", "n_asked"),
    [
        ("recruit(k=3)", 3),
        ("cascade(stop_at=0.9)", 3),
        ("frugal(stop_at=0.4, rungs=3)", 3),
        ("agreement(agree=2, most=4)", 3),
        ("agreement(agree=1)", 3),
        ("switch(n=2, arms=3)", 6),
        ("guarded(margin=1)", 3),
        ("automix(samples=2)", 2),
        ("modes", 1),
        ("mode_gate", 1),
        ("single", 1),
    ],
)
def test_what_says_nothing_stops_nobody_and_is_not_believed(plan: str, n_asked: int) -> None:
    answer, asked = play(Plan.parse(plan), dict.fromkeys(EVERYBODY, ""))
    assert (answer.answer, answer.p_correct) == ("", None)
    assert sum(map(len, asked)) == n_asked
    assert len(answer.contributors) == 1
