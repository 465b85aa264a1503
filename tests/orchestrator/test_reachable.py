"""The servers behind experts are asked before anybody relies on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.config import OpenAIExpertSettings, RemotePriceSettings
from orchestrator.reachable import Reached, reach
from tests.openai_stub import OpenAIStub
from tests.typed import typed


def server(url: str, model: str = "words") -> OpenAIExpertSettings:
    prices = RemotePriceSettings(input_usd_per_mtok=1, output_usd_per_mtok=1)
    return OpenAIExpertSettings(kind="openai", name="it", base_url=url, model=model, prices=prices)


def test_a_server_that_lists_the_model_is_well() -> None:
    async def inside() -> list[Reached]:
        async with OpenAIStub({}).running() as stub:
            return await reach([server(stub.url), server(stub.url, "wrods")])

    well, doubtful = asyncio.run(inside())
    assert (well.problem, well.doubt) == ("", "")
    assert "no model 'wrods' there, but words" in doubtful.doubt


def test_refusals_silence_and_other_protocols_are_told_apart() -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def inside() -> list[Reached]:
        app = web.Application()
        for name, status in {"refuses": 401, "broken": 500, "other": 200}.items():
            app.router.add_get(f"/{name}/models", answering(status))
        app.router.add_get("/hangs/models", hang)
        async with TestServer(app) as running:
            names = ("refuses", "broken", "other", "none", "hangs")
            urls = [str(running.make_url(f"/{name}")) for name in names]
            return await reach([server(url) for url in urls], timeout_s=0.3)

    refuses, broken, other, none, hangs = asyncio.run(inside())
    assert "refuses the key" in refuses.problem
    assert "HTTP 500" in broken.problem
    assert "OpenAI's protocol" in other.doubt
    assert "lists no models" in none.doubt
    assert "did not answer within 0.3 s" in hangs.problem


def answering(status: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    return answer


def test_doctor_finds_a_server_that_nobody_runs(tmp_path: Path) -> None:
    (tmp_path / "conclave.yaml").write_text(
        "embedder: hashing\nexperts:\n  - kind: openai\n    name: away\n    model: words\n"
        "    base_url: http://127.0.0.1:9/v1\n"
        "    prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}\n"
    )
    run = typed("doctor", "--json", "--config", str(tmp_path / "conclave.yaml"))
    [servers] = [f for f in json.loads(run.stdout)["findings"] if f["check"] == "servers"]
    assert run.returncode == 1
    assert servers["status"] == "problem"
    assert "away: cannot reach http://127.0.0.1:9/v1/models" in servers["message"]
