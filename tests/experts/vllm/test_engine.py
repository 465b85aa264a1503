"""Engines as processes: started, told of, ended, whatever becomes of who started them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experts.errors import ConfigError, EngineFailed
from experts.vllm.engine import Engine, EngineSettings
from tests.engines import lab, processes_of
from tests.experts.vllm.fleets import answers, until


def test_a_log_that_cannot_be_written_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    settings = EngineSettings(log_dir=tmp_path)
    engine = Engine("it", settings)
    engine.log_path.symlink_to(tmp_path / "nowhere" / "it.log")
    with pytest.raises(EngineFailed, match=r"No such file or directory: .*it\.log"):
        asyncio.run(engine.start(tmp_path))


def test_kill_9_of_our_own_process_leaves_no_engine(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.engines import lab\n"
        "with lab(Path(sys.argv[1]), names=('logic',), is_mute=True) as it:\n"
        "    it.fleet.load('logic', 'slot0')\n"
        "    print(it.slot.engine.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
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


def test_an_engines_log_stays_small_and_its_end_is_kept(tmp_path: Path) -> None:
    program = ("-S", "-c", "while True: print('x' * 99)")
    settings = EngineSettings(
        python=sys.executable, program=program, log_dir=tmp_path, start_s=60, max_log_bytes=10_000
    )
    engine = Engine("it", settings)

    async def body() -> None:
        starting = asyncio.ensure_future(engine.start(tmp_path))
        previous = tmp_path / "it.previous.log"
        async with asyncio.timeout(20):
            while not (previous.exists() and previous.stat().st_size > 10_000):
                await asyncio.sleep(0.02)
            os.killpg(engine.pid or 0, 19)  # so that it can be looked at
            while engine.log_path.stat().st_size > 10_000:
                await asyncio.sleep(0.02)
        await engine.stop(at_once=True)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    asyncio.run(body())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["it.log", "it.previous.log"]


def test_a_key_in_our_environment_does_not_cut_us_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with lab(tmp_path, names=("logic",)) as it:
        [c] = answers(it.experts, "logic")["logic"]
        assert c.text == "I am logic"
