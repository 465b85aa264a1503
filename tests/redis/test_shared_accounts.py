"""Several servers count together on a real Redis, and hold budgets when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from redis.asyncio import Redis

from orchestrator.keys.accounts import Amount, Refusal
from orchestrator.keys.key import Allowance, VirtualKey, new_key
from orchestrator.keys.shared import SharedAccounts
from tests.redis.servers import RedisServer

A_CENT = Amount(0.01, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


def key(**allowed: object) -> VirtualKey:
    return new_key("somebody", now=0.0, allowance=Allowance(period="total", **allowed))[0]


class Servers:
    """Replicas by name; what each has spent, its own ledger would know."""

    def __init__(self, url: str, lease_s: float) -> None:
        self._url, self._lease_s = url, lease_s
        self.spent_usd: dict[str, float] = {}
        self.of: dict[str, SharedAccounts] = {}
        self._clients: list[Redis] = []

    def start(self, name: str) -> SharedAccounts:
        client = Redis.from_url(self._url, socket_timeout=1, socket_connect_timeout=1)
        self._clients.append(client)
        self.spent_usd.setdefault(name, 0.0)
        self.of[name] = SharedAccounts(
            client,
            lambda key_id, since: self.spent_usd[name],
            replica=name,
            lease_s=self._lease_s,
        )
        return self.of[name]

    def pay(self, name: str, paying: VirtualKey, reserved: Amount, used: Amount) -> None:
        self.spent_usd[name] += used.usd
        self.of[name].settle(paying, reserved, used)

    @property
    def all_spent_usd(self) -> float:
        return sum(self.spent_usd.values())

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def servers(
    server: RedisServer, *names: str, lease_s: float = 60.0
) -> AsyncGenerator[Servers]:
    some = Servers(server.url, lease_s)
    for name in names:
        some.start(name)
    try:
        yield some
    finally:
        await some.close()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Asked again until it is; a server that never comes to it hangs the test, and says where."""
    async with asyncio.timeout(30):
        while not await is_so():
            await asyncio.sleep(0.01)


def test_three_servers_hold_one_budget(server: RedisServer) -> None:
    """Three hundred requests at once, money for a hundred."""
    paying = key(budget_usd=1.0)

    async def one(some: Servers, name: str) -> Refusal | None:
        refusal = await some.of[name].reserve(paying, A_CENT)
        if refusal is None:
            await asyncio.sleep(0)
            some.pay(name, paying, A_CENT, A_CENT)
        return refusal

    async def go() -> tuple[list[Refusal | None], float]:
        async with servers(server, "a", "b", "c") as some:
            asked = [one(some, "abc"[i % 3]) for i in range(300)]
            return await asyncio.gather(*asked), some.all_spent_usd

    refusals, spent_usd = asyncio.run(go())
    assert spent_usd == pytest.approx(1.0)
    assert refusals.count(None) == 100
    assert {r.code for r in refusals if r} == {"insufficient_quota"}


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_in_any_order_no_budget_is_passed(server: RedisServer, seed: int) -> None:
    """Calls of random sizes, settled late or never, on servers that are started anew at times."""
    rng, paying = Random(seed), key(budget_usd=1.0)

    async def go() -> None:
        async with servers(server, "a", "b", "c") as some:
            open_: list[tuple[str, SharedAccounts, Amount]] = []

            async def step() -> None:
                name, most = rng.choice("abc"), Amount(rng.uniform(0, 0.2), 0)
                accounts = some.of[name]
                if await accounts.reserve(paying, most) is None:
                    open_.append((name, accounts, most))

            for _ in range(40):
                await asyncio.gather(*(step() for _ in range(rng.randint(1, 6))))
                rng.shuffle(open_)
                for _ in range(rng.randint(0, len(open_))):
                    name, accounts, most = open_.pop()
                    if accounts is some.of[name]:
                        some.pay(name, paying, most, Amount(most.usd * rng.random(), 0))
                if rng.random() < 0.1:
                    some.start(rng.choice("abc"))
                assert some.all_spent_usd <= 1.0 + 1e-6

    asyncio.run(go())


def test_requests_at_a_time_are_of_all_servers(server: RedisServer) -> None:
    paying = key(max_concurrent=3)

    async def go() -> None:
        async with servers(server, "a", "b") as some:
            a, b = some.of["a"], some.of["b"]
            let_in = [await accounts.admit(paying, spends=True) for accounts in (a, b, a, b)]
            assert [r is None for r in let_in] == [True, True, True, False]
            async with a.running():
                a.leave(paying, 0.1)

                async def is_let_in() -> bool:
                    return await b.admit(paying, spends=True) is None

                await until(is_let_in)

    asyncio.run(go())


