"""Where keys are kept, read by servers and written by ``conclave keys``: one SQLite file, or Redis
where several servers share them.

Keys are revoked, never deleted: what a key spent stays somebody's, and a server whose last key was
revoked must not be open to everybody for it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experts.errors import UnknownName, UserError
from experts.sqlite_file import open_private
from orchestrator.keys.key import Allowance, VirtualKey

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    models TEXT NOT NULL,        -- JSON list, as routes
    routes TEXT NOT NULL,
    allowance TEXT NOT NULL,     -- JSON object
    created_at REAL NOT NULL,    -- seconds since 1970, as all times here
    expires_at REAL,
    revoked_at REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS good_names ON keys (name) WHERE revoked_at IS NULL;
"""


class KeyStore(ABC):
    """All keys there are; from several threads and processes."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def add(self, key: VirtualKey) -> None:
        """Raises UserError where another key of that name is good."""

    @abstractmethod
    def all(self) -> Sequence[VirtualKey]:
        """The oldest first, revoked ones as well."""

    @abstractmethod
    def version(self) -> int:
        """Another number whenever another process has written."""

    @abstractmethod
    def _replace(self, key: VirtualKey) -> None: ...

    def revoke(self, name: str, *, now: float) -> VirtualKey:
        """By name or id. Raises UnknownName for one that is not there, or revoked already."""
        key = replace(self.find(name), revoked_at=now)
        self._replace(key)
        return key

    def find(self, name: str) -> VirtualKey:
        """A key that is not revoked, by name or id. Raises UnknownName."""
        known = [key for key in self.all() if key.revoked_at is None]
        for key in known:
            if name in (key.name, key.key_id):
                return key
        raise UnknownName(name, [key.name for key in known], what="key")


class SQLiteKeyStore(KeyStore):
    """In a file of this machine."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        self._db = open_private(path, lambda db: db.executescript(_SCHEMA), use="for keys")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, key: VirtualKey) -> None:
        row = {**asdict(key), "models": _listed(key.models), "routes": _listed(key.routes)}
        row["allowance"] = json.dumps(row["allowance"])
        marks = ", ".join(f":{name}" for name in row)
        try:
            with self._lock, self._db:
                # Column names are the dataclass's own; values are bound.
                self._db.execute(f"INSERT INTO keys ({', '.join(row)}) VALUES ({marks})", row)  # noqa: S608
        except sqlite3.IntegrityError:
            raise taken(key.name) from None

    def all(self) -> Sequence[VirtualKey]:
        with self._lock:
            rows = self._db.execute("SELECT * FROM keys ORDER BY created_at, key_id").fetchall()
        return [_key(row) for row in rows]

    def version(self) -> int:
        with self._lock:
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _replace(self, key: VirtualKey) -> None:
        with self._lock, self._db:
            self._db.execute(
                "UPDATE keys SET revoked_at = ? WHERE key_id = ?", (key.revoked_at, key.key_id)
            )


def taken(name: str) -> UserError:
    """What is wrong where two good keys would have one name."""
    return UserError(
        f"There is a key named {name!r}. Give this one another name, or revoke that one first: "
        f"conclave keys revoke {name}"
    )


def _listed(names: frozenset[str]) -> str:
    return json.dumps(sorted(names))


def _key(row: Any) -> VirtualKey:
    return VirtualKey(
        **{
            **dict(row),
            "models": frozenset(json.loads(row["models"])),
            "routes": frozenset(json.loads(row["routes"])),
            "allowance": Allowance(**json.loads(row["allowance"])),
        }
    )
