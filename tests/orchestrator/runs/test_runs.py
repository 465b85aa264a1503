"""Durable runs: followed like any other, shared by nobody, and honest about what changed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from experts.errors import RunBusy, RunChanged, UnknownExpert, UnknownName, UserError
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.tools.spec import ToolSpec
from experts.values import Call, Limits
from orchestrator.drivers.live import run_live
from orchestrator.runs.frozen import decision_state, read_decision
from orchestrator.runs.store import Lease
from orchestrator.runs.views import RunView, run_object
from orchestrator.strategies.base import Steps
from tests import pools
from tests.orchestrator.runs.relays import (
    N_CALLS,
    STAGES,
    Folder,
    finished,
    killed_at,
    opened,
    relay,
    scripted,
    start,
)


def begun(folder: Folder, *, dies_at: int, **more: object) -> str:
    """A run that was left after so many calls."""

    def die(call: Call) -> None:
        if len(folder.charged) > dies_at:
            raise KeyboardInterrupt

    with opened(folder, scripted(folder, die), **more) as runs:  # type: ignore[arg-type]
        run_id = start(runs)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(runs.go_on(run_id))
    return run_id


@pytest.mark.parametrize("max_calls", [0, 1, 5, 9, None])
def test_a_durable_run_answers_as_a_live_one_does(tmp_path: Path, max_calls: int | None) -> None:
    limits = Limits(max_calls=max_calls)
    folder = Folder(tmp_path)
    with opened(folder) as runs:
        run_id = start(runs, limits=limits)
        view = asyncio.run(runs.go_on(run_id))
        decision = read_decision(view.row.decision)
        conclave = runs.conclave
        live = asyncio.run(
            run_live(conclave.run_of(decision), conclave.experts, lambda completions: None)
        )
    told = view.row.answer
    assert told is not None
    assert (told["text"], told["cost_usd"]) == (live.text, live.cost_usd)
    assert told["notes"] == list(live.notes)
    n_made = len(live.completions)
    assert n_made == (N_CALLS if max_calls is None else max_calls)
    assert folder.calls() == Counter(range(n_made))
    assert view.state == ("done" if n_made else "failed")


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with opened(folder) as runs:
        run_id = start(runs)
        first = asyncio.run(runs.go_on(run_id))
        assert asyncio.run(runs.go_on(run_id)) == first
        assert asyncio.run(runs.go_on_with_all()) == ([], {})
    assert len(folder.charged) == N_CALLS


def test_failed_calls_are_outcomes_too_and_are_not_made_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def fail(call: Call) -> None:
        if call.arm.expert == "b":
            raise RuntimeError("no power")
        if len(folder.charged) > 8:
            raise KeyboardInterrupt

    with opened(folder, scripted(folder, fail)) as runs:
        run_id = start(runs)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(runs.go_on(run_id))
    n_asked = Counter(line.split()[0] for line in folder.charged)
    answer = finished(folder, run_id)  # by experts that would not fail any more
    assert Counter(line.split()[0] for line in folder.charged)["b"] == n_asked["b"]
    assert sum("b failed" in note for note in answer["notes"]) == 1
    assert folder.calls() == Counter(range(N_CALLS))


def test_only_one_process_goes_on_with_a_run(tmp_path: Path, processes: ForkServerContext) -> None:
    folder = Folder(tmp_path)
    with opened(folder) as runs:
        run_id = start(runs)
    told, telling = processes.Pipe(duplex=False)
    child = processes.Process(target=hold_on, args=(folder, run_id, telling))
    child.start()
    assert told.recv() == "asked"
    with opened(folder) as runs:
        assert runs.view(run_id).state == "running"
        assert runs.view(run_id).lost.n_calls == 0, "it is under way"
        with pytest.raises(RunBusy, match=run_id):
            asyncio.run(runs.go_on(run_id))
        assert asyncio.run(runs.go_on_with_all())[1] == {}
        child.kill()
        child.join()
        assert runs.view(run_id).state == "stopped"
        assert runs.view(run_id).lost.n_calls == 1
        assert asyncio.run(runs.go_on(run_id)).state == "done"
    assert len(folder.charged) == N_CALLS + 1
    assert folder.calls() == Counter(range(N_CALLS))


def hold_on(folder: Folder, run_id: str, telling: object) -> None:
    """What another process does: ask, and wait for an answer that never comes."""

    class Never(FakeExpert):
        async def complete(self, calls: object) -> list[object]:  # type: ignore[override]
            folder.charge(calls[0])  # type: ignore[index]
            telling.send("asked")  # type: ignore[attr-defined]
            await asyncio.Event().wait()
            raise AssertionError

    with opened(folder, [Never("a", {}), *scripted(folder)[1:]]) as runs:
        asyncio.run(runs.go_on(run_id))


def test_of_two_tasks_at_once_one_goes_on(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    async def both() -> list[object]:
        with opened(folder) as one, opened(folder) as other:
            run_id = start(one)
            return await asyncio.gather(
                one.go_on(run_id), other.go_on(run_id), return_exceptions=True
            )

    outcomes = asyncio.run(both())
    views = [o for o in outcomes if not isinstance(o, RunBusy)]
    assert views, "one of them works"
    for view in views:  # the other may see what came of it
        assert isinstance(view, RunView)
        assert view.state == "done"
    assert len(folder.charged) == N_CALLS


OTHERS = {
    "another expert next": (*STAGES[:2], ("c",), *STAGES[3:]),
    "another expert where it stopped": (*STAGES[:3], ("c",), *STAGES[4:]),
    "fewer at once": (*STAGES[:3], ("a",), *STAGES[4:]),
    "an end before": STAGES[:3],
    "another beginning": (("b",), *STAGES[1:]),
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_strategy_that_has_changed_is_told_of_and_costs_nothing(
    tmp_path: Path, change: str
) -> None:
    folder = Folder(tmp_path)
    run_id = begun(folder, dies_at=4)
    before = folder.charged

    def changed(query: pools.Query) -> Steps:
        return relay(query, OTHERS[change])

    with opened(folder, strategy=changed) as runs:
        with pytest.raises(RunChanged, match=f"conclave runs cancel {run_id}"):
            asyncio.run(runs.go_on(run_id))
        view = runs.view(run_id)
        assert view.state == "stopped"
        assert "Nothing was asked or paid" in (view.row.problem or "")
        views, problems = asyncio.run(runs.go_on_with_all())
        assert (views, list(problems)) == ([], [run_id])
    assert folder.charged == before
    assert finished(folder, run_id)["succeeded"], "put back, it goes on"


def test_a_checkpoint_that_cannot_be_read_or_lies_costs_nothing(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    expected = finished_anew(Folder(tmp_path / "expected"))
    for name, damage in {
        "garbage": "UPDATE checkpoints SET checkpoint = x'00ff1234'",
        "no such type": "UPDATE writes SET type = 'nonsense'",
        "another call's": "UPDATE writes SET value = (SELECT value FROM writes LIMIT 1)",
        "no checkpoints": "DELETE FROM checkpoints",
        "no writes": "DELETE FROM writes",
    }.items():
        folder = Folder(tmp_path / name)
        with opened(folder) as runs:
            run_id = start(runs)
        # LangGraph writes beside the run: it dies when there is something to damage.
        child = processes.Process(target=killed_at, args=(folder, run_id, "after checkpoint", 3))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        n_before, n_back = len(folder.charged), folder.calls().total()
        with sqlite3.connect(folder.config.runs_dir / "checkpoints.sqlite") as db:
            assert db.execute(damage).rowcount > 0
        db.close()
        assert finished(folder, run_id) == expected, name
        # What was under way is made again; nothing else is.
        assert len(folder.charged) == n_before + N_CALLS - n_back, name
        assert folder.calls() >= Counter(range(N_CALLS)), name


def finished_anew(folder: Folder) -> object:
    with opened(folder) as runs:
        run_id = start(runs)
    return finished(folder, run_id)


def test_a_file_of_checkpoints_that_is_none_is_told_of_and_can_be_moved_away(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    run_id = begun(folder, dies_at=4)
    n_before = len(folder.charged)
    path = folder.config.runs_dir / "checkpoints.sqlite"
    for beside in path.parent.glob("checkpoints.sqlite-*"):
        beside.unlink()
    path.write_bytes(b"this is no database" * 1000)
    with opened(folder) as runs, pytest.raises(UserError, match=r"Move checkpoints\.sqlite away"):
        asyncio.run(runs.go_on(run_id))
    path.rename(tmp_path / "away")
    assert finished(folder, run_id)["succeeded"]
    assert len(folder.charged) == n_before + N_CALLS - 4


def test_a_run_is_given_up_before_its_next_call(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    other: list[str] = []
    told: list[bool] = []

    def give_up(call: Call) -> None:
        if len(folder.charged) == 3:
            with opened(folder) as elsewhere:
                told.append(elsewhere.cancel(other[0]).is_worked_on)

    with opened(folder, scripted(folder, give_up)) as runs:
        other.append(start(runs))
        assert asyncio.run(runs.go_on(other[0])).state == "cancelled"
        assert told == [True], "a call was under way"
        assert asyncio.run(runs.go_on(other[0])).state == "cancelled"
        assert runs.cancel(other[0]).state == "cancelled"
    assert len(folder.charged) == 3
    assert folder.calls() == Counter(range(3)), "what was under way is in the ledger"


def test_stopping_bills_what_was_under_way_and_asks_it_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    async def stopped() -> str:
        slow = [FakeExpert("a", {}, latency_s=1e6), *scripted(folder)[1:]]
        with opened(folder, slow) as runs:
            run_id = start(runs)
            work = asyncio.ensure_future(runs.go_on(run_id))
            while not slow[0].batches:
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            assert work.cancelled()
            return run_id

    run_id = asyncio.run(stopped())
    with opened(folder) as runs:
        view = runs.view(run_id)
        assert [c.completion.finish_reason for c in view.calls if c.completion] == ["cancelled"]
        assert view.lost.n_calls == 0
    answer = finished(folder, run_id)
    with opened(folder) as runs:
        view = runs.view(run_id)
        [cut_short] = [
            c.completion
            for c in view.calls
            if c.completion and c.completion.finish_reason == "cancelled"
        ]
        assert cut_short.cost_usd > 0
        assert answer["cost_usd"] == pytest.approx(view.cost_usd), "both bills"
    assert folder.calls() == Counter(range(N_CALLS)) + Counter([0])


@pytest.mark.parametrize("missing", ["aiosqlite", "langgraph.func", "langgraph.types"])
def test_without_langgraph_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with opened(Folder(tmp_path)) as runs:
        run_id = start(runs)
        with pytest.raises(UserError, match="Durable runs need LangGraph"):
            asyncio.run(runs.go_on(run_id))


def test_langgraph_is_loaded_off_the_event_loop() -> None:
    """It takes most of a second, for which a server would stand still."""
    program = """
