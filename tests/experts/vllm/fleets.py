"""What tests of fleets do with one, and wait for."""

from __future__ import annotations

import asyncio
import time

from experts.values import Completion
from experts.vllm.record import Swap
from tests.engines import ask


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


def swap(model: str, seconds: float, *, ok: bool = True) -> Swap:
    return Swap(
        way="in_place", slot="s", model=model, before=None, seconds=seconds, ok=ok, n_bytes=10**9
    )
