"""Engines as processes, swaps, and everything that can go wrong with them; on scripted engines."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from experts.bundled import FOLDER
from experts.errors import BadModel, ConfigError, EngineFailed
from experts.residency.policies.base import Action, Serve, View
from experts.residency.policies.coserve import CoServe
from experts.residency.policies.first_come import first_come
from experts.values import Completion, Delta
from experts.vllm.engine import Engine, EngineSettings
from experts.vllm.fleet import Fleet
from experts.vllm.job import Job
from experts.vllm.record import Swap, SwapRecord
from experts.vllm.slot import SlotSettings, servable, servable_adapter
from tests.engines import (
    FAMILY,
    PRICES,
    adapter_folder,
    ask,
    kill,
    lab,
    model_folder,
    processes_of,
)

QUESTION = "Who are you?"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experts.vllm.fleet.FIRST_BACK_OFF_S", 0.01)


def answers(experts: dict, *names: str, n: int = 1, **more: object) -> dict[str, list[Completion]]:
    """Ask several experts at once, ``n`` calls each."""

    async def asked() -> list[list[Completion]]:
        async with asyncio.timeout(30):
            work = [experts[name].complete([ask(name, **more)] * n) for name in names]
            return await asyncio.gather(*work)

    return dict(zip(names, asyncio.run(asked()), strict=True))


def until(condition, timeout_s: float = 10.0) -> None:
    """Waits for another process."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_model_is_loaded_once_for_all_that_wait_and_pays_for_it_once(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        said = answers(it.experts, *FAMILY, n=5)
        for name, completions in said.items():
            assert {c.text for c in completions} == {f"I am {name}"}
            for c in completions:
                assert c.cost_usd == pytest.approx(PRICES.cost_usd(c.usage, c.load_s))
                assert c.load_s > 0
        assert [way for way, _, _ in it.ways] == ["restart", "in_place", "in_place", "in_place"]
        took_s = sum(s.seconds for s in it.fleet.record.swaps)
        charged_s = sum(c.load_s for completions in said.values() for c in completions)
        assert took_s <= charged_s < 2 * took_s + 0.5  # checks of folders, and a busy machine
        resident = it.slot.base
        [again] = answers(it.experts, resident)[resident]
        assert again.load_s == 0
        assert len(it.ways) == 4


def test_an_adapter_answers_beside_its_base_without_a_swap(tmp_path: Path) -> None:
    with lab(tmp_path, names=("countries",), adapters={"polite": "countries"}) as it:
        said = answers(it.experts, "countries", "polite")
        assert [c.text for [c] in said.values()] == ["I am countries", "I am polite"]
        assert sorted(it.ways) == [("adapter", "polite", True), ("restart", "countries", True)]
        answers(it.experts, "countries", "polite")
        assert len(it.ways) == 2


@pytest.mark.parametrize(("sees_layers", "way"), [(True, "in_place"), (False, "restart")])
def test_a_base_that_leaves_takes_its_adapters_along(
    tmp_path: Path, sees_layers: bool, way: str
) -> None:
    """vLLM on CPUs forgets the linear layers when it reloads an engine that takes adapters, so
    that is done only where it would be seen."""
    names, adapters = ("countries", "logic"), {"polite": "countries"}
    with lab(tmp_path, names=names, adapters=adapters, sees_layers=sees_layers) as it:
        for name in ("polite", "logic", "polite"):
            [c] = answers(it.experts, name)[name]
            assert c.text == f"I am {name}"
        assert [way for way, _, _ in it.ways] == ["restart", "adapter", way, way, "adapter"]


def test_a_head_that_is_tied_to_the_embeddings_is_not_left_to_a_reload(tmp_path: Path) -> None:
    """vLLM on CPUs went on scoring words with the head of the model before."""
    with lab(tmp_path, names=("countries", "logic"), sees_layers=False) as it:
        for name in ("countries", "logic"):
            answers(it.experts, name)
        assert [way for way, _, _ in it.ways] == ["restart", "restart"]
    own = json.loads((FOLDER / "logic" / "config.json").read_text())
    assert own["tie_word_embeddings"]


