"""Servers that are asked to stop in the middle of things."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import uvicorn

from experts.fake import FakeExpert
from experts.values import Call, Completion
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.engines import PROGRAM
from tests.orchestrator.batch.batches import echo, make_conclave

QUESTION = {"model": "logic", "messages": [{"role": "user", "content": "Why?"}]}


class Elsewhere(FakeExpert):
    """Its bill takes a moment, as one of engines, which live in a thread of their own."""

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        completions = await super().complete(calls)
        await asyncio.sleep(0.05)
        return completions


def test_what_a_server_that_stops_cuts_short_is_billed_and_told_to_come_again(
    tmp_path: Path,
) -> None:
    expert = Elsewhere("logic", echo, latency_s=600)

    async def body(ledger: Ledger) -> httpx.Response:
        app = create_app(make_conclave(ledger, [expert]), Config(limits={"timeout_s": 900}))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0)
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            async with httpx.AsyncClient() as client:
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                asking = asyncio.create_task(client.post(url, json=QUESTION, timeout=60))
                while not expert.batches:
                    await asyncio.sleep(0.01)
                server.should_exit = True
                await serving
                return await asking

    response = asyncio.run(body(Ledger(tmp_path / "ledger.sqlite")))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["error"]["code"] == "server_stopping"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        [call] = ledger.rows("SELECT * FROM calls")
    assert call["finish_reason"] == "cancelled"
    assert call["cost_usd"] > 0


def test_a_server_ends_its_engines_before_it_ends(tmp_path: Path) -> None:
    """While one of them starts, which takes for ever here."""
    python = tmp_path / "python"
    (tmp_path / "hang_at_start").touch()
    python.write_text(
        f"#!/bin/sh\nshift 2\nSCRIPTED_FAULTS={tmp_path} exec {sys.executable} -E -S {PROGRAM} "
        '"$@"\n'
    )
    python.chmod(0o755)
    config = {
        "data_dir": str(tmp_path / "data"),
        "vllm": {"python": str(python)},
        "experts": [{"kind": "bundled", "names": ["logic"], "runs_on": "vllm"}],
    }
    (tmp_path / "conclave.yaml").write_text(json.dumps(config))
    command = [Path(sys.executable).with_name("conclave"), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[2]
            address = urlsplit(url)
            client = http.client.HTTPConnection(str(address.hostname), address.port)
            headers = {"content-type": "application/json"}
            client.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
            while (tmp_path / "hang_at_start").exists():
                assert process.poll() is None
                time.sleep(0.01)
            [keeper] = keepers(tmp_path)
            client.close()  # the server would wait for its answer
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert not keepers(tmp_path), keeper
        finally:
            process.kill()


def keepers(folder: Path) -> list[str]:
    """Of the engines of a folder; each lives as long as its engine."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True
    )
    return [a for a in listed.stdout.splitlines() if "keeper.py" in a and str(folder) in a]
