"""Swaps and starts that fail, hang, or find the folder broken; who waits is told, nobody else."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from experts.residency.policies.first_come import first_come
from experts.values import Completion
from tests.engines import ask, lab, processes_of
from tests.experts.vllm.fleets import answers, swap


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


def test_what_goes_wrong_on_our_side_of_a_load_is_told(tmp_path: Path) -> None:
    """As on a disk that is full."""
    with lab(tmp_path) as it:
        (tmp_path / "logs").touch()  # where a folder should be
        [c] = answers(it.experts, "logic")["logic"]
        assert "logs" in (c.error or "")
        (tmp_path / "logs").unlink()
        [c] = answers(it.experts, "logic")["logic"]
        assert (c.error, c.text) == (None, "I am logic")
