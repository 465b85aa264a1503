"""The thread that fleets live in, from other threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from experts.errors import EngineFailed
from experts.loop_thread import LoopThread

N_THREADS = 8


class Thread:
    """One, and how often it was shut."""

    def __init__(self) -> None:
        self.n_shut = 0
        self.thread = LoopThread("it", self.shut)

    async def shut(self) -> None:
        self.n_shut += 1

    @staticmethod
    async def where() -> tuple[int, int]:
        return threading.get_ident(), id(asyncio.get_running_loop())


def test_whoever_asks_it_is_one_loop_in_one_thread() -> None:
    it = Thread()
    together = threading.Barrier(N_THREADS)

    def ask(_: int) -> tuple[int, int]:
        together.wait()
        return it.thread.run(it.where()).result()

    with ThreadPoolExecutor(N_THREADS) as pool:
        [(thread, _)] = set(pool.map(ask, range(N_THREADS)))
    assert thread != threading.get_ident()
    it.thread.close()


def test_it_is_closed_once_by_however_many() -> None:
    it = Thread()
    it.thread.run(it.where()).result()
    together = threading.Barrier(N_THREADS)

    def close(_: int) -> None:
        together.wait()
        it.thread.close()

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(close, range(N_THREADS)))
    assert it.n_shut == 1


def test_closed_it_takes_no_more_and_says_so() -> None:
    it = Thread()
    it.thread.close()  # it was never started
    assert it.n_shut == 0
    with pytest.raises(EngineFailed, match="it has been closed"):
        it.thread.call(lambda: None)
    with pytest.raises(EngineFailed, match="it has been closed"):
        it.thread.run(it.where())
    it.thread.call_if_running(pytest.fail)


def test_what_it_has_not_done_when_it_is_closed_fails_and_keeps_nobody_waiting() -> None:
    it = Thread()
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    under_way, coming = it.thread.run(never()), it.thread.run(never())
    begun.wait()
    it.thread.close()
    for work in (under_way, coming):
        with pytest.raises(EngineFailed, match="it has been closed"):
            work.result(timeout=10)


def test_what_is_given_up_by_whoever_asked_is_cancelled() -> None:
    it = Thread()
    ended = threading.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    work = it.thread.run(never())
    it.thread.run(it.where()).result()
    assert work.cancel()
    assert ended.wait(10)
    it.thread.close()
