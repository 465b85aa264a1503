"""The ledger: what happened and what it cost, on SQLite, append-only.

Four kinds of rows: queries asked, calls made, decisions taken, and verdicts (was it right, and who
says so). Triggers refuse updates and deletes, so a sum over the ledger never changes for the past.
Everything that Conclave believes is computed from here.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from experts.errors import UserError
from experts.values import Arm, Call, Completion, Message, Query, Sampling, Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queries (
    query_id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    messages TEXT NOT NULL,      -- JSON list of [role, content]
    skill TEXT,                  -- known skill, when the question came with one
    reference TEXT,              -- known right answer, when it came with one
    split TEXT,                  -- train, val or test, when it came with one
    source TEXT NOT NULL         -- ask, serve, demo, record, ...
);
CREATE TABLE IF NOT EXISTS calls (
    call_id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    query_id TEXT NOT NULL,
    decision_id TEXT,            -- NULL for calls made to record outcomes
    expert TEXT NOT NULL,
    mode TEXT NOT NULL,
    sample INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    temperature REAL NOT NULL,
    seed INTEGER NOT NULL,
    text TEXT NOT NULL,
    answer TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    latency_s REAL NOT NULL,
    load_s REAL NOT NULL,
    logprob REAL,
    finish_reason TEXT NOT NULL,
    error TEXT,
    error_code TEXT
);
CREATE INDEX IF NOT EXISTS calls_of_query ON calls (query_id);
CREATE TABLE IF NOT EXISTS decisions (
    decision_id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    query_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    plan TEXT NOT NULL,
    reason TEXT NOT NULL,
    fallback_price_usd REAL NOT NULL,
    scores TEXT NOT NULL,        -- JSON: per arm p_correct, sd, cost_usd; skills; novelty
    p_correct REAL,              -- expected by the policy; NULL where the caller named the expert
    expected_cost_usd REAL,
    router_cost_usd REAL NOT NULL,
    router_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    decision_id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    answer TEXT NOT NULL,
    contributors TEXT NOT NULL,  -- JSON list of arms
    p_correct REAL,
    abstained INTEGER NOT NULL,
    cost_usd REAL NOT NULL,      -- calls and router together
    latency_s REAL NOT NULL,
    notes TEXT NOT NULL          -- JSON list
);
CREATE TABLE IF NOT EXISTS verdicts (
    verdict_id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    call_id INTEGER,             -- a verdict is on a call ...
    decision_id TEXT,            -- ... or on a whole answer
    score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
    source TEXT NOT NULL,        -- grader:exact, feedback, ...
    comment TEXT
);
CREATE INDEX IF NOT EXISTS verdicts_of_call ON verdicts (call_id);
"""
_TABLES = ("queries", "calls", "decisions", "answers", "verdicts")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCall:
    """A completion as the ledger holds it, with what is known about its question."""

    call_id: int
    completion: Completion
    skill: str | None
    reference: str | None
    split: str | None
    n_chars: int
    score: float | None
    """Latest verdict on the call, in [0, 1]; None where nobody judged it."""


