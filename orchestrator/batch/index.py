"""Which ids there are, and which of them are answered: on disk, since a file may have any length.

Computed anew by every process from the two files; nothing of it outlives the process.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Self


class IdIndex:
    """Ids of answers and of lines, in a temporary SQLite file that SQLite itself removes."""

    def __init__(self) -> None:
        # One thread at a time: deciding happens in whichever thread is free.
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute(
            "CREATE TABLE ids (id BLOB PRIMARY KEY, digest TEXT, line INTEGER, answered INTEGER) "
            "WITHOUT ROWID"
        )
        # Never committed: who else should read it?
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def add_answer(self, line_id: str, digest: str) -> bool:
        """False when that id is answered already."""
        done = self._db.execute(
            "INSERT OR IGNORE INTO ids VALUES (?, ?, NULL, 1)", (_key(line_id), digest)
        )
        return done.rowcount == 1

    def add_line(self, line_id: str, digest: str, number: int) -> int | None:
        """The line that has the id already, or None. Raises LookupError when the id is answered,
        as another question."""
        row = self._db.execute(
            "SELECT digest, line FROM ids WHERE id = ?", (_key(line_id),)
        ).fetchone()
        if row is None:
            self._db.execute("INSERT INTO ids VALUES (?, ?, ?, 0)", (_key(line_id), digest, number))
            return None
        if row[1] is not None:
            return int(row[1])
        if row[0] != digest:
            raise LookupError(line_id)
        self._db.execute("UPDATE ids SET line = ? WHERE id = ?", (number, _key(line_id)))
        return None

    def n_answers_without_line(self) -> int:
        [n] = self._db.execute("SELECT COUNT(*) FROM ids WHERE line IS NULL").fetchone()
        return int(n)

    def is_open(self, line_id: str, number: int, digest: str) -> bool:
        """This line is the one of its id, asks what it asked, and has no answer."""
        row = self._db.execute(
            "SELECT 1 FROM ids WHERE id = ? AND line = ? AND digest = ? AND NOT answered",
            (_key(line_id), number, digest),
        ).fetchone()
        return row is not None


def _key(line_id: str) -> bytes:
    return hashlib.blake2b(line_id.encode(), digest_size=16).digest()