import asyncio, pathlib, sys, tempfile, threading
from orchestrator.drivers.durable import checkpoints
main, on_main = threading.main_thread(), []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "langgraph" and threading.current_thread() is main:
            on_main.append(name)

sys.meta_path.insert(0, Watch())

async def opened():
    with tempfile.TemporaryDirectory() as folder:
        async with checkpoints(pathlib.Path(folder) / "checkpoints.sqlite"):
            import langgraph.func, langgraph.types

asyncio.run(opened())
print(on_main)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"


def test_unknown_runs_and_experts_are_told_of(tmp_path: Path) -> None:
    with opened(Folder(tmp_path)) as runs:
        with pytest.raises(UnknownName, match="Unknown run 'run-1'"):
            asyncio.run(runs.go_on("run-1"))
        with pytest.raises(UnknownName):
            runs.cancel("run-1")
        with pytest.raises(UnknownExpert):
            start(runs, "nobody")
        assert runs.views() == []


def test_whoever_looks_on_keeps_nobody_from_a_run(tmp_path: Path) -> None:
    with opened(Folder(tmp_path)) as runs:
        run_id = start(runs)
        with Lease(runs.store.folder, run_id):
            assert runs.store.is_worked_on(run_id)
        assert not runs.store.is_worked_on(run_id)
        told = run_object(runs.view(run_id))
        assert (told["state"], told["calls"], told["waits_for"]) == ("stopped", [], [])


