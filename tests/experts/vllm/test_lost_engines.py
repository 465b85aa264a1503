"""Engines that die, hang or fail a call: the calls are asked again, and answered once."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from experts.values import Completion, Delta
from experts.vllm.patience import Patience
from tests.engines import FAMILY, ask, kill, lab, processes_of
from tests.experts.vllm.fleets import answers, until


def test_a_call_is_asked_again_when_its_engine_dies(tmp_path: Path) -> None:
    with lab(tmp_path, call_s=0.05) as it:
        answers(it.experts, "logic")
        it.order("crash_in_call")
        said = answers(it.experts, "logic", n=20)["logic"]
        assert [c.text for c in said] == ["I am logic"] * 20
        assert [w for w, _, _ in it.ways] == ["restart", "restart"]


def test_twenty_kills_at_random_moments_lose_nothing_and_answer_nothing_twice(
    tmp_path: Path,
) -> None:
    """Of an engine's first process, of one of its others, or of its keeper; while engines start,
    swap and serve."""
    patience = Patience(first_back_off_s=0.01, max_back_off_s=0.1)
    rng, stages = Random(0), Counter[str]()
    told: Counter[tuple[str, int]] = Counter()
    with lab(tmp_path, n_slots=2, call_s=0.05, concurrency=4, patience=patience) as it:

        async def body() -> dict[str, list[Completion]]:
            done: dict[str, list[Completion]] = {name: [] for name in FAMILY}

            def tell(name: str, i: int, completion: Completion) -> None:
                told[name, i] += 1
                done[name].append(completion)

            work = [
                it.experts[name].complete_each([ask(name)] * 60, partial(tell, name))
                for name in FAMILY
            ]
            task = asyncio.ensure_future(asyncio.gather(*work))
            n_in_a_row = n_told = 0
            while stages.total() < 20 and not task.done():
                await asyncio.sleep(rng.uniform(0, 0.15))
                # Four starts in a row that fail are a model that cannot be loaded.
                while told.total() == n_told and n_in_a_row == 2 and not task.done():
                    await asyncio.sleep(0.01)
                n_in_a_row, n_told = (n_in_a_row + 1 if told.total() == n_told else 1), told.total()
                slot = rng.choice(it.slots)
                if slot.engine.pid and (victims := victims_of(slot.engine.pid)):
                    with suppress(ProcessLookupError):  # it has just ended
                        kill(rng.choice(victims))
                    stages["serving" if slot.base else "loading"] += 1
            async with asyncio.timeout(60):
                await task
            return done

        for name, completions in asyncio.run(body()).items():
            assert [c.error or c.text for c in completions] == [f"I am {name}"] * 60
        groups = [slot.engine.pid for slot in it.slots]
    assert stages.total() == 20
    assert min(stages["serving"], stages["loading"]) > 2
    assert set(told.values()) == {1}
    assert not any(processes_of(group) for group in groups)


def victims_of(group: int) -> list[int]:
    """An engine's processes, and its keeper."""
    stat = Path(f"/proc/{group}/stat")
    keeper = [int(stat.read_text().rpartition(")")[2].split()[1])] if stat.exists() else []
    return processes_of(group) + [pid for pid in keeper if pid > 1 and pid != os.getpid()]


