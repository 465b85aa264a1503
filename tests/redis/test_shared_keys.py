"""Keys on a real Redis, and servers that share it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import openai
import pytest
import redis

from orchestrator.keys.redis_store import RedisKeyStore
from orchestrator.ledger import Ledger
from tests.orchestrator.keys.contract import KeyStoreContract, Stores
from tests.redis.servers import RedisServer
from tests.server import Server

CONCLAVE = str(Path(sys.executable).with_name("conclave"))
ASKED = {"model": "arithmetic", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


class TestRedisKeyStore(KeyStoreContract):
    @pytest.fixture
    def stores(self, server: RedisServer) -> Iterator[Stores]:
        one, other = redis.Redis.from_url(server.url), redis.Redis.from_url(server.url)
        one.flushall()
        with closing(RedisKeyStore(one)) as first, closing(RedisKeyStore(other)) as second:
            yield first, second


def configured(folder: Path, url: str) -> Path:
    """A folder with its configuration, and its data."""
    folder.mkdir()
    text = f"data_dir: {folder}\nserver: {{redis_url: '{url}'}}\n"
    (folder / "conclave.yaml").write_text(text)
    return folder


def conclave(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONCLAVE, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def serving(*folders: Path) -> Iterator[list[Server]]:
    servers = [Server(folder) for folder in folders]
    try:
        for server in servers:
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers:
            server.stop()


def test_three_servers_hold_one_budget(server: RedisServer, tmp_path: Path) -> None:
    """Three hundred requests at once over HTTP, and money for a hundred or so."""
    folders = [configured(tmp_path / name, server.url) for name in "abc"]
    first = conclave(folders[0], "keys", "create", "rich", "--budget-usd", "1", "--json")
    rich = json.loads(first.stdout)
    with serving(*folders) as servers:
        one = servers[0].client.with_options(api_key=rich["secret"])
        asked = one.chat.completions.create(**ASKED, max_tokens=8)
        cost_usd = float(asked.model_extra["conclave"]["cost_usd"])
        budget_usd = 100 * cost_usd
        budget = ["--budget-usd", repr(budget_usd), "--json"]
        told = conclave(folders[1], "keys", "create", "poor", *budget)
        poor = json.loads(told.stdout)

        def ask(i: int) -> bool:
            client = servers[i % 3].client.with_options(api_key=poor["secret"])
            try:
                client.chat.completions.create(**ASKED, max_tokens=8)
            except openai.RateLimitError:
                return False
            return True

        with ThreadPoolExecutor(30) as pool:
            n_answered = sum(pool.map(ask, range(300)))
    spent_usd = 0.0
    for folder in folders:
        with Ledger(folder / "ledger.sqlite") as ledger:
            spent_usd += ledger.spent_usd(poor["key_id"], 0.0)
    assert 0.5 * budget_usd < spent_usd <= budget_usd
    assert spent_usd == pytest.approx(n_answered * cost_usd, rel=1e-6)


def test_two_servers_do_not_share_a_data_folder(server: RedisServer, tmp_path: Path) -> None:
    folder = configured(tmp_path / "one", server.url)
    with serving(folder):
        second = conclave(folder, "serve", "--port", "0")
    assert second.returncode == 2
    assert "need a data folder each" in second.stderr


def test_a_redis_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    folder = configured(tmp_path / "one", "redis://127.0.0.1:1/0")
    done = conclave(folder, "keys", "list")
    assert done.returncode == 2
    assert "There is no Redis at redis://127.0.0.1:1/0" in done.stderr
    assert "CONCLAVE_REDIS_PASSWORD" in done.stderr


def test_a_password_in_the_configuration_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path / "one", "redis://:secret@127.0.0.1:1/0")
    done = conclave(folder, "keys", "list")
    assert done.returncode == 2
    assert "redis_url" in done.stderr
