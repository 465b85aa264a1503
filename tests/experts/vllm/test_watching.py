"""The watch over engines, and how long the fleet is patient with what fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from experts.errors import EngineFailed
from experts.vllm.patience import LoadFailures, Patience
from experts.vllm.watching import Watches


@dataclass
class Watched:
    """What a watch wants of an engine."""

    n_tokens: list[float]
    """At each look; the last for ever. Empty: it cannot be asked."""
    hang_s: float = 0.04
    death: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settings(self) -> SimpleNamespace:
        return SimpleNamespace(hang_s=self.hang_s)

    @property
    def control(self) -> Watched:
        return self

    async def ended(self) -> EngineFailed:
        await self.death.wait()
        return EngineFailed("it died")

    async def tokens_done(self) -> float:
        if not self.n_tokens:
            raise EngineFailed("no answer")
        return self.n_tokens.pop(0) if len(self.n_tokens) > 1 else self.n_tokens[0]

    def failure(self, what: str) -> EngineFailed:
        return EngineFailed(what)


async def watched(engine: Watched, *, is_busy: bool = True) -> tuple[Watches, list[str]]:
    """Until it is lost."""
    told: list[str] = []
    lost = asyncio.Event()

    def tell(slot: str, why: str) -> None:
        assert slot not in watches.slots  # so that another watch may begin
        told.append(why)
        lost.set()

    watches = Watches(lambda slot: is_busy, tell)
    watches.begin("slot0", engine)  # type: ignore[arg-type]
    watches.begin("slot0", engine)  # type: ignore[arg-type]
    assert set(watches.slots) == {"slot0"}
    if not is_busy:
        asyncio.get_running_loop().call_later(4 * engine.hang_s, engine.death.set)
    async with asyncio.timeout(10):
        await lost.wait()
    return watches, told


@pytest.mark.parametrize(
    ("n_tokens", "is_busy", "why"),
    [
        ([7.0], True, "made no token in 0.04 s"),
        ([], True, "made no token in 0.04 s"),
        ([7.0], False, "it died"),  # who has nothing to do need not make tokens
    ],
)
def test_a_watch_tells_once_of_its_engines_loss_and_is_over(
    n_tokens: list[float], is_busy: bool, why: str
) -> None:
    async def body() -> None:
        watches, told = await watched(Watched(n_tokens), is_busy=is_busy)
        assert told == [why]
        assert not watches.slots

    asyncio.run(body())


def test_an_engine_that_cannot_be_watched_is_lost() -> None:
    class Strange(Watched):
        async def tokens_done(self) -> float:
            raise ValueError("could not convert string to float")

    async def body() -> None:
        watches, [why] = await watched(Strange([]))
        assert "cannot be watched: ValueError" in why
        assert not watches.slots

    asyncio.run(body())


def test_a_watch_that_is_told_to_end_tells_nothing_and_leaves_the_next_alone() -> None:
    async def body() -> None:
        told: list[str] = []
        watches = Watches(lambda slot: True, lambda slot, why: told.append(why))
        first, second = Watched([1.0]), Watched([1.0], hang_s=60)
        watches.begin("slot0", first)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        first.death.set()
        watches.end("slot0")
        watches.begin("slot0", second)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert (told, set(watches.slots)) == ([], {"slot0"})
        watches.end_all()
        assert not watches.slots

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "n"),
    [
        (EngineFailed("it hung", is_hung=True), 2),
        (EngineFailed("it failed"), 4),
        (EngineFailed("somebody killed it", is_killed=True), 8),
    ],
)
def test_a_load_that_hangs_is_given_up_sooner_than_one_that_somebody_killed(
    error: EngineFailed, n: int
) -> None:
    failures = LoadFailures(Patience(first_back_off_s=0.25, max_back_off_s=30))
    assert [failures.count("it", error) for _ in range(n)] == [False] * (n - 1) + [True]
    assert failures.back_off_s("it") == 0.25 * 2**4
    assert failures.back_off_s("other") == 0.25
    failures.forget("it")
    assert failures.back_off_s("it") == 0.25
    assert not failures.count("it", error)


def test_a_model_that_fails_for_days_is_tried_for_ever() -> None:
    assert Patience().back_off_s(100_000) == 30.0