def test_an_idle_engine_that_dies_is_noticed_before_it_is_needed(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        answers(it.experts, "logic")
        kill(it.slot.engine.pid)
        until(lambda: it.slot.base is None)
        [c] = answers(it.experts, "logic")["logic"]
        assert c.ok


def test_a_call_that_kills_engines_fails_alone(tmp_path: Path) -> None:
    with lab(tmp_path, names=("logic",), answers={"Die": ""}) as it:
        calls = [ask("logic"), ask("logic", "Die"), ask("logic")]
        first, poison, last = asyncio.run(it.experts["logic"].complete(calls))
        assert [first.text, last.text] == ["I am logic"] * 2
        assert poison.error_code == "failed"
        assert "attempts" in (poison.error or "")


def test_a_call_that_fails_for_once_is_asked_again(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        it.order("fail_call")
        [c] = answers(it.experts, "logic")["logic"]
        assert c.ok
        it.order("refuse_call")
        [c] = answers(it.experts, "logic")["logic"]
        assert "I do not like it" in (c.error or "")


def test_a_hung_engine_is_killed_and_its_call_asked_again(tmp_path: Path) -> None:
    with lab(tmp_path, hang_s=0.4) as it:
        answers(it.experts, "logic")
        group = it.slot.engine.pid
        it.order("hang_in_call")
        [c] = answers(it.experts, "logic")["logic"]
        assert c.text == "I am logic"
        assert not processes_of(group)


@pytest.mark.parametrize("streams", [False, True])
def test_a_model_that_computes_no_numbers_is_asked_once_and_told_of(
    tmp_path: Path, streams: bool
) -> None:
    """A vLLM fails to write NaN into an answer, and writes null into a stream."""
    with lab(tmp_path, names=("logic",)) as it:
        answers(it.experts, "logic")
        it.note()
        it.order("nan_in_call")
        stop = ("never",) if streams else ()
        [c] = answers(it.experts, "logic", sampling={"stop": stop})["logic"]
        assert "log-probabilities that are no numbers" in (c.error or "")
        assert len(it.asked) == 1
        assert len(it.ways) == 1


def test_a_stream_that_breaks_keeps_its_words_and_ends_in_an_error(tmp_path: Path) -> None:
    with lab(tmp_path) as it:

        async def body() -> list[Delta | Completion]:
            return [piece async for piece in it.experts["logic"].stream(ask("logic"))]

        answers(it.experts, "logic")
        it.order("crash_in_stream")
        *deltas, last = asyncio.run(body())
        assert isinstance(last, Completion)
        assert last.error_code == "failed"
        assert "".join(d.text for d in deltas) == last.text == "I"  # type: ignore[union-attr]
        assert last.usage.output_tokens == 1


def test_a_slot_that_everybody_says_is_lost_is_lost_once(tmp_path: Path) -> None:
    """By the watch over it, and by each of the calls that failed."""
    with lab(tmp_path, names=("logic",), call_s=30, patience=Patience(first_back_off_s=60)) as it:

        async def body() -> list[Completion]:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")] * 8))
            while len(it.fleet._books.running) < 8:
                await asyncio.sleep(0.01)

            async def tell_twice() -> None:
                for why in ("it died", "it does not answer"):
                    it.fleet._slot_lost("slot0", why)

            await it.fleet.outside(tell_twice())
            while it.slot.engine.n_starts < 2:  # lost twice in a row, it would wait a minute
                await asyncio.sleep(0.01)
            await asyncio.to_thread(it.fleet.close)
            return await task

        async def in_time() -> list[Completion]:
            async with asyncio.timeout(20):
                return await body()

        assert {c.error for c in asyncio.run(in_time())} == {"the fleet of vLLM engines was closed"}


def test_an_attempt_that_is_lost_ends_no_other_attempt(tmp_path: Path) -> None:
    """What its task does at its end would be done to the row of whoever serves the call by then."""
    with lab(tmp_path, names=("logic",), call_s=30) as it:

        async def lose() -> list[bool]:
            jobs, tasks = (
                list(it.fleet._books.jobs.values()),
                list(it.fleet._books.running.values()),
            )
            it.fleet._slot_lost("slot0", "it died")
            await asyncio.wait(tasks)
            return [job.row.done for job in jobs]

        async def body() -> list[bool]:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")] * 4))
            while len(it.fleet._books.running) < 4:
                await asyncio.sleep(0.01)
            ended = await it.fleet.outside(lose())
            await asyncio.to_thread(it.fleet.close)
            await task
            return ended

        async def in_time() -> list[bool]:
            async with asyncio.timeout(20):
                return await body()

        assert asyncio.run(in_time()) == [False] * 4