def test_decisions_come_back_as_they_were() -> None:
    from orchestrator.conclave import Conclave
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger

    with Ledger(":memory:") as ledger:
        conclave = Conclave.shipped(Config(), ledger=ledger)
        [decision] = conclave.decide([pools.query("What is the capital of France?")], "conclave")
    state = decision_state(decision)
    again = read_decision(state)
    assert decision_state(again) == state
    assert again.query == decision.query
    assert again.choice is not None
    assert decision.choice is not None
    assert again.choice.plan == decision.choice.plan
    assert again.scores is not None
    assert decision.scores is not None
    assert (again.scores.p_correct == decision.scores.p_correct).all()


def with_tool(folder: Folder, dies: BaseException | None, *, is_repeatable: bool) -> list[Expert]:
    """b is a tool, which does what it does, and then its process ``dies``."""

    def done(call: Call) -> str:
        folder.charge(call)
        if dies is not None:
            raise dies
        return "sent"

    tool = FakeExpert("b", done)
    spec = ToolSpec(
        server="post",
        name="send",
        description="sends a letter",
        input_schema='{"type": "object"}',
        is_repeatable=is_repeatable,
    )
    tool._card = replace(tool.card, tool=spec)
    return [e if e.card.name != "b" else tool for e in scripted(folder)]


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_a_tool_that_was_being_called_is_called_again_only_if_it_says_it_may(
    tmp_path: Path, is_repeatable: bool
) -> None:
    folder = Folder(tmp_path)
    dying = with_tool(folder, KeyboardInterrupt(), is_repeatable=is_repeatable)
    with opened(folder, dying) as runs:
        run_id = start(runs)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(runs.go_on(run_id))
    n_sent = sum(line.startswith("b") for line in folder.charged)
    assert n_sent == 1
    again = with_tool(folder, None, is_repeatable=is_repeatable)
    with opened(folder, again) as runs:
        view = asyncio.run(runs.go_on(run_id))
    assert view.state == "done"
    assert view.lost.n_calls == 1, "it may have been paid, whatever comes of it"
    n_sent = sum(line.startswith("b") for line in folder.charged)
    n_b = sum(stage.count("b") for stage in STAGES)
    assert n_sent == n_b + is_repeatable
    notes = " ".join((view.row.answer or {})["notes"])
    assert ("Whether it was done is not known" in notes) == (not is_repeatable)
    assert folder.calls() == Counter(range(N_CALLS))


