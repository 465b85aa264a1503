"""Keys on Redis, for servers on several machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.keys.key import Allowance, VirtualKey
from orchestrator.keys.store import KeyStore, taken

if TYPE_CHECKING:
    from redis import Redis

_KEYS, _NAMES, _VERSION = "conclave:keys", "conclave:keys:names", "conclave:keys:version"


class RedisKeyStore(KeyStore):
    """A hash of keys by id, one of the names of good keys, and a count of what was written."""

    def __init__(self, redis: Redis) -> None:
        """redis: this store closes it."""
        self._redis: Any = redis

    def close(self) -> None:
        self._redis.close()

    def add(self, key: VirtualKey) -> None:
        # The name first: who is killed in between leaves a name to be revoked, not two keys of it.
        if not self._redis.hsetnx(_NAMES, key.name, key.key_id):
            raise taken(key.name)
        self._replace(key)

    def all(self) -> Sequence[VirtualKey]:
        keys = [_key(json.loads(told)) for told in self._redis.hvals(_KEYS)]
        return sorted(keys, key=lambda key: (key.created_at, key.key_id))

    def version(self) -> int:
        return int(self._redis.get(_VERSION) or 0)

    def _replace(self, key: VirtualKey) -> None:
        told = {**asdict(key), "models": sorted(key.models), "routes": sorted(key.routes)}
        with self._redis.pipeline() as together:
            together.hset(_KEYS, key.key_id, json.dumps(told))
            if key.revoked_at is not None:
                together.hdel(_NAMES, key.name)
            together.incr(_VERSION)
            together.execute()


def _key(told: dict[str, Any]) -> VirtualKey:
    return VirtualKey(
        **{
            **told,
            "models": frozenset(told["models"]),
            "routes": frozenset(told["routes"]),
            "allowance": Allowance(**told["allowance"]),
        }
    )
