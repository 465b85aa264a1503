"""Requests with keys, over the whole application: who gets in, who pays, who is told to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from experts.cards import Prices
from experts.fake import FakeExpert
from orchestrator.config import Config
from orchestrator.keys.key import ROUTES, Allowance, VirtualKey, new_key
from orchestrator.keys.store import SQLiteKeyStore
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import echo, make_conclave

NOW = 1_790_000_000.0
CHAT, WORDS = "/v1/chat/completions", "one two three four"
A_DOLLAR_A_TOKEN = Prices(input_usd_per_mtok=1e6, output_usd_per_mtok=1e6)
"""Of ``WORDS``: four read, five said (with "so:")."""
COST_USD = 9.0


def made(data_dir: Path, name: str = "somebody", **more: Any) -> tuple[VirtualKey, dict[str, str]]:
    """A key in the store, and the header that it is sent by."""
    key, secret = new_key(name, now=NOW, **more)
    with closing(SQLiteKeyStore(data_dir / "keys.sqlite")) as store:
        store.add(key)
    return key, {"authorization": f"Bearer {secret}"}


def body(words: str = WORDS, model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": words}], **more}


@asynccontextmanager
async def client(ledger: Ledger, *experts: FakeExpert) -> AsyncIterator[httpx.AsyncClient]:
    pool = experts or (FakeExpert("echo", echo, prices=A_DOLLAR_A_TOKEN),)
    app = create_app(make_conclave(ledger, pool), Config())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://conclave"
    ) as asking:
        yield asking


def asked(ledger: Ledger, *requests: dict[str, Any], experts: tuple[FakeExpert, ...] = ()) -> Any:
    """Responses to requests, one after the other."""

    async def ask() -> list[httpx.Response]:
        async with client(ledger, *experts) as asking:
            return [
                await asking.request(**{"method": "POST", "url": CHAT, **request})
                for request in requests
            ]

    return asyncio.run(ask())


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_without_keys_everybody_may_ask(ledger: Ledger) -> None:
    [answer] = asked(ledger, {"json": body()})
    assert answer.status_code == 200


def test_with_the_first_key_nobody_else_may(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir)
    nobody, wrong, right, healthy = asked(
        ledger,
        {"json": body()},
        {"json": body(), "headers": {"authorization": "Bearer ck-guessed"}},
        {"json": body(), "headers": header},
        {"method": "GET", "url": "/healthz"},
    )
    assert code(nobody) == code(wrong) == (401, "invalid_api_key")
    assert right.status_code == healthy.status_code == 200
    assert "ck-guessed" not in wrong.text


def test_a_revoked_key_opens_nothing_and_leaves_the_door_closed(
    ledger: Ledger, data_dir: Path
) -> None:
    key, header = made(data_dir)
    with closing(SQLiteKeyStore(data_dir / "keys.sqlite")) as store:
        store.revoke(key.name, now=NOW)
    with_key, without = asked(ledger, {"json": body(), "headers": header}, {"json": body()})
    assert code(with_key) == code(without) == (401, "invalid_api_key")


def test_a_key_expires(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir, expires_at=NOW - 1e9)
    [late] = asked(ledger, {"json": body(), "headers": header})
    assert code(late) == (401, "invalid_api_key")


def test_a_key_is_for_some_models_and_routes(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir, models=["echo"], routes=["chat"])
    others = FakeExpert("echo", echo), FakeExpert("other", echo)
    yes, no_model, no_route = asked(
        ledger,
        {"json": body(), "headers": header},
        {"json": body(model="other"), "headers": header},
        {"method": "GET", "url": "/v1/models", "headers": header},
        experts=others,
    )
    assert yes.status_code == 200
    assert code(no_model) == code(no_route) == (403, "not_allowed")
    assert "echo" in no_model.json()["error"]["message"]


def test_every_route_of_the_application_can_be_given_to_keys(ledger: Ledger) -> None:
    """One that is not among ``ROUTES`` would be open to every key."""
    app = create_app(make_conclave(ledger), Config())
    paths = [str(getattr(route, "path", "")).split("/") for route in app.api.routes]
    assert {p[2] for p in paths if p[1:2] == ["v1"]} | {"mcp", "metrics"} == set(ROUTES)


def test_a_key_pays_for_its_calls_and_the_ledger_knows(ledger: Ledger, data_dir: Path) -> None:
    key, header = made(data_dir, allowance=Allowance(budget_usd=1e6))
    [answer] = asked(ledger, {"json": body(), "headers": header})
    assert answer.json()["conclave"]["cost_usd"] == COST_USD
    assert ledger.spent_usd(key.key_id, 0.0) == COST_USD
    assert ledger.spent_usd("key-other", 0.0) == 0


def test_a_key_without_money_is_told_so_and_nobody_is_asked(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir, allowance=Allowance(budget_usd=1.0, period="total"))
    echoing = FakeExpert("echo", echo, prices=A_DOLLAR_A_TOKEN)
    [refused] = asked(ledger, {"json": body(), "headers": header}, experts=(echoing,))
    assert code(refused) == (429, "insufficient_quota")
    assert "may cost up to" in refused.json()["error"]["message"]
    assert echoing.batches == []


def test_a_stream_that_cannot_be_paid_is_refused_with_its_status(
    ledger: Ledger, data_dir: Path
) -> None:
    _, header = made(data_dir, allowance=Allowance(budget_usd=1.0))
    [refused] = asked(ledger, {"json": body(stream=True), "headers": header})
    assert code(refused) == (429, "insufficient_quota")


@pytest.mark.parametrize("stream", [False, True])
def test_many_at_once_do_not_pass_a_budget(ledger: Ledger, data_dir: Path, stream: bool) -> None:
    """Sixty requests, money for thirty, and each could cost six times as much as it does."""
    budget_usd = 30.5 * COST_USD
    key, header = made(data_dir, allowance=Allowance(budget_usd=budget_usd))
    slow = FakeExpert("echo", echo, prices=A_DOLLAR_A_TOKEN, latency_s=0.01)

    async def ask() -> list[httpx.Response]:
        async with client(ledger, slow) as asking:
            sent = [
                asking.post(CHAT, json=body(stream=stream, max_tokens=6), headers=header)
                for _ in range(60)
            ]
            return await asyncio.gather(*sent)

    answers = asyncio.run(ask())
    n_answered = sum(a.status_code == 200 for a in answers)
    spent_usd = ledger.spent_usd(key.key_id, 0.0)
    assert 0 < spent_usd == n_answered * COST_USD <= budget_usd
    assert {code(a) for a in answers if a.status_code != 200} == {(429, "insufficient_quota")}


def test_a_client_that_goes_away_pays_for_what_was_said_and_nothing_stays_set_aside(
    ledger: Ledger, data_dir: Path
) -> None:
    key, header = made(data_dir, allowance=Allowance(budget_usd=80.0, max_concurrent=1))
    slow = FakeExpert("echo", echo, prices=A_DOLLAR_A_TOKEN, latency_s=0.05)

    async def ask() -> httpx.Response:
        async with client(ledger, slow) as asking:
            cut = asyncio.create_task(asking.post(CHAT, json=body(max_tokens=5), headers=header))
            await asyncio.sleep(0.02)
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            # It would not fit beside what the first one had set aside.
            return await asking.post(CHAT, json=body(max_tokens=5), headers=header)

    assert asyncio.run(ask()).status_code == 200
    read_usd = 4.0
    assert ledger.spent_usd(key.key_id, 0.0) == read_usd + COST_USD


def test_too_many_requests_are_told_when_to_come_again(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir, allowance=Allowance(requests_per_min=2))
    request = {"json": body(), "headers": header}
    first, second, third = asked(ledger, request, request, request)
    assert (first.status_code, second.status_code) == (200, 200)
    assert code(third) == (429, "rate_limit_exceeded")
    assert 28 <= int(third.headers["retry-after"]) <= 30


def test_a_keys_limits_bound_every_request(ledger: Ledger, data_dir: Path) -> None:
    _, header = made(data_dir, allowance=Allowance(max_cost_usd=0.5))
    own = {"conclave": {"max_cost_usd": 100.0}}
    [refused] = asked(ledger, {"json": body(**own), "headers": header})
    assert code(refused) == (400, "limit_reached")


def test_what_went_wrong_is_paid_as_well(ledger: Ledger, data_dir: Path) -> None:
    def breaks(call: object) -> str:
        raise RuntimeError("out of order")

    key, header = made(data_dir, allowance=Allowance(budget_usd=1e4))
    broken = FakeExpert("echo", breaks, prices=A_DOLLAR_A_TOKEN)
    [failed] = asked(ledger, {"json": body(), "headers": header}, experts=(broken,))
    assert failed.status_code == 502
    assert ledger.spent_usd(key.key_id, 0.0) == 4.0