def test_a_rate_is_of_all_servers(server: RedisServer) -> None:
    paying = key(requests_per_min=5)

    async def go() -> list[Refusal | None]:
        async with servers(server, "a", "b") as some:
            return [await some.of["ab"[i % 2]].admit(paying, spends=True) for i in range(6)]

    *let_in, refused = asyncio.run(go())
    assert let_in == [None] * 5
    assert refused
    assert refused.retry_after_s == pytest.approx(12, abs=2)


def test_tokens_that_were_not_used_come_back_to_all(server: RedisServer) -> None:
    paying = key(tokens_per_min=100)

    async def go() -> None:
        async with servers(server, "a", "b") as some:
            a, b = some.of["a"], some.of["b"]
            assert await a.reserve(paying, Amount(0, 100)) is None
            assert await b.reserve(paying, Amount(0, 90))
            async with a.running():
                a.settle(paying, Amount(0, 100), Amount(0, 10))

                async def fits() -> bool:
                    return await b.reserve(paying, Amount(0, 85)) is None

                await until(fits)

    asyncio.run(go())


def test_a_server_that_is_started_again_counts_once(server: RedisServer) -> None:
    paying = key(budget_usd=1.0)

    async def go() -> None:
        async with servers(server, "a", "b") as some:
            assert await some.of["a"].reserve(paying, Amount(0.5, 0)) is None
            some.pay("a", paying, Amount(0.5, 0), Amount(0.4, 0))
            again = some.start("a")
            assert await again.reserve(paying, Amount(0.1, 0)) is None
            assert await some.of["b"].reserve(paying, Amount(0.5, 0)) is None
            assert await some.of["b"].reserve(paying, Amount(0.01, 0))

    asyncio.run(go())


def test_what_a_dead_server_had_set_aside_is_free_after_its_lease(server: RedisServer) -> None:
    paying = key(budget_usd=1.0)

    async def go() -> None:
        async with servers(server, "a", "b", lease_s=0.3) as some:
            assert await some.of["a"].reserve(paying, Amount(0.9, 0)) is None
            assert await some.of["b"].reserve(paying, Amount(0.5, 0))

            async def fits() -> bool:
                return await some.of["b"].reserve(paying, Amount(0.5, 0)) is None

            await until(fits)

    asyncio.run(go())


def test_a_server_that_works_for_longer_than_a_lease_keeps_it(server: RedisServer) -> None:
    paying = key(budget_usd=1.0)

    async def go() -> None:
        async with servers(server, "a", "b", lease_s=0.3) as some, some.of["a"].running():
            assert await some.of["a"].reserve(paying, Amount(0.9, 0)) is None
            for _ in range(20):
                await asyncio.sleep(0.05)
                assert await some.of["b"].reserve(paying, Amount(0.5, 0))

    asyncio.run(go())


def test_budgets_hold_while_redis_is_away_and_it_may_come_back_empty() -> None:
    """Of one dollar 40 cents are spent when it dies. Two servers go on, each with half of the
    rest; when it is back, with nothing in it, they know of each other again."""
    server = RedisServer()
    paying, unheard = key(budget_usd=1.0), key(budget_usd=1.0)

    async def spend(some: Servers, name: str, n: int) -> int:
        n_paid = 0
        for _ in range(n):
            if await some.of[name].reserve(paying, A_CENT) is None:
                some.pay(name, paying, A_CENT, A_CENT)
                n_paid += 1
        return n_paid

    async def go() -> None:
        async with servers(server, "a", "b") as some:
            a, b = some.of["a"], some.of["b"]
            async with a.running(), b.running():
                assert await spend(some, "a", 20) == await spend(some, "b", 20) == 20
                assert await spend(some, "a", 1) == 1  # hears of what b has spent
                server.kill()
                refused = await a.reserve(unheard, A_CENT)
                assert refused
                assert refused.code == "unavailable"
                alone = await spend(some, "a", 100), await spend(some, "b", 100)
                assert 28 <= min(alone) <= max(alone) <= 31
                assert some.all_spent_usd <= 1.0 + 1e-9
                server.start()
                left = 1.0 - some.all_spent_usd

                async def all_is_known() -> bool:
                    await a.reserve(paying, Amount(0, 0))
                    return a.standing(paying).spent_usd == pytest.approx(some.all_spent_usd)

                await until(all_is_known)
                await spend(some, "a", 100)
                await spend(some, "b", 100)
                assert 1.0 - 0.01 <= some.all_spent_usd <= 1.0 + 1e-9 or left < 0.01

    try:
        asyncio.run(go())
    finally:
        server.kill()
