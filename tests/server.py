"""A real server process, for tests that talk to one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from openai import OpenAI

from orchestrator.ledger import Ledger


class Server:
    """A server process of its own, on a free port, with its own data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "CONCLAVE_HOME": str(folder)}
        command = [Path(sys.executable).with_name("conclave"), "serve", "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().split()[2].removesuffix("/v1")
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0)

    def wait_until_ready(self) -> None:
        assert self.process.stdout
        assert "Ready" in self.process.stdout.readline(), "the server died"
        assert httpx.get(f"{self.url}/readyz").json() == {"status": "ready", "problems": {}}

    def calls(self, decision_id: str | None = None) -> list[dict[str, object]]:
        # What it is asked about an answer waits until all answers are in its ledger.
        httpx.get(f"{self.url}/v1/decisions/none")
        with Ledger(self.folder / "ledger.sqlite") as ledger:
            rows = ledger.rows("SELECT * FROM calls WHERE purpose != 'load'")
        return [r for r in rows if decision_id in (None, r["decision_id"])]

    def stop(self) -> None:
        self.client.close()
        with self.process:  # closes its pipe, too
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
