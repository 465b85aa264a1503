"""Files of rows on their way into the ledger, and how they get there: each row once, whoever dies.

A spool lies beside its ledger. A line is one JSON object: lists of rows by table. What has been
moved is written down in the ledger itself, in the transaction that moves it, and is never
forgotten: so a row is there or will be, and never twice, however many processes move the same spool
at a time. A line that has no end was being written when its writer died.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from orchestrator.ledger.schema import without_guards

log = logging.getLogger(__name__)

SUFFIX = ".spool"
_MANY = 100
"""Lines; of fewer, the guards cost less than taking them down."""
_BYTES_AT_ONCE = 1 << 20
"""Moved in one transaction; others wait for the ledger meanwhile."""

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""By table."""


def line_of(rows: Rows) -> bytes:
    return orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE)


def begin_spool(ledger: Path) -> tuple[int, Path]:
    """A new spool for a ledger, open and locked for as long as this process lives."""
    path = ledger.with_name(f"{ledger.name}.{os.urandom(8).hex()}{SUFFIX}")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd, path


def move_left(db: sqlite3.Connection, ledger: Path) -> int:
    """Move what processes that died have left beside the ledger. Returns the number of rows."""
    n = 0
    for path in sorted(ledger.parent.glob(f"{ledger.name}.*{SUFFIX}")):
        with suppress(FileNotFoundError, BlockingIOError), _locked(path):
            n += move(db, path)
            path.unlink(missing_ok=True)
    if n:
        log.info("%d rows that a process had left beside %s are in it now", n, ledger)
    return n


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Raises BlockingIOError where its process lives."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def move(db: sqlite3.Connection, path: Path) -> int:
    """Move whatever whole lines there are and were not moved. Returns the number of rows."""
    n = 0
    with path.open("rb") as spool:
        while (moved := _move_some(db, path, spool.fileno())) is not None:
            n += moved
    return n


def _move_some(db: sqlite3.Connection, path: Path, fd: int) -> int | None:
    name = path.name
    db.execute("BEGIN IMMEDIATE")
    try:
        known = db.execute("SELECT n_bytes FROM spools WHERE name = ?", (name,)).fetchone()
        begin = known[0] if known else 0
        lines, end = _lines(fd, begin)
        if lines:
            with without_guards(db) if len(lines) > _MANY else nullcontext():
                n = _insert_what_can_be(db, lines, path)
            db.execute("INSERT OR REPLACE INTO spools (name, n_bytes) VALUES (?, ?)", (name, end))
        db.commit()
    except BaseException:
        db.rollback()
        raise
    return n if lines else None


def _lines(fd: int, begin: int) -> tuple[list[bytes], int]:
    """Whole lines from there, and where they end."""
    n_bytes = _BYTES_AT_ONCE
    while True:
        data = os.pread(fd, n_bytes, begin)
        whole, newline, _ = data.rpartition(b"\n")
        if newline or len(data) < n_bytes:
            return whole.split(b"\n") if newline else [], begin + len(whole) + len(newline)
        n_bytes *= 2  # one line that is longer than that


def _insert_what_can_be(db: sqlite3.Connection, lines: list[bytes], path: Path) -> int:
    """What the ledger refuses (which is a defect of whoever wrote it) is kept in a file of its own:
    it must not stand before all that comes after it."""
    db.execute("SAVEPOINT together")
    try:
        return _insert(db, lines)
    except sqlite3.IntegrityError:
        db.execute("ROLLBACK TO together")
    n = 0
    for line in lines:
        db.execute("SAVEPOINT alone")
        try:
            n += _insert(db, [line])
        except sqlite3.IntegrityError as error:
            db.execute("ROLLBACK TO alone")
            refused = path.with_suffix(".refused")
            log.error("the ledger refuses rows (%s); they are kept in %s", error, refused)
            with refused.open("ab") as kept:
                kept.write(line + b"\n")
    return n


def _insert(db: sqlite3.Connection, lines: list[bytes]) -> int:
    by_shape: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = {}
    for line in lines:
        for table, rows in orjson.loads(line).items():
            for row in rows:
                by_shape.setdefault((table, tuple(row)), []).append(tuple(row.values()))
    for (table, names), rows in by_shape.items():
        db.executemany(insertion(table, names), rows)
    return sum(map(len, by_shape.values()))


@cache
def insertion(table: str, names: tuple[str, ...]) -> str:
    """Always the same text, so that SQLite's statement is found prepared."""
    marks = ", ".join("?" * len(names))
    # Table and column names are the ledger's own; values are bound.
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
