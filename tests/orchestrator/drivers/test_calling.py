"""Experts that fail, talk nonsense, are late or are cancelled: a failed completion, and a bill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Limits, ToolCall, Usage
from orchestrator.drivers.calling import call_experts
from orchestrator.drivers.live import run_live
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.ledger import Ledger
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from tests import pools
from tests.orchestrator.drivers.cascades import iter_only, pool, record_nothing, runs


def test_a_failing_expert_is_one_failed_completion() -> None:
    def broken(call: Call) -> str:
        raise ConnectionError("no route to host")

    experts = {**pool(1), "small": FakeExpert("small", broken)}
    answer = asyncio.run(run_live(runs(1)[0], experts, record_nothing))
    assert answer.succeeded
    assert "small failed: no route to host" in answer.notes
    assert [c.call.arm.expert for c in answer.completions] == ["small", "medium", "large"]


def test_an_expert_that_raises_loses_nothing_of_the_others() -> None:
    class Bug(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            raise KeyError("bug")

    experts = {**pool(3), "small": Bug("small", {})}
    answers = asyncio.run(run_wave(runs(3), experts, record_nothing))
    assert [a.succeeded for a in answers] == [True] * 3
    assert all("small failed: KeyError" in " ".join(a.notes) for a in answers)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"usage": Usage(input_tokens=10**30)},
        {"cost_usd": float("nan")},
        {"text": "half a \ud800"},
        {"tool_calls": (ToolCall(id="c", name="f", arguments="\ud800"),)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_no_ledger_can_hold_takes_nobody_with_it(nonsense: dict[str, object]) -> None:
    class Broken(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            first, *rest = await super().complete(calls)
            return [replace(first, **nonsense), *rest]

    experts = {"small": Broken("small", str), "large": FakeExpert("large", str)}
    calls = [ask(pools.query("Q", query_id=q), Arm(n)) for n in experts for q in "ab"]
    with Ledger(":memory:") as ledger:
        keep = lambda made: ledger.add_calls(made, [None] * len(made))  # noqa: E731
        made = asyncio.run(call_experts(calls, experts, keep))
        assert len(ledger.rows("SELECT * FROM calls")) == 4
        spent = ledger.rows("SELECT SUM(cost_usd) AS usd FROM calls")[0]["usd"]
    assert [c.ok for c in made] == [False, True, True, True]
    # What is no text was paid all the same; what is no number cannot be put on a bill.
    is_number = nonsense.keys() & {"usage", "cost_usd"}
    assert (made[0].cost_usd == 0) == bool(is_number)
    assert spent == pytest.approx(sum(c.cost_usd for c in made))


def test_an_expert_that_forgets_its_timeout_is_late_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forgets(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            return await super().complete([replace(c, timeout_s=None) for c in calls])

    monkeypatch.setattr("orchestrator.drivers.calling._GRACE_S", 0.01)
    paid: list[Completion] = []
    query = replace(pools.query("?", query_id="0"), limits=Limits(timeout_s=0.01))
    experts = {"small": Forgets("small", {}, latency_s=600)}
    answer = asyncio.run(run_live(Run(iter_only(query), Limits()), experts, paid.extend))
    assert [c.error_code for c in answer.completions] == ["timeout"]
    assert paid[0].cost_usd > 0


def test_a_query_goes_on_after_an_expert_that_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it is not left cancelled."""

    class Late(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)
            return []

    monkeypatch.setattr("orchestrator.drivers.calling._GRACE_S", 0.0)

    async def body() -> None:
        call = replace(ask(pools.query("?"), Arm("small")), timeout_s=0.0)
        [made] = await call_experts([call], {"small": Late("small", str)}, lambda made: None)
        assert made.error_code == "timeout"
        assert "no answer within" in str(made.error)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(body())


@pytest.mark.parametrize("others", [(), ("large",)])
def test_a_query_that_is_cancelled_has_its_bill_and_is_cancelled(others: tuple[str, ...]) -> None:
    """Though the experts return as if nothing had happened."""
    experts = {n: FakeExpert(n, {}, latency_s=600) for n in ("small", *others)}
    paid: list[Completion] = []

    async def body() -> None:
        calls = [ask(pools.query("three words here"), Arm(n)) for n in experts]
        asking = asyncio.create_task(call_experts(calls, experts, paid.extend))
        while not all(e.batches for e in experts.values()):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()

    asyncio.run(body())
    assert [c.finish_reason for c in paid] == ["cancelled"] * len(experts)


def test_an_expert_that_is_cancelled_by_its_own_is_a_failed_one() -> None:
    class Cut(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            raise asyncio.CancelledError("its connection was closed")

    call = ask(pools.query("?"), Arm("small"))
    [made] = asyncio.run(call_experts([call], {"small": Cut("small", str)}, lambda made: None))
    assert "its connection was closed" in str(made.error)


def test_a_strategy_that_never_ends_can_be_stopped_though_nobody_waits() -> None:
    def forever() -> Steps:
        while True:
            yield [ask(pools.query("?"), Arm("small"))]

    class AtOnce(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            return [Completion(call=call) for call in calls]

    async def body() -> None:
        run = Run(forever(), Limits())
        working = asyncio.create_task(
            run_live(run, {"small": AtOnce("small", str)}, lambda c: None)
        )
        while len(run.made) < 3:
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert working.cancelled()

    asyncio.run(body())
