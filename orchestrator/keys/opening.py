"""Where a configuration keeps its keys, and counts what they use."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from experts.errors import UserError
from orchestrator.config import Config
from orchestrator.keys.accounts import Accounts, LocalAccounts
from orchestrator.keys.shared import SharedAccounts
from orchestrator.keys.store import KeyStore, SQLiteKeyStore
from orchestrator.ledger import Ledger

if TYPE_CHECKING:
    from redis import Redis as SyncRedis
    from redis.asyncio import Redis

PASSWORD = "CONCLAVE_REDIS_PASSWORD"  # noqa: S105 (a name)
"""Environment variable."""
INSTALL = "pip install 'conclave-coe[redis]'"
_PATIENCE_S = 0.5
"""For Redis, which is near: longer than that and it is away."""


def open_keys(config: Config) -> KeyStore:
    """Raises UserError where they cannot be read."""
    if config.server.redis_url is None:
        return SQLiteKeyStore(config.keys_path)
    from orchestrator.keys.redis_store import RedisKeyStore

    client = sync_redis(config)
    try:
        client.ping()
    except Exception as error:  # of the client, of whatever listens there
        raise UserError(
            f"There is no Redis at {config.server.redis_url} (server.redis_url): {error}. Start "
            "it, or correct the address; a password goes into the environment variable "
            f"{PASSWORD}."
        ) from None
    return RedisKeyStore(client)


def sync_redis(config: Config) -> SyncRedis:
    """Raises UserError where the client is not installed."""
    client: SyncRedis = _client(config, "redis")
    return client


def async_redis(config: Config) -> Redis:
    """Raises UserError where the client is not installed."""
    client: Redis = _client(config, "redis.asyncio")
    return client


def _client(config: Config, module: str) -> Any:
    from importlib import import_module

    try:
        redis = import_module(module)
    except ImportError:
        raise UserError(f"server.redis_url needs the Redis client. Install it: {INSTALL}") from None
    return redis.Redis.from_url(
        config.server.redis_url,
        password=os.environ.get(PASSWORD),
        socket_timeout=_PATIENCE_S,
        socket_connect_timeout=_PATIENCE_S,
    )


class Counting:
    """Accounts of a server, and what must run while it counts."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        """Raises UserError where another server works in the data folder, and both share a
        Redis."""
        self._until = ExitStack()
        self.accounts: Accounts
        if config.server.redis_url is None:
            self.accounts, self._shared = LocalAccounts(ledger.spent_usd), None
            return
        name = self._until.enter_context(replica_name(config.data_dir))
        self._shared = SharedAccounts(async_redis(config), ledger.spent_usd, replica=name)
        self.accounts = self._shared

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        with self._until:
            if self._shared is None:
                yield
            else:
                async with self._shared.running():
                    yield


@contextmanager
def replica_name(folder: Path) -> Iterator[str]:
    """The name of a server that counts with others: the same as long as its data folder is, because
    its ledger tells what it has spent. Raises UserError where another server has the folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "replica").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"Another server works in {folder}. Servers that share a Redis need a data folder "
                "each, since each counts what its own ledger has: set `data_dir:` or CONCLAVE_HOME."
            ) from None
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = uuid4().hex
            file.write(name)
            file.flush()
        yield name
