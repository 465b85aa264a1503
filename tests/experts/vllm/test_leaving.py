"""Calls that end without an answer: callers who leave, limits, closing, a policy that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from experts.errors import EngineFailed
from experts.residency.policies.base import Action, Serve, View
from experts.residency.policies.coserve import CoServe
from experts.residency.policies.first_come import first_come
from experts.values import Completion
from experts.vllm.fleet import Fleet
from experts.vllm.job import Job
from tests.engines import ask, lab, processes_of
from tests.experts.vllm.fleets import answers


class CancelsWhatItServes:
    """A policy whose caller gives up in the moment in which his call is sent off."""

    name, max_wait_s = "cancels", None

    def __init__(self, fleet: Fleet) -> None:
        self.inner, self.fleet, self.jobs = first_come(), fleet, dict[str, Job]()

    def decide(self, view: View) -> Iterator[Action]:
        for action in self.inner.decide(view):
            yield action
            if isinstance(action, Serve) and action.request_id in self.jobs:
                self.fleet.cancel([self.jobs[action.request_id]])


def test_a_call_that_is_given_up_as_it_is_sent_off_leaves_the_books(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        answers(it.experts, "logic")
        policy = CancelsWhatItServes(it.fleet)
        it.fleet.use(policy)
        [job] = asyncio.run(it.experts["logic"].jobs([ask("logic")], time.perf_counter()))
        assert isinstance(job, Job)
        policy.jobs[job.request_id] = job
        it.fleet.submit([job])
        job.done.result(timeout=10)
        assert job.row.text == ""
        [c] = answers(it.experts, "units")["units"]  # its slot can be drained
        assert c.text == "I am units"


def test_a_timeout_and_a_caller_who_goes_away_leave_the_others_alone(tmp_path: Path) -> None:
    with lab(tmp_path, call_s=0.2, concurrency=1) as it:
        answers(it.experts, "logic")

        async def body() -> tuple[list[Completion], list[Completion], list[Completion]]:
            expert = it.experts["logic"]
            stays = asyncio.ensure_future(expert.complete([ask("logic")]))
            waits = asyncio.ensure_future(expert.complete([ask("logic", timeout_s=0.05)]))
            leaves = asyncio.ensure_future(expert.complete([ask("logic")]))
            await asyncio.sleep(0.1)
            leaves.cancel()
            return await stays, await waits, await leaves

        [stayed], [late], [left] = asyncio.run(body())
        assert stayed.ok
        assert late.error_code == "timeout"
        assert (left.finish_reason, left.cost_usd) == ("cancelled", 0)


def test_closing_leaves_no_process_and_tells_those_who_wait(tmp_path: Path) -> None:
    with lab(tmp_path, call_s=30) as it:

        async def body() -> Completion:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while it.slot.base is None:
                await asyncio.sleep(0.01)
            group = it.slot.engine.pid
            assert len(processes_of(group)) == 2
            await asyncio.to_thread(it.fleet.close)
            assert not processes_of(group)
            return (await task)[0]

        assert "was closed" in (asyncio.run(body()).error or "")
        with pytest.raises(EngineFailed):
            answers(it.experts, "logic")


def test_an_event_loop_that_ends_early_leaves_a_fleet_that_can_be_closed(tmp_path: Path) -> None:
    """As by Ctrl-C: everything that waits is cancelled, in any order."""
    with lab(tmp_path, call_s=30) as it:

        async def body() -> None:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while not it.fleet._books.running:
                await asyncio.sleep(0.01)
            for waiting in asyncio.all_tasks() - {asyncio.current_task(), task}:
                waiting.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(body())
        group = it.slot.engine.pid
        it.fleet.close()
        assert not processes_of(group)


def test_closing_in_the_middle_of_a_swap_is_no_failure_of_the_swap(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        answers(it.experts, "logic")
        it.order("hang_in_swap")

        async def body() -> Completion:
            task = asyncio.ensure_future(it.experts["units"].complete([ask("units")]))
            while (tmp_path / "faults" / "hang_in_swap").exists():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(it.fleet.close)
            return (await task)[0]

        assert "was closed" in (asyncio.run(body()).error or "")
        assert it.ways == [("restart", "logic", True)]


def test_a_policy_that_raises_fails_its_calls_rather_than_let_them_wait(tmp_path: Path) -> None:
    class Broken(CoServe):
        def decide(self, view: View) -> Iterable[Action]:
            raise KeyError("a mistake")

    with lab(tmp_path, policy=Broken()) as it:
        [c] = answers(it.experts, "logic")["logic"]
        assert "KeyError('a mistake')" in (c.error or "")