class Ledger:
    """One SQLite file in WAL mode; ``":memory:"`` for a ledger that is not kept.

    Safe to use from several threads of a process, and from several processes on one machine.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            for table in _TABLES:
                for change in ("UPDATE", "DELETE"):
                    self._db.execute(
                        f"CREATE TRIGGER IF NOT EXISTS no_{change.lower()}_{table} "
                        f"BEFORE {change} ON {table} "
                        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                    )
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path} cannot be used as a ledger: {error}. "
                "Name another file under `ledger:` in conclave.yaml, or move this one away."
            ) from None

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Writing.

    def add_query(
        self,
        query: Query,
        *,
        source: str,
        skill: str | None = None,
        reference: str | None = None,
        split: str | None = None,
    ) -> None:
        """Record a question; asking it again under the same id changes nothing."""
        messages = json.dumps([[m.role, m.content] for m in query.messages], ensure_ascii=False)
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO queries VALUES (?, ?, ?, ?, ?, ?, ?)",
                (query.query_id, time.time(), messages, skill, reference, split, source),
            )

    def add_calls(
        self, completions: Sequence[Completion], decision_ids: Sequence[str | None]
    ) -> list[int]:
        """Record calls in one transaction; returns their ids."""
        with self._transaction() as db:
            return [
                _inserted(db, "calls", _call_row(completion, decision_id))
                for completion, decision_id in zip(completions, decision_ids, strict=True)
            ]

    def add_decision(self, row: Mapping[str, Any]) -> None:
        """``row`` has the columns of the table, without ``at``."""
        with self._transaction() as db:
            _inserted(db, "decisions", {**row, "at": time.time()})

    def add_answer(self, row: Mapping[str, Any]) -> None:
        """``row`` has the columns of the table, without ``at``."""
        with self._transaction() as db:
            _inserted(db, "answers", {**row, "at": time.time()})

    def add_verdicts(self, scores: Iterable[tuple[int, float]], *, source: str) -> None:
        """Record (call_id, score in [0, 1]) pairs."""
        with self._transaction() as db:
            for call_id, score in scores:
                row = {"at": time.time(), "call_id": call_id, "score": score, "source": source}
                _inserted(db, "verdicts", row)

    def add_feedback(self, decision_id: str, score: float, comment: str | None) -> bool:
        """Record a verdict on an answer; False when there is no such decision."""
        with self._transaction() as db:
            known = db.execute(
                "SELECT 1 FROM decisions WHERE decision_id = ?", (decision_id,)
            ).fetchone()
            if known:
                row = {
                    "at": time.time(), "decision_id": decision_id, "score": score,
                    "source": "feedback", "comment": comment,
                }  # fmt: skip
                _inserted(db, "verdicts", row)
            return known is not None

    # Reading.

    def recorded_calls(self, *, splits: Sequence[str] | None = None) -> Iterator[RecordedCall]:
        """Calls made to record outcomes, oldest first; the latest verdict counts."""
        query = (
            "SELECT c.*, q.messages, q.skill, q.reference, q.split, "
            "(SELECT score FROM verdicts v WHERE v.call_id = c.call_id "
            " ORDER BY verdict_id DESC LIMIT 1) AS score "
            "FROM calls c JOIN queries q USING (query_id) WHERE c.purpose = 'record'"
        )
        arguments: tuple[str, ...] = ()
        if splits is not None:
            query += f" AND q.split IN ({', '.join('?' * len(splits))})"
            arguments = tuple(splits)
        for row in self.rows(f"{query} ORDER BY c.call_id", arguments):
            yield _recorded(row)

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Any reading query, as dictionaries."""
        with self._lock:
            cursor = self._db.execute(query, tuple(arguments))
            names = [d[0] for d in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def total_cost_usd(self) -> float:
        """Every dollar there is: calls and routers."""
        sums = self.rows(
            "SELECT (SELECT COALESCE(SUM(cost_usd), 0) FROM calls) + "
            "(SELECT COALESCE(SUM(router_cost_usd), 0) FROM decisions) AS total"
        )
        return float(sums[0]["total"])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            yield self._db


def _inserted(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    # Table and column names are this module's own; values are bound.
    cursor = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    return int(cursor.lastrowid or 0)


def _call_row(completion: Completion, decision_id: str | None) -> dict[str, Any]:
    call = completion.call
    return {
        "at": time.time(),
        "query_id": call.query_id,
        "decision_id": decision_id,
        "expert": call.arm.expert,
        "mode": call.arm.mode,
        "sample": call.sample,
        "purpose": call.purpose,
        "temperature": call.sampling.temperature,
        "seed": call.sampling.seed,
        "text": completion.text,
        "answer": completion.answer,
        "input_tokens": completion.usage.input_tokens,
        "output_tokens": completion.usage.output_tokens,
        "cost_usd": completion.cost_usd,
        "latency_s": completion.latency_s,
        "load_s": completion.load_s,
        "logprob": completion.logprob,
        "finish_reason": completion.finish_reason,
        "error": completion.error,
        "error_code": completion.error_code,
    }


def _recorded(row: Mapping[str, Any]) -> RecordedCall:
    messages = tuple(
        Message(role=role, content=content) for role, content in json.loads(row["messages"])
    )
    call = Call(
        query_id=row["query_id"],
        arm=Arm(row["expert"], row["mode"]),
        messages=messages,
        sampling=Sampling(temperature=row["temperature"], seed=row["seed"]),
        sample=row["sample"],
        purpose=row["purpose"],
    )
    completion = Completion(
        call=call,
        text=row["text"],
        answer=row["answer"],
        usage=Usage(input_tokens=row["input_tokens"], output_tokens=row["output_tokens"]),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        load_s=row["load_s"],
        logprob=row["logprob"],
        finish_reason=row["finish_reason"],
        error=row["error"],
        error_code=row["error_code"],
    )
    return RecordedCall(
        call_id=row["call_id"],
        completion=completion,
        skill=row["skill"],
        reference=row["reference"],
        split=row["split"],
        n_chars=sum(len(m.content) for m in messages),
        score=row["score"],
    )
