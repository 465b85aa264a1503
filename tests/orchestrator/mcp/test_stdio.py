"""``conclave mcp`` as a client starts it: a process, its input and output."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client

from experts.errors import ConfigError
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.mcp.stdio import serve_stdio
from tests.openai_stub import OpenAIStub, hanging
from tests.orchestrator.mcp.clients import Progress, error_of, started, text

COMMAND = [str(Path(sys.executable).with_name("conclave")), "mcp"]


def stub_config(url: str) -> str:
    """A pool of one expert, which answers as the stub does."""
    prices = "{input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}"
    expert = f"{{kind: openai, name: mine, model: words, base_url: {url}, prices: {prices}}}"
    return f"experts:\n  - {expert}\nembedder: hashing\n"


def test_a_client_starts_it_and_asks(tmp_path: Path) -> None:
    """The whole life of a connection; in one test, since a process takes seconds to start."""
    stub = OpenAIStub({"1+1?": "2"})
    heard = Progress()

    async def body() -> None:
        async with stub.running():
            (tmp_path / "conclave.yaml").write_text(stub_config(stub.url))
            async with Client(started(tmp_path)) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert names == ["ask", "route", "experts", "feedback"]
                asked = {"question": "1+1?", "model": "mine"}
                result = await client.call_tool("ask", asked, progress_callback=heard)
                assert text(result) == "2"
                decision = result.structured_content["decision_id"]
                said = {"decision_id": decision, "correct": True}
                assert not (await client.call_tool("feedback", said)).is_error
                assert not (await client.call_tool("route", asked)).is_error
                pool = (await client.call_tool("experts")).structured_content
                assert [e["name"] for e in pool["experts"]] == ["mine"]

                wrong = await client.call_tool("ask", {**asked, "max_calls": "x"})
                assert error_of(wrong)["param"] == "max_calls"
                huge = await client.call_tool("ask", {**asked, "question": "x" * 3_000_000})
                assert error_of(huge)["code"] == "body_too_large"

                many = await asyncio.gather(*(client.call_tool("ask", asked) for _ in range(20)))
                assert [text(r) for r in many] == ["2"] * 20

                n_requests = len(stub.requests)
                stub.reactions.append(hanging)
                async with anyio.create_task_group() as tg:
                    tg.start_soon(client.call_tool, "ask", asked)
                    while len(stub.requests) == n_requests:
                        await asyncio.sleep(0.01)
                    tg.cancel_scope.cancel()
                while stub.n_at_once:
                    await asyncio.sleep(0.01)
                assert text(await client.call_tool("ask", asked)) == "2"

                stub.reactions.append(hanging)
                async with anyio.create_task_group() as tg:
                    tg.start_soon(client.call_tool, "ask", asked)
                    while not stub.n_at_once:
                        await asyncio.sleep(0.01)
                    # The client goes while a call is under way.
                    tg.cancel_scope.cancel()

    asyncio.run(body())
    assert heard.messages[0] == "plan only: the caller named mine"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ends = [row["finish_reason"] for row in ledger.rows("SELECT * FROM calls ORDER BY call_id")]
    assert ends == ["stop"] * 21 + ["cancelled", "stop", "cancelled"]


def test_nonsense_is_survived_and_a_signal_ends_it_with_its_input_still_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "conclave.yaml").write_text(stub_config("http://127.0.0.1:9/v1"))
    ping = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    lines = ["", "nonsense", "[]", '{"jsonrpc": "2.0"}', '"\ud800"', "[" * 100_000, ping]
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n".join(lines).encode(errors="surrogatepass") + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 7
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout.read() == b""


def test_a_configuration_that_is_wrong_is_found_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="`experts:` is empty"):
        asyncio.run(serve_stdio(Config(experts=[])))
