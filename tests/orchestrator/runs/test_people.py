"""Durable runs that wait: for answers, for leave to spend, for days."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experts.errors import UserError
from experts.expert import Expert
from experts.human.desk import Desk, Question
from experts.values import Call, Limits, Message
from orchestrator.conclave import Conclave
from orchestrator.config import BundledExperts, Config, HumanExpertSettings, RunSettings
from orchestrator.decision import Decision
from orchestrator.ledger import Ledger
from orchestrator.queries import make_query
from orchestrator.runs.people import People
from orchestrator.runs.runs import Runs
from orchestrator.runs.store import RunState, RunStore
from orchestrator.runs.views import RunView, run_object
from orchestrator.strategies.base import Steps
from routers.plans import Plan
from routers.policy import Choice
from tests import pools
from tests.orchestrator.runs.relays import Folder, opened, person, relay, scripted, start

DAYS_S = 86_400.0
WITH_BOSS = (("a",), ("b", "boss", "c"), ("a",))


def with_boss(query: pools.Query) -> Steps:
    return relay(query, WITH_BOSS)


def pool(folder: Folder, **more: object) -> list[Expert]:
    return [*scripted(folder), person(folder, **more)]  # type: ignore[arg-type]


def waiting(folder: Folder, **more: object) -> tuple[str, list[Question]]:
    """A run that was begun by a process that has ended, and what it waits for."""
    with opened(folder, pool(folder), strategy=with_boss, **more) as runs:
        run_id = start(runs)
        view = asyncio.run(runs.go_on(run_id))
        assert view.state == "waiting"
        return run_id, unsettled(view)


def unsettled(view: RunView) -> list[Question]:
    return [q for q in view.questions if not q.is_settled]


def gone_on(folder: Folder, run_id: str, **more: object) -> RunView:
    with opened(folder, pool(folder), strategy=with_boss, **more) as runs:
        return asyncio.run(runs.go_on(run_id))


def answered(folder: Folder, question: Question, text: str) -> None:
    Desk(folder.config.desk_path).answer(question.question_id, text)


def test_a_person_is_waited_for_and_the_process_may_end(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [question] = waiting(folder)
    assert (question.expert, question.run_id, question.price_usd) == ("boss", run_id, 2.0)
    assert question.deadline_at - question.asked_at == pytest.approx(1e6), "not the call's 60 s"
    assert len(folder.charged) == 3, "those beside it were asked"
    assert gone_on(folder, run_id).state == "waiting", "asking again changes nothing"
    answered(folder, question, "go west")
    view = gone_on(folder, run_id)
    assert view.state == "done"
    assert len(folder.charged) == 4
    assert "go west" in folder.charged[-1]
    assert folder.calls() == Counter(range(5))
    assert view.cost_usd == pytest.approx(2.0, rel=1e-3)
    assert view.row.answer is not None
    assert "boss" in view.row.answer["contributors"]


def test_an_answer_that_is_in_the_ledger_needs_no_desk(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [question] = waiting(folder)
    answered(folder, question, "go west")
    done = gone_on(folder, run_id)
    again = Folder(tmp_path)
    for path in tmp_path.glob("people.sqlite*"):
        path.unlink()
    with opened(again, pool(again), strategy=with_boss) as runs:
        runs.store._db.execute("UPDATE runs SET state = 'open'")
        runs.store._db.commit()
        view = asyncio.run(runs.go_on(run_id))
    assert view.row.answer == done.row.answer
    assert view.questions == []


def test_a_deadline_that_has_passed_is_a_failed_call_that_costs_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [question] = waiting(folder)

    def later() -> float:
        return time.time() + 30 * DAYS_S

    boss = person(folder, desk=Desk(folder.config.desk_path, now=later))
    with opened(folder, [*scripted(folder), boss], strategy=with_boss) as runs:
        view = asyncio.run(runs.go_on(run_id))
    assert view.state == "done"
    assert "nothing" in folder.charged[-1], "the strategy goes on without"
    assert view.cost_usd < 1
    assert view.row.answer is not None
    assert "boss failed: no answer in time" in view.row.answer["notes"][0]
    with pytest.raises(UserError, match="its time was up"):
        answered(folder, question, "too late")
    assert gone_on(folder, run_id) == view


def test_nobody_is_asked_for_a_run_that_is_given_up(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [question] = waiting(folder)
    with opened(folder, pool(folder), strategy=with_boss) as runs:
        assert runs.cancel(run_id).state == "cancelled"
    with pytest.raises(UserError, match="does not wait any more"):
        answered(folder, question, "go west")
    assert Desk(folder.config.desk_path).waiting() == []
    assert gone_on(folder, run_id).state == "cancelled"
    assert len(folder.charged) == 3


def test_a_dear_call_waits_for_a_yes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [approval] = waiting(folder, approval_usd=1.0)
    assert approval.kind == "approval"
    assert "May boss be asked this? It may cost up to 2 $." in approval.instructions
    assert len(folder.charged) == 1, "nobody of that step is asked before"
    with pytest.raises(UserError, match="answer yes or no"):
        answered(folder, approval, "perhaps")
    answered(folder, approval, "Yes.")
    view = gone_on(folder, run_id, approval_usd=1.0)
    [question] = unsettled(view)
    assert question.expert == "boss"
    answered(folder, question, "go west")
    assert gone_on(folder, run_id, approval_usd=1.0).state == "done"
    assert folder.calls() == Counter(range(5))


def test_a_no_is_a_call_that_was_not_made(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run_id, [approval] = waiting(folder, approval_usd=1.0)
    answered(folder, approval, "no")
    view = gone_on(folder, run_id, approval_usd=1.0)
    assert view.state == "done"
    assert folder.calls() == Counter([0, 1, 3, 4]), "its number is left out"
    assert view.row.answer is not None
    assert (
        f"asking boss was not approved ({approval.question_id}: answered no)"
        in (view.row.answer["notes"])
    )


@pytest.mark.parametrize("says", ["yes", "no"])
def test_a_plan_that_is_dear_waits_for_a_yes(tmp_path: Path, says: str) -> None:
    config = Config(data_dir=tmp_path, runs=RunSettings(approval_usd=0.0))
    with Ledger(config.ledger_path) as ledger:
        with Runs(Conclave.shipped(config, ledger=ledger), config) as runs:
            query = make_query(config, "best", (Message(role="user", content="What is 2 + 2?"),))
            run_id = runs.start(query, "best")
            [approval] = unsettled(asyncio.run(runs.go_on(run_id)))
            assert "It is expected to cost" in approval.instructions
            runs.desk.answer(approval.question_id, says)
            view = asyncio.run(runs.go_on(run_id))
        assert ledger.rows("SELECT 1 FROM begun") == []
    if says == "yes":
        asks = {q.instructions.partition(" be asked this?")[0] for q in unsettled(view)}
        assert asks <= {f"May {name}" for name in runs.conclave.experts}, "each call waits, too"
    else:
        assert view.state == "failed"
        assert "the plan was not approved" in (view.row.problem or "")


def test_a_person_in_the_pool_spoils_no_policy(tmp_path: Path) -> None:
    boss = HumanExpertSettings(kind="human", name="boss", call_usd=1)
    config = Config(data_dir=tmp_path, experts=[BundledExperts(kind="bundled"), boss])
    with Ledger(":memory:") as ledger:
        conclave = Conclave.from_config(config, ledger=ledger)
        [decision] = conclave.decide([pools.query("What is 2 + 2?")], "conclave")
    assert decision.scores is not None
    assert "boss" not in {arm.expert for arm in decision.scores.arms}
    assert "boss" in conclave.experts


def test_limits_on_dollars_bind_people_too(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with opened(folder, pool(folder), strategy=with_boss) as runs:
        view = asyncio.run(runs.go_on(start(runs, limits=Limits(max_cost_usd=1.0))))
    assert view.state == "done"
    assert view.questions == []
    assert "too little for boss" in run_object(view)["answer"]["notes"][0]


def test_all_runs_whose_people_have_answered_go_on_together(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    ids = []
    with opened(folder, pool(folder), strategy=with_boss) as runs:
        for _ in range(3):
            ids.append(start(runs))
            asyncio.run(runs.go_on(ids[-1]))
        for question in runs.desk.waiting()[:2]:
            answered(folder, question, "yes")
        views, problems = asyncio.run(runs.go_on_with_all())
    assert problems == {}
    assert sorted(v.state for v in views) == ["done", "done", "waiting"]
    assert isinstance(runs, Runs)


@pytest.mark.parametrize("when", ["others work", "it is put down as waiting"])
def test_an_answer_that_comes_while_the_run_is_busy_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = Folder(tmp_path)
    desk = Desk(folder.config.desk_path)

    def answer() -> None:
        for question in desk.waiting():
            desk.answer(question.question_id, "go west")

    def others(call: Call) -> None:
        if call.arm.expert == "c" and when == "others work":
            answer()

    change = RunStore.change

    def changed(store: RunStore, run_id: str, state: RunState, **more: Any) -> bool:
        if state == "waiting":
            answer()
        return change(store, run_id, state, **more)

    monkeypatch.setattr(RunStore, "change", changed)
    experts = [*scripted(folder, others), person(folder)]
    with opened(folder, experts, strategy=with_boss) as runs:
        view = asyncio.run(runs.go_on(start(runs)))
    assert view.state == "done"
    assert "go west" in folder.charged[-1]
    assert len(folder.charged) == 4


def test_what_nobody_knows_the_cost_of_needs_a_yes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    decision = Decision(
        decision_id="dec-1",
        query=pools.query("Who?"),
        policy="conclave",
        choice=Choice(
            plan=Plan("vote"), p_correct=None, cost_usd=None, reason="named", considered=()
        ),
        scores=None,
    )
    for approval_usd, asks in ((1e9, True), (None, False)):
        people = People(
            desk=Desk(folder.config.desk_path),
            experts={},
            run_id="run-1",
            approval_usd=approval_usd,
            approval_deadline_s=60,
        )
        approval = people.approval_of_plan(decision)
        assert (approval is not None) == asks
        assert approval is None or "What it will cost is not known" in approval.instructions
