"""The list of durable runs, on SQLite, and who works on which."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from experts.errors import RunBusy, UnknownName
from experts.ids import new_id
from experts.sqlite_file import open_private

RunState = Literal["open", "waiting", "done", "failed", "cancelled"]
FINAL = frozenset({"done", "failed", "cancelled"})
_TRIES, _LOOKED_AT_S = 3, 0.01
"""Whoever only looks whether a run is worked on keeps its lease from others for a moment."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY,
    started_at REAL NOT NULL,    -- seconds since 1970
    changed_at REAL NOT NULL,
    state TEXT NOT NULL,
    decision TEXT NOT NULL,      -- JSON: what it was begun with (orchestrator/runs/frozen.py)
    answer TEXT,                 -- JSON
    problem TEXT
);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A run as the list has it."""

    run_id: str
    started_at: float
    """Seconds since 1970."""
    changed_at: float
    state: RunState
    """open: under way, or left by a process that is gone. waiting: for people."""
    decision: Mapping[str, Any]
    """Empty where it cannot be read."""
    answer: Mapping[str, Any] | None
    problem: str | None


class RunStore:
    """Runs in one SQLite file; from several threads and processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._db = open_private(
            runs_path(folder), lambda db: db.executescript(_SCHEMA), use="for durable runs"
        )

    def close(self) -> None:
        with self._lock:  # not under a thread that is reading
            self._db.close()

    @property
    def checkpoints(self) -> Path:
        """LangGraph's."""
        return self.folder / "checkpoints.sqlite"

    def add(self, run_id: str, decision: Mapping[str, Any]) -> None:
        now = time.time()
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 'open', ?, NULL, NULL)",
                [run_id, now, now, json.dumps(decision, ensure_ascii=False)],
            )

    def get(self, run_id: str) -> RunRow:
        """Raises UnknownName."""
        with self._lock:
            row = self._db.execute("SELECT * FROM runs WHERE run_id = ?", [run_id]).fetchone()
            if row is None:
                known = self._db.execute("SELECT run_id FROM runs ORDER BY started_at DESC LIMIT 9")
                raise UnknownName(run_id, [r["run_id"] for r in known.fetchall()], what="run")
        return _row(row)

    def all(self) -> list[RunRow]:
        """Newest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM runs ORDER BY started_at DESC").fetchall()
        return [_row(row) for row in rows]

    def change(
        self,
        run_id: str,
        state: RunState,
        *,
        answer: Mapping[str, Any] | None = None,
        problem: str | None = None,
    ) -> bool:
        """Note how far a run is. False for one that has come to its end: that stays as it is, and
        its lease is of no more use."""
        told = None if answer is None else json.dumps(answer, ensure_ascii=False)
        with self._lock, self._db:
            changed = self._db.execute(
                "UPDATE runs SET state = ?, answer = ?, problem = ?, changed_at = ? "
                "WHERE run_id = ? AND state IN ('open', 'waiting')",
                [state, told, problem, time.time(), run_id],
            )
        if state in FINAL:
            _lock_path(self.folder, run_id).unlink(missing_ok=True)
        return changed.rowcount > 0

    def waiting(self) -> list[str]:
        """Ids of runs that wait for people, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT run_id FROM runs WHERE state = 'waiting' ORDER BY started_at"
            ).fetchall()
        return [row["run_id"] for row in rows]

    def is_worked_on(self, run_id: str) -> bool:
        """Whether some process has the lease now. Looking leaves no file behind."""
        import fcntl

        try:
            fd = os.open(_lock_path(self.folder, run_id), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two may look at once
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    async def lease(self, run_id: str) -> Lease:
        """The lease, though somebody looks just now. Raises RunBusy."""
        for _ in range(_TRIES - 1):
            try:
                return Lease(self.folder, run_id)
            except RunBusy:
                await asyncio.sleep(_LOOKED_AT_S)
        return Lease(self.folder, run_id)


class Lease:
    """The right to work on a run: a locked file. The operating system gives it back when the
    process is gone, however that went, so it needs no time after which it is void; and a process
    that was only held up cannot come back to a run that another has gone on with."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Raises RunBusy."""
        import fcntl

        self._fd = os.open(_lock_path(folder, run_id), os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._fd).st_nlink:  # else somebody ended the run, and took the file away
                return
        os.close(self._fd)
        raise RunBusy(
            f"{run_id} is being worked on by another process. Wait for it: "
            f"conclave runs show {run_id}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def runs_path(folder: Path) -> Path:
    """The list of runs of a folder; there is none before the first run."""
    return folder / "runs.sqlite"


def _lock_path(folder: Path, run_id: str) -> Path:
    return folder / f"{run_id}.lock"


def new_run_id() -> str:
    return new_id("run")


def _row(row: Any) -> RunRow:
    return RunRow(
        run_id=row["run_id"],
        started_at=row["started_at"],
        changed_at=row["changed_at"],
        state=row["state"],
        decision=_object(row["decision"]) or {},
        answer=_object(row["answer"]),
        problem=row["problem"],
    )


def _object(text: str | None) -> Mapping[str, Any] | None:
    """None also for what is no JSON object: one damaged row must not hide the others."""
    try:
        found = None if text is None else json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
