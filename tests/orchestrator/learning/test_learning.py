"""Feedback moves decisions: at once, within bounds, and only those whose work was judged."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient

from eval.recording.record import record_outcomes
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.values import Arm, Query
from orchestrator.conclave import Conclave
from orchestrator.config import Config, ExplorationSettings, LearningSettings, PolicySettings
from orchestrator.deciding import Decider
from orchestrator.decision import Result
from orchestrator.fitted import Fitted
from orchestrator.learning.learner import Learner
from orchestrator.ledger import Ledger, Verdict
from orchestrator.rest.app import create_app
from routers.scores import LoadShare
from skills.embedders import HashingEmbedder
from tests import pools

POLICIES = {"conclave": PolicySettings(fallback_price_usd=1e-3)}
TRUSTING = LearningSettings(max_feedback_per_day=1000)
DAY = 86_400.0


@pytest.fixture
def system(ledger: Ledger, fitted: Fitted) -> Conclave:
    return made(ledger, fitted)


def made(
    ledger: Ledger,
    fitted: Fitted,
    *,
    learning: LearningSettings | None = None,
    exploration: ExplorationSettings | None = None,
    experts: dict[str, Expert] | None = None,
) -> Conclave:
    return Conclave(
        experts or pools.experts(), ledger, embedder=HashingEmbedder(), fitted=fitted,
        policies=POLICIES, host_usd_per_s=1e-6, learning=learning or TRUSTING,
        exploration=exploration,
    )  # fmt: skip


def asked(i: int) -> Query:
    return pools.query(f"How much is {i} plus 2 plus 4?", query_id=f"q-{i}")


def answered(system: Conclave, i: int, target: str = "sums") -> Result:
    return asyncio.run(system.answer(asked(i), target, source="test"))


def judged(system: Conclave, i: int, score: float, *, caller: str = "", by: str = "sums") -> str:
    decision_id = answered(system, i, by).decision.decision_id
    assert system.ledger.add_feedback(decision_id, score, None, caller=caller or f"caller {i}")
    return decision_id


def believed(system: Conclave, expert: str = "sums") -> float:
    system.learn()
    [decision] = system.decide([asked(999)], "conclave")
    assert decision.scores
    i = [arm.expert for arm in decision.scores.arms].index(expert)
    return float(decision.scores.p_correct[i])


def test_feedback_moves_who_made_the_answer_and_nobody_else(system: Conclave) -> None:
    before = {name: believed(system, name) for name in system.experts}
    for i in range(12):
        judged(system, i, 0.0)
    after = {name: believed(system, name) for name in system.experts}
    assert after["sums"] < before["sums"] - 0.3
    assert {n: p for n, p in after.items() if n != "sums"} == {
        n: p for n, p in before.items() if n != "sums"
    }


def test_decisions_say_what_was_moved_and_by_how_much(system: Conclave) -> None:
    for i in range(12):
        judged(system, i, 0.0)
    system.learn()
    decision = system.route(asked(500), "conclave", source="test")
    told = decision.explain()
    assert told["learned"].startswith("outcomes since the fit moved 1 of 3 arms; most sums, -")
    [sums] = [s for s in told["scores"] if s["arm"] == "sums"]
    assert sums["p_fitted"] > 0.9 > sums["p_correct"]
    [row] = system.ledger.rows("SELECT scores FROM decisions WHERE query_id = 'q-500'")
    assert json.loads(row["scores"])["state"] == told["state"]


def test_a_specialist_that_fails_is_asked_no_more(system: Conclave) -> None:
    def first(i: int) -> str:
        result = answered(system, i, "conclave")
        return result.answer.completions[0].call.arm.expert

    assert first(600) == "generalist" or first(600) == "sums"
    for i in range(25):
        judged(system, i, 0.0)
    system.learn()
    decision = system.decide([asked(601)], "conclave")[0]
    assert decision.choice
    assert decision.scores
    ranked = decision.scores.objective(1e-3)
    arms = [arm.expert for arm in decision.scores.arms]
    assert arms[int(ranked.argmin())] != "sums"


def test_feedback_on_one_decision_counts_once_the_latest(system: Conclave) -> None:
    decision_id = judged(system, 1, 0.0)
    system.learn()
    for score in (1.0, 0.0, 0.0, 0.0, 1.0):
        system.ledger.add_feedback(decision_id, score, None)
        system.learn()
    assert system.learner
    [whole] = [r for r in system.learner.rates() if r.skill is None]
    assert (whole.n, whole.recent) == (pytest.approx(1.0), pytest.approx(1.0))


def test_it_makes_no_difference_how_often_one_looks(ledger: Ledger, fitted: Fitted) -> None:
    often, once = made(ledger, fitted), made(ledger, fitted)
    ids = []
    for i in range(8):
        ids.append(judged(often, i, float(i % 2)))
        often.learn()
    ledger.add_feedback(ids[2], 1.0, None)
    often.learn()
    assert believed(often) == pytest.approx(believed(once), abs=1e-9)


def test_one_caller_cannot_swing_everything(ledger: Ledger, fitted: Fitted) -> None:
    system = made(
        ledger, fitted, learning=TRUSTING.model_copy(update={"max_feedback_per_caller_day": 3})
    )
    for i in range(60):
        judged(system, i, 0.0, caller="flood")
    system.learn()
    assert system.learner
    [whole] = [r for r in system.learner.rates() if r.skill is None]
    assert whole.n == pytest.approx(3, abs=0.1)
    few = believed(system)
    for i in range(60, 80):
        judged(system, i, 0.0, caller=f"somebody {i}")
    assert believed(system) < few - 0.2


def test_many_callers_who_may_be_one_cannot_swing_everything(
    ledger: Ledger, fitted: Fitted
) -> None:
    """Whoever has no key can make keys up."""
    system = made(ledger, fitted, learning=LearningSettings())
    before = believed(system)
    for i in range(25):
        judged(system, i, 0.0, caller=f"made up {i}")
    after = believed(system)
    assert system.learner
    [whole] = [r for r in system.learner.rates() if r.skill is None]
    assert whole.n == pytest.approx(LearningSettings().max_feedback_per_day, abs=0.5)
    assert before > 0.9
    assert after > 0.4


def test_contradictory_feedback_ends_in_the_middle(system: Conclave) -> None:
    for i in range(30):
        judged(system, i, float(i % 2), caller=f"{i}")
    assert 0.3 < believed(system) < 0.75


def test_an_answer_of_several_is_shared_in_proportion(ledger: Ledger, fitted: Fitted) -> None:
    system = made(ledger, fitted)
    query = asked(7)
    [decision] = system.decide([query], "conclave")
    assert decision.scores
    result = answered(system, 7, "conclave")
    one, two = decision.scores.arms[0], decision.scores.arms[1]
    completion = result.answer.completions[0]
    made_by = [
        replace(completion, call=replace(completion.call, arm=arm), answer="13")
        for arm in (one, one, two)
    ]
    row = dict(ledger.rows("SELECT * FROM decisions")[0])
    row |= {"decision_id": "dec-several"}
    del row["at"]
    ledger.add_decisions([query], [row], source="test")
    ledger.add_calls(made_by, ["dec-several"] * 3, versions=system.pool.versions)
    said = {"answer": "13", "contributors": json.dumps([str(one), str(two)]), "p_correct": 0.9}
    rest = {"abstained": 0, "cost_usd": 0.0, "latency_s": 0.0, "notes": "[]"}
    ledger.add_answers([{"decision_id": "dec-several", **said, **rest}])
    ledger.add_feedback("dec-several", 1.0, None)
    system.learn()
    assert system.learner
    rates = {str(r.arm): r for r in system.learner.rates() if r.skill is None}
    assert rates[str(one)].n == pytest.approx(2 / 3)
    assert rates[str(two)].n == pytest.approx(1 / 3)
    assert rates[str(two)].fitted == pytest.approx(0.9, abs=0.01)  # the answer's, not the arm's


def test_verdicts_of_graders_on_calls_count_and_those_of_test_questions_do_not(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = made(ledger, fitted)
    both = pools.questions(30)
    asyncio.run(record_outcomes(both, pools.experts(), ledger))
    system.learn()
    assert system.learner
    n = len(system.learner.observations())
    assert n == 3 * sum(q.split != "test" for q in both)
    [call] = ledger.rows("SELECT call_id FROM calls ORDER BY call_id LIMIT 1")
    ledger.add_verdicts([Verdict(call_id=call["call_id"], score=0.0, source="verifier")])
    system.learn()
    assert len(system.learner.observations()) == n


def test_what_other_weights_did_says_nothing(ledger: Ledger, fitted: Fitted) -> None:
    other = {**pools.experts(), "sums": FakeExpert("sums", {}, prices=pools.DEAR, version="2")}
    old = made(ledger, fitted, experts=other)
    for i in range(5):
        judged(old, i, 0.0)
    system = made(ledger, fitted)
    system.learn()
    assert system.learner
    assert not system.learner.observations()


def test_nothing_is_learned_where_it_is_turned_off(ledger: Ledger, fitted: Fitted) -> None:
    system = made(ledger, fitted, learning=LearningSettings(enabled=False))
    before = believed(system)
    for i in range(5):
        judged(system, i, 0.0)
    assert believed(system) == before


def test_a_change_is_shown(system: Conclave) -> None:
    for i in range(25):
        judged(system, i, 0.0, caller=f"{i}")
    system.learn()
    assert system.learner
    assert system.learner.facts()["drift"] == {"sums": "worse"}


# Faults.


def test_a_ledger_that_cannot_be_read_leaves_what_is_known(
    ledger: Ledger, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = made(ledger, fitted)
    for i in range(10):
        judged(system, i, 0.0)
    known = believed(system)
    judged(system, 11, 0.0)

    def locked(*arguments: object, **more: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "verdicts_since", locked)
        assert believed(system) == known
        assert system.learner
        assert "database is locked" in system.learner.facts()["problem"]
    assert believed(system) < known
    assert "problem" not in system.learner.facts()


# Swapping.


def test_each_decision_is_carried_out_by_the_state_that_took_it(
    system: Conclave, fitted: Fitted
) -> None:
    [decision] = system.decide([asked(1)], "conclave")
    system.fitted = replace(fitted, report={**fitted.report, "n_questions": 1})
    [after] = system.decide([asked(2)], "conclave")
    assert decision.fitted is fitted
    assert after.fitted is system.fitted
    assert decision.state != after.state


def test_outcomes_of_another_state_s_decisions_are_scored_again(
    system: Conclave, fitted: Fitted
) -> None:
    for i in range(10):
        judged(system, i, 0.0)
    low = believed(system)
    system.fitted = replace(fitted, report={**fitted.report, "n_questions": 1})
    assert believed(system) == pytest.approx(low, abs=0.02)


# Exploration.


@pytest.fixture
def exploring(ledger: Ledger, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> Conclave:
    settings = ExplorationSettings(usd_per_day=4e-3, share=1.0, min_sd=0.0)
    system = made(ledger, fitted, exploration=settings)
    system.explorer.rng = np.random.default_rng(0)
    system.explorer.clock = lambda: DAY * 100 + 50
    monkeypatch.setattr(Decider, "loads_to_come", lambda decider: {})
    return system


def unsure(system: Conclave) -> None:
    """Feedback that makes the usual choices doubtful, so that others may be better."""
    for i in range(20):
        judged(system, i, float(i % 2), caller=f"{i}")
        judged(system, 100 + i, float(i % 2), caller=f"{i}", by="generalist")
    system.learn()


def test_explorations_are_paid_from_a_budget_and_told(exploring: Conclave) -> None:
    unsure(exploring)
    results = [answered(exploring, 1000 + i, "conclave") for i in range(120)]
    explored = [r for r in results if r.decision.instead_of]
    assert explored
    told = explored[0].decision.explain()
    assert told["plan"] == "explore"
    assert told["reason"].startswith("exploration: ")
    assert 0 < told["exploration"]["propensity"] <= 1
    ledger = exploring.ledger
    [row] = ledger.rows(
        "SELECT SUM(cost_usd) AS usd, COUNT(*) AS n FROM calls WHERE purpose = 'explore'"
    )
    assert row["n"] == len(explored)
    spent = ledger.explored_usd(since_s=0)
    assert spent == pytest.approx(row["usd"])
    assert spent <= 4e-3
    others = [
        r.decision.explain()["exploration"]["propensity"] for r in results if r not in explored
    ]
    assert all(0 <= p <= 1 for p in others)


def test_the_budget_is_reserved_beforehand_and_never_passed(exploring: Conclave) -> None:
    exploring.explorer.settings = ExplorationSettings(usd_per_day=2e-4, share=1.0, min_sd=0.0)
    unsure(exploring)
    for i in range(60):
        answered(exploring, 1000 + i, "conclave")
        assert exploring.ledger.explored_usd(since_s=0) <= 2e-4


def test_a_reservation_that_is_not_spent_counts_until_the_answer(ledger: Ledger) -> None:
    row = {"decision_id": "d", "at": 10.0, "arm": "a", "propensity": 0.1, "reserved_usd": 0.6}
    assert ledger.reserve_exploration(row, since_s=0, budget_usd=1.0)
    assert not ledger.reserve_exploration({**row, "decision_id": "e"}, since_s=0, budget_usd=1.0)
    assert ledger.explored_usd(since_s=0) == 0.6
    assert ledger.explored_usd(since_s=11) == 0
    answer = {"answer": "", "contributors": "[]", "p_correct": 0.0, "abstained": 0}
    ledger.add_answers(
        [{"decision_id": "d", **answer, "cost_usd": 0.0, "latency_s": 0.0, "notes": "[]"}]
    )
    assert ledger.explored_usd(since_s=0) == 0


def test_looking_explores_nothing_and_limits_are_kept(exploring: Conclave) -> None:
    unsure(exploring)
    for i in range(20):
        assert exploring.route(asked(2000 + i), "conclave", source="t").exploration is None
        tight = replace(asked(3000 + i), limits=replace(asked(0).limits, max_cost_usd=1e-9))
        result = asyncio.run(exploring.answer(tight, "conclave", source="t"))
        assert result.decision.instead_of is None


def test_what_a_caller_cannot_pay_for_and_what_is_not_loaded_is_not_explored(
    exploring: Conclave,
) -> None:
    """Infinitely dear, so that nobody draws it: what a load costs nobody knows beforehand."""
    [decision] = exploring.decide([asked(1)], "conclave")
    assert decision.scores
    scores, explorer = decision.scores, exploring.explorer
    most = explorer._most_usd(asked(1), scores)
    assert np.isfinite(most).all()
    limit = float(np.sort(most)[0])
    poor = replace(asked(1), limits=replace(asked(1).limits, max_cost_usd=limit))
    assert (np.isfinite(explorer._most_usd(poor, scores)) == (most <= limit)).all()
    assert not (most <= limit).all()
    load = LoadShare(load_s=1.0, load_usd=1e-3, n_sharing=1)
    unloaded = replace(scores, loads={scores.arms[0].expert: load})
    assert np.isinf(explorer._most_usd(asked(1), unloaded)).tolist() == [True, False, False]


def test_only_calls_that_answer_are_who_made_an_answer(system: Conclave) -> None:
    """An expert that named keywords, judged or planned did not say what was judged."""
    result = answered(system, 1)
    [call] = result.answer.completions
    others = [
        replace(call, call=replace(call.call, arm=Arm("generalist"), purpose=purpose))
        for purpose in ("annotate", "judge", "plan")
    ]
    decision_id = result.decision.decision_id
    system.ledger.add_calls(others, [decision_id] * 3, versions=system.pool.versions)
    assert [c["expert"] for c in system.ledger.calls_of_decision(decision_id)] == ["sums"]
    system.ledger.add_feedback(decision_id, 1.0, None)
    system.learn()
    assert system.learner
    [seen] = system.learner.observations()
    assert seen.is_blind


# Over HTTP.


def test_feedback_is_known_to_the_next_decision(ledger: Ledger, fitted: Fitted) -> None:
    system = made(ledger, fitted)
    with TestClient(create_app(system, Config())) as client:
        ids = [answered(system, i).decision.decision_id for i in range(12)]
        for i, decision_id in enumerate(ids):
            body = {"decision_id": decision_id, "correct": False}
            headers = {"authorization": f"Bearer {i // 4}"}
            sent = client.post("/v1/feedback", json=body, headers=headers)
            assert sent.json() == {"decision_id": decision_id, "recorded": True}
        asked_ = {"messages": [{"role": "user", "content": asked(999).text}]}
        told = client.post("/v1/route", json=asked_).json()
        assert "most sums" in told["learned"]
        facts = client.get("/v1/learning").json()
        assert facts["n_outcomes"] == 12
        assert facts["drift"] == {"sums": "worse"}
        assert client.get("/readyz").json()["learning"] == {"drift": {"sums": "worse"}}
        assert "Bearer" not in str(ledger.rows("SELECT caller FROM verdicts"))


def test_a_ledger_that_is_locked_asks_to_come_again(
    ledger: Ledger, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = made(ledger, fitted)
    with TestClient(create_app(system, Config())) as client:
        decision_id = answered(system, 1).decision.decision_id

        def locked(*arguments: object, **more: object) -> bool:
            raise sqlite3.OperationalError("database is locked")

        monkeypatch.setattr(Ledger, "add_feedback", locked)
        sent = client.post("/v1/feedback", json={"decision_id": decision_id, "correct": True})
        assert sent.status_code == 503
        assert sent.headers["retry-after"] == "1"
        assert sent.json()["error"]["code"] == "ledger_busy"


def test_a_learner_reads_nothing_twice(ledger: Ledger, fitted: Fitted) -> None:
    system = made(ledger, fitted)
    judged(system, 1, 1.0)
    learner = Learner(
        fitted, ledger, versions=system.pool.versions, embed=HashingEmbedder().embed,
        settings=LearningSettings(),
    )  # fmt: skip
    for _ in range(3):
        learner.catch_up()
    assert [o.score for o in learner.observations()] == [1.0]