def test_a_tool_that_was_stopped_in_the_middle_is_not_called_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    async def stopped() -> str:
        slow = with_tool(folder, None, is_repeatable=False)
        tool = slow[1]
        assert isinstance(tool, FakeExpert)
        tool._latency_s = 1e6
        with opened(folder, slow) as runs:
            run_id = start(runs)
            work = asyncio.ensure_future(runs.go_on(run_id))
            while not tool.batches:
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return run_id

    run_id = asyncio.run(stopped())
    before = sum(line.startswith("b") for line in folder.charged)
    with opened(folder, with_tool(folder, None, is_repeatable=False)) as runs:
        view = asyncio.run(runs.go_on(run_id))
    n_b = sum(stage.count("b") for stage in STAGES)
    assert sum(line.startswith("b") for line in folder.charged) == before + n_b - 1
    assert "is not tried again" in " ".join((view.row.answer or {})["notes"])


def test_leases_leave_no_files_behind(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def locks() -> list[str]:
        return [path.stem for path in folder.config.runs_dir.glob("*.lock")]

    left = begun(folder, dies_at=4)
    with opened(folder) as runs:
        done, only_looked_at = start(runs), start(runs)
        runs.views()
        assert locks() == [left], "looking makes none"
        asyncio.run(runs.go_on(done))
        asyncio.run(runs.go_on(done))
        assert locks() == [left]
        runs.cancel(left)
        runs.cancel(only_looked_at)
        assert locks() == []


def test_a_lease_whose_file_was_taken_away_is_none(tmp_path: Path) -> None:
    with opened(Folder(tmp_path)) as runs:
        run_id = start(runs)
        taken = os.open

        def and_taken_away(path: Path, flags: int, mode: int = 0o777) -> int:
            fd = taken(path, flags, mode)
            path.unlink()
            return fd

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.runs.store.os.open", and_taken_away)
            with pytest.raises(RunBusy):
                Lease(runs.store.folder, run_id)
        with Lease(runs.store.folder, run_id), pytest.raises(RunBusy):
            Lease(runs.store.folder, run_id)