@pytest.mark.parametrize("level", [1, 2])
def test_an_engine_sleeps_for_another_family_and_wakes_up(tmp_path: Path, level: int) -> None:
    settings = SlotSettings(sleep_level=level)  # type: ignore[arg-type]
    with lab(tmp_path, names=("countries", "words", "logic"), slot=settings) as it:
        for name in ("countries", "words", "countries", "words"):
            [c] = answers(it.experts, name)[name]
            assert c.text == f"I am {name}"
        assert [w for w, _, _ in it.ways] == ["restart", "restart", "wake", "wake"]
        answers(it.experts, "logic")
        # Level 2 has dropped the weights, so its engine may get any of the family.
        assert it.ways[-1][0] == ("restart" if level == 1 else "wake")


def test_a_call_is_asked_again_when_its_engine_dies(tmp_path: Path) -> None:
    with lab(tmp_path, call_s=0.05) as it:
        answers(it.experts, "logic")
        it.order("crash_in_call")
        said = answers(it.experts, "logic", n=20)["logic"]
        assert [c.text for c in said] == ["I am logic"] * 20
        assert [w for w, _, _ in it.ways] == ["restart", "restart"]


def test_twenty_kills_at_random_moments_lose_nothing_and_answer_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an engine's first process, of one of its others, or of its keeper; while engines start,
    swap and serve."""
    monkeypatch.setattr("experts.vllm.fleet.MAX_BACK_OFF_S", 0.1)
    rng, stages = Random(0), Counter[str]()
    told: Counter[tuple[str, int]] = Counter()
    with lab(tmp_path, n_slots=2, call_s=0.05, concurrency=4) as it:

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


@pytest.mark.parametrize("fault", ["crash_in_swap", "refuse_swap", "stale_swap"])
def test_a_swap_that_fails_goes_on_to_the_next_way_and_is_recorded(
    tmp_path: Path, fault: str
) -> None:
    with lab(tmp_path) as it:
        answers(it.experts, "logic")
        it.order(fault)
        [c] = answers(it.experts, "units")["units"]
        assert c.text == "I am units"
        assert it.ways[1:] == [("in_place", "units", False), ("restart", "units", True)]
        assert it.fleet.record.swaps[1].error


def test_connections_that_an_engine_hangs_up_on_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experts.vllm.engine.KEPT_S", 0.05)
    with lab(tmp_path, names=("logic", "units"), call_s=0.6, kept_s=0.5) as it:
        answers(it.experts, "logic", n=4)
        answers(it.experts, "logic")  # three connections are idle while it lasts
        answers(it.experts, "units")
        assert it.ways == [("restart", "logic", True), ("in_place", "units", True)]


def test_a_swap_that_hangs_is_given_up(tmp_path: Path) -> None:
    with lab(tmp_path, hang_s=0.3) as it:
        it.fleet.record.add(swap("units", 0.001))
        answers(it.experts, "logic")
        it.order("hang_in_swap")
        [c] = answers(it.experts, "units")["units"]
        assert c.text == "I am units"
        assert "hangs" in it.fleet.record.swaps[-2].error


def test_a_start_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        it.order("crash_at_start")
        [c] = answers(it.experts, "logic")["logic"]
        assert c.text == "I am logic"
        assert [ok for _, _, ok in it.ways] == [False, True]
        assert c.load_s > sum(s.seconds for s in it.fleet.record.swaps) * 0.9


def test_a_start_that_hangs_is_given_up_and_those_who_wait_are_told(tmp_path: Path) -> None:
    with lab(tmp_path, start_s=0.3) as it:
        it.order("hang_at_start")
        group: list[int | None] = []

        async def body() -> list[Completion]:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while it.slot.engine.pid is None:
                await asyncio.sleep(0.01)
            group.append(it.slot.engine.pid)
            # Every start hangs.
            while not task.done():
                it.order("hang_at_start")
                await asyncio.sleep(0.01)
            return await task

        [c] = asyncio.run(body())
        assert "was not healthy within 0.3 s" in (c.error or "")
        assert not processes_of(group[0])


def test_an_engine_that_cannot_have_the_memory_says_so_with_its_last_words(tmp_path: Path) -> None:
    with lab(tmp_path) as it:

        async def body() -> list[Completion]:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while not task.done():
                it.order("crash_at_start")
                await asyncio.sleep(0.005)
            return await task

        [c] = asyncio.run(body())
        assert "there is not enough memory" in (c.error or "")
        assert "CUDA out of memory" in (c.error or "")


def test_a_port_in_use_is_an_error_that_says_which(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with lab(tmp_path, port=port) as it:
            [c] = answers(it.experts, "logic")["logic"]
            assert f"port {port}: it is in use" in (c.error or "")


def test_a_folder_that_was_broken_since_the_start_costs_no_engine(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        answers(it.experts, "logic")
        weights = tmp_path / "units" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        [c] = answers(it.experts, "units")["units"]
        assert "is cut off" in (c.error or "")
        [c] = answers(it.experts, "logic")["logic"]
        assert c.text == "I am logic"
        assert it.ways == [("restart", "logic", True)]


def test_a_folder_that_is_broken_holds_nobody_up_and_costs_nothing(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        weights = tmp_path / "units" / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-100])
        for _ in range(8):  # with a back-off that doubles, a minute
            answers(it.experts, "logic")
            [c] = answers(it.experts, "units")["units"]
            assert c.error
        weights.write_bytes(whole)
        [c] = answers(it.experts, "units")["units"]
        assert c.text == "I am units"
        assert c.load_s == pytest.approx(it.fleet.record.swaps[-1].seconds, abs=1.0)


def test_other_weights_are_not_served_under_the_name(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        answers(it.experts, "logic")
        shutil.copy(tmp_path / "logic" / "model.safetensors", tmp_path / "units")
        [c] = answers(it.experts, "units")["units"]
        assert "holds other weights than when Conclave started" in (c.error or "")


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
            while not it.fleet._running:
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


def test_what_goes_wrong_on_our_side_of_a_load_is_told(tmp_path: Path) -> None:
    """As on a disk that is full."""
    with lab(tmp_path) as it:
        (tmp_path / "logs").touch()  # where a folder should be
        [c] = answers(it.experts, "logic")["logic"]
        assert "logs" in (c.error or "")
        (tmp_path / "logs").unlink()
        [c] = answers(it.experts, "logic")["logic"]
        assert (c.error, c.text) == (None, "I am logic")


def test_a_log_that_cannot_be_written_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    settings = EngineSettings(log_dir=tmp_path)
    engine = Engine("it", settings)
    engine.log_path.symlink_to(tmp_path / "nowhere" / "it.log")
    with pytest.raises(EngineFailed, match=r"No such file or directory: .*it\.log"):
        asyncio.run(engine.start(tmp_path))


def test_a_policy_that_raises_fails_its_calls_rather_than_let_them_wait(tmp_path: Path) -> None:
    class Broken(CoServe):
        def decide(self, view: View) -> Iterable[Action]:
            raise KeyError("a mistake")

    with lab(tmp_path, policy=Broken()) as it:
        [c] = answers(it.experts, "logic")["logic"]
        assert "KeyError('a mistake')" in (c.error or "")


def test_kill_9_of_our_own_process_leaves_no_engine(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.engines import lab\n"
        "with lab(Path(sys.argv[1]), names=('logic',), is_mute=True) as it:\n"
        "    it.fleet.load('logic', 'slot0')\n"
        "    print(it.slot.engine.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        group = int(process.stdout.readline())
        assert len(processes_of(group)) == 2
        process.kill()
    until(lambda: not processes_of(group))


def test_an_engine_is_ended_also_when_who_ends_it_is_cancelled(tmp_path: Path) -> None:
    with lab(tmp_path, is_mute=True) as it:
        it.fleet.load("logic", "slot0")
        engine, group = it.slot.engine, it.slot.engine.pid

        async def body() -> None:
            task = asyncio.create_task(engine.stop(at_once=True))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await engine.stop()

        asyncio.run(it.fleet.outside(body()))
        assert not processes_of(group)


def test_a_program_that_is_not_there_is_the_configurations_fault(tmp_path: Path) -> None:
    settings = EngineSettings(python="/no/such/python", log_dir=tmp_path)
    with pytest.raises(ConfigError, match="there is no program '/no/such/python'"):
        asyncio.run(Engine("it", settings).start(tmp_path))


# Folders


def test_folders_are_checked_by_their_headers(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="There is no folder"):
        servable("it", tmp_path / "nowhere")
    with pytest.raises(BadModel, match=r"no config\.json"):
        servable("it", tmp_path)
    folder = model_folder(tmp_path, "logic", {})
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(BadModel, match="broken one"):
        servable("it", folder)
    weights.write_bytes(whole + b"more")
    with pytest.raises(BadModel, match="cut off or overwritten"):
        servable("it", folder)
    weights.unlink()
    with pytest.raises(BadModel, match=r"no \*\.safetensors"):
        servable("it", folder)


def test_an_adapter_must_be_of_its_base_and_of_a_rank_that_fits(tmp_path: Path) -> None:
    base = servable("base", model_folder(tmp_path, "logic", {}))
    fits = adapter_folder(tmp_path, "fits", base="logic", answers={})
    assert servable_adapter("it", fits, base, max_rank=16).base == "base"
    with pytest.raises(BadModel, match="takes up to 2"):
        servable_adapter("it", fits, base, max_rank=2)
    wrong = adapter_folder(tmp_path, "wrong", base="logic", width=64, answers={})
    with pytest.raises(BadModel, match=r"64 where .* has 96"):
        servable_adapter("it", wrong, base, max_rank=16)
    with pytest.raises(BadModel, match="no adapter_config"):
        servable_adapter("it", base.weights.folder, base, max_rank=16)


def test_families_are_architectures(tmp_path: Path) -> None:
    made = {n: servable(n, model_folder(tmp_path, n, {})) for n in ("logic", "units", "words")}
    assert made["logic"].family == made["units"].family != made["words"].family


@pytest.mark.parametrize(
    ("key", "is_same"), [("eos_token_id", True), ("_name_or_path", True), ("rope_theta", False)]
)
def test_a_sibling_that_ends_with_another_token_is_of_the_family(
    tmp_path: Path, key: str, is_same: bool
) -> None:
    base, sibling = (model_folder(tmp_path, n, {}) for n in ("logic", "units"))
    config = json.loads((sibling / "config.json").read_text())
    (sibling / "config.json").write_text(json.dumps(config | {key: 7}))
    assert (servable("a", base).family == servable("b", sibling).family) is is_same


# The record


def swap(model: str, seconds: float, *, ok: bool = True) -> Swap:
    return Swap(
        way="in_place", slot="s", model=model, before=None, seconds=seconds, ok=ok, n_bytes=10**9
    )


def test_expected_seconds_come_from_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "swaps.jsonl"
    record = SwapRecord(path)
    guessed = record.expected_s("in_place", "a", 10**9, "disk")
    assert guessed == pytest.approx(1.2)
    for model, seconds, ok in [("a", 3.0, True), ("a", 900.0, False), ("b", 5.0, True)]:
        record.add(swap(model, seconds, ok=ok))
    with path.open("a") as file:
        file.write('{"way": "in_pl')  # we were killed in the middle of a line
    for known in (record, SwapRecord(path)):
        assert known.expected_s("in_place", "a", 10**9, "disk") == 3.0
        assert known.expected_s("in_place", "c", 10**9, "disk") == 4.0
