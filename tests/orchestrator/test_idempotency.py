"""``Idempotency-Key``: who asks again gets the answer that there is; also after ``kill -9``."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from experts.fake import FakeExpert
from experts.values import Call
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests import pools
from tests.orchestrator.batch.batches import echo, make_conclave

N_KILLS, N_REQUESTS, N_CLIENTS = 12, 100, 8
KEPT_S = 1000
URL = "/v1/chat/completions"


def body(question: str = "Why?", model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **more}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


@asynccontextmanager
async def client(ledger: Ledger, expert: FakeExpert) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(make_conclave(ledger, [expert]), Config(server={"idempotency_kept_s": KEPT_S}))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://conclave"
    ) as asking:
        yield asking


def asked(
    ledger: Ledger, *requests: tuple[str | None, dict[str, Any]], expert: FakeExpert | None = None
) -> list[httpx.Response]:
    """One after the other."""

    async def ask() -> list[httpx.Response]:
        async with client(ledger, expert or FakeExpert("echo", echo)) as asking:
            return [
                await asking.post(URL, json=said, headers=keyed(key) if key is not None else {})
                for key, said in requests
            ]

    return asyncio.run(ask())


def n_calls(ledger: Ledger) -> int:
    return len(ledger.rows("SELECT * FROM calls WHERE purpose = 'answer'"))


@pytest.mark.parametrize("n", [1, 3])
def test_asked_again_it_is_the_same_answer_and_no_other_bill(ledger: Ledger, n: int) -> None:
    said = body(n=n)
    first, again, other, none = asked(ledger, ("a", said), ("a", said), ("b", said), (None, said))
    assert again.content == first.content
    assert [r.headers.get("idempotent-replayed") for r in (first, again)] == [None, "true"]
    assert len({r.json()["id"] for r in (first, other, none)}) == 3
    assert n_calls(ledger) == 3 * n


def test_what_was_streamed_may_be_asked_whole_and_the_other_way_round(ledger: Ledger) -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    streamed, whole, again = asked(
        ledger, ("a", body(**usage)), ("a", body()), ("a", body(**usage))
    )
    [choice] = whole.json()["choices"]
    assert choice["message"]["content"] == words(streamed) == words(again) == "so: Why?"
    *_, last, bill = events(again)
    assert (last["choices"][0]["finish_reason"], bill["usage"]) == ("stop", whole.json()["usage"])
    assert last["conclave"] == whole.json()["conclave"] == events(streamed)[-2]["conclave"]
    stamps = {(e["id"], e["created"]) for r in (streamed, again) for e in events(r)}
    assert stamps == {(whole.json()["id"], whole.json()["created"])}
    assert n_calls(ledger) == 1


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def words(response: httpx.Response) -> str:
    choices = [c for e in events(response) for c in e["choices"]]
    return "".join(c["delta"].get("content") or "" for c in choices)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_key_stands_for_one_request(ledger: Ledger, more: dict[str, Any]) -> None:
    _, other = asked(ledger, ("a", body()), ("a", body("How?", **more)))
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert n_calls(ledger) == 1


def test_a_key_is_its_client_s_own(ledger: Ledger) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(ledger, FakeExpert("echo", echo)) as asking:
            return [
                await asking.post(URL, json=said, headers={**keyed("a"), **whose})
                for _ in range(2)
                for said, whose in (
                    (body("One?"), {}),
                    (body("Two?"), {"Authorization": "Bearer 2"}),
                    (body("Three?"), {"Authorization": "Bearer 3"}),
                    (body("Four?", user="4"), {"Authorization": "Bearer 3"}),
                    (body("Four?", user="5"), {}),
                )
            ]

    responses = asyncio.run(ask())
    assert {r.status_code for r in responses} == {200}
    assert [r.json()["id"] for r in responses[:5]] == [r.json()["id"] for r in responses[5:]]
    assert len({r.json()["id"] for r in responses}) == n_calls(ledger) == 5
    assert "Bearer" not in str(ledger.rows("SELECT * FROM responses"))


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_after_a_while_a_key_stands_for_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    def kept() -> list[dict[str, Any]]:
        return ledger.rows("SELECT idempotency_key FROM responses ORDER BY at")

    now = time.time()

    def later(kept: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now + kept * KEPT_S)

    async def ask() -> httpx.Response:
        async with client(ledger, FakeExpert("echo", echo)) as asking:
            await asking.post(URL, json=body(**more), headers=keyed("a"))
            await asking.post(URL, json=body(), headers=keyed("b"))
            later(0.9)
            await asking.post(URL, json=body(**more), headers=keyed("a"))
            await asking.post(URL, json=body(), headers=keyed("c"))
            assert n_calls(ledger) == 3
            later(1.1)
            return await asking.post(URL, json=body(**more), headers=keyed("a"))

    assert "idempotent-replayed" not in asyncio.run(ask()).headers
    assert n_calls(ledger) == 4  # what was paid under it is not recalled either
    assert [row["idempotency_key"] for row in kept()] == ["c", "a"]
    later(9)
    asked(ledger)  # a server that starts
    assert kept() == []


@pytest.mark.parametrize("key", ["", "x" * 256, "\x07"])
def test_what_is_no_key_is_said_so(ledger: Ledger, key: str) -> None:
    [answer] = asked(ledger, (key, body()))
    assert answer.status_code == 400
    assert "Idempotency-Key: must be 1 to 255" in answer.json()["error"]["message"]


def test_a_failure_is_not_kept(ledger: Ledger) -> None:
    down = [True]

    def answer(call: Call) -> str:
        if down.pop():
            down.append(False)
            raise RuntimeError("down")
        return echo(call)

    failed, then = asked(ledger, ("a", body()), ("a", body()), expert=FakeExpert("echo", answer))
    assert (failed.status_code, then.status_code) == (502, 200)


def test_while_it_is_being_answered_others_wait_for_it(ledger: Ledger) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(ledger, FakeExpert("echo", echo, latency_s=0.05)) as asking:
            return await asyncio.gather(
                *(asking.post(URL, json=body(), headers=keyed("a")) for _ in range(5))
            )

    assert len({r.content for r in asyncio.run(ask())}) == 1
    assert n_calls(ledger) == 1


def test_a_call_that_was_paid_before_the_server_was_killed_is_not_paid_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record_answers", lambda rows: 1 / 0)  # as far as it came
        [failed] = asked(ledger, ("a", body()))
        assert failed.status_code == 500
    [answer] = asked(ledger, ("a", body()))
    assert answer.json()["choices"][0]["message"]["content"] == "so: Why?"
    assert n_calls(ledger) == 1


# kill -9


def serve(folder: Path, listener: socket.socket) -> None:
    """What a process of its own does that will be killed."""
    import uvicorn

    os.chdir(folder)
    with Ledger(folder / "ledger.sqlite") as ledger:
        app = create_app(
            make_conclave(ledger, [FakeExpert("echo", echo, latency_s=0.02)]), Config()
        )
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


def test_a_server_that_is_killed_again_and_again_answers_every_client_once(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers, n_lost = asyncio.run(asked_while_it_is_killed(tmp_path, processes, listener))
    assert answers == {f"k{i}": f"so: question {i}" for i in range(N_REQUESTS)}
    assert n_lost > 0  # connections: the kills hit something
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        calls = Counter(r["query_id"] for r in ledger.rows("SELECT query_id FROM calls"))
        kept = ledger.rows("SELECT * FROM responses")
    assert set(calls.values()) == {1}
    assert len(calls) == len(kept) == N_REQUESTS


async def asked_while_it_is_killed(
    folder: Path, processes: ForkServerContext, listener: socket.socket
) -> tuple[Mapping[str, str], int]:
    """Answers by key, and how many connections broke."""
    url = "http://{}:{}".format(*listener.getsockname())
    answers: dict[str, str] = {}
    waiting, n_lost = list(range(N_REQUESTS)), 0

    async def ask_all(asking: httpx.AsyncClient) -> None:
        nonlocal n_lost
        while waiting:
            i = waiting.pop()
            while f"k{i}" not in answers:
                try:
                    response = await asking.post(
                        f"{url}{URL}", json=body(f"question {i}"), headers=keyed(f"k{i}")
                    )
                except httpx.TransportError:
                    n_lost += 1
                    continue
                answers[f"k{i}"] = response.json()["choices"][0]["message"]["content"]

    def start() -> Any:
        child = processes.Process(target=serve, args=(folder, listener), daemon=True)
        child.start()
        return child

    rng = Random(0)
    async with httpx.AsyncClient(timeout=30) as asking, asyncio.timeout(60):
        work = asyncio.gather(*(ask_all(asking) for _ in range(N_CLIENTS)))
        child = start()
        for _ in range(N_KILLS):
            n_before = len(answers)
            while len(answers) == n_before and not work.done():
                assert child.exitcode is None
                await asyncio.sleep(0.01)  # for the server's start, which takes how long it takes
            await asyncio.sleep(rng.uniform(0, 0.05))
            child.kill()
            child.join()
            child = start()
        await work
        assert child.exitcode is None
        child.kill()
        child.join()
    return answers, n_lost


@pytest.mark.parametrize(("version", "n_made"), [("1", 0), ("2", 1)])
def test_what_was_paid_is_recalled_of_the_same_weights_only(
    ledger: Ledger, version: str, n_made: int
) -> None:
    query = pools.query("Why?")

    def answered_by(expert: FakeExpert) -> None:
        conclave = make_conclave(ledger, [expert])
        work = conclave.answer(query, "echo", source="serve", recalls_since_s=0.0)
        assert asyncio.run(work).answer.succeeded

    answered_by(FakeExpert("echo", echo, version="1"))
    again = FakeExpert("echo", echo, version=version)
    answered_by(again)
    assert len(again.batches) == n_made
    assert n_calls(ledger) == 1 + n_made
