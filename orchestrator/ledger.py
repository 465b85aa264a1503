"""The ledger: what happened and what it cost, on SQLite, append-only.

Rows of seven kinds: queries asked, labels (what is known about a question: skill, right answer,
split; the latest counts), calls made, decisions taken, answers given, responses kept for those
who may ask again, and verdicts (was it right, and who says so; the latest counts). Triggers refuse
updates, deletes and replacements, so a sum over the ledger never changes for the past. All that
Conclave believes is computed from here.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from experts.errors import DataError, UserError
from experts.values import Arm, Call, Completion, Message, Query, Sampling, Usage

_SHOWN_CHARS = 60
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queries (
    query_id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    messages TEXT NOT NULL,      -- JSON list of [role, content]
    source TEXT NOT NULL         -- ask, serve, demo, record, ...
);
CREATE TABLE IF NOT EXISTS labels (
    label_id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    query_id TEXT NOT NULL,
    skill TEXT,
    reference TEXT,              -- JSON list of right answers
    split TEXT                   -- train, val or test
);
CREATE INDEX IF NOT EXISTS labels_of_query ON labels (query_id);
CREATE TABLE IF NOT EXISTS calls (
    call_id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    query_id TEXT NOT NULL,
    decision_id TEXT,            -- NULL for calls made to record outcomes
    expert TEXT NOT NULL,
    version TEXT NOT NULL,       -- of the expert's weights
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
    n_batch INTEGER NOT NULL,
    logprob REAL,
    finish_reason TEXT NOT NULL,
    error TEXT,
    error_code TEXT,
    usage_estimated INTEGER NOT NULL DEFAULT 0, -- tokens and cost are upper bounds
    asked TEXT                   -- the arm that was asked, where another stood in for it
);
CREATE INDEX IF NOT EXISTS calls_of_query ON calls (query_id);
CREATE INDEX IF NOT EXISTS loads_of_expert ON calls (expert, version) WHERE load_s > 0;
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
CREATE TABLE IF NOT EXISTS responses (
    idempotency_key TEXT PRIMARY KEY,
    at REAL NOT NULL,
    request TEXT NOT NULL,       -- digest of what was asked
    body TEXT NOT NULL           -- JSON, as it was sent
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
_NEW_COLUMNS = {"usage_estimated": "INTEGER NOT NULL DEFAULT 0", "asked": "TEXT"}
"""Columns of calls that the first releases did not have."""
_KEYS = {
    "queries": "query_id",
    "labels": "label_id",
    "calls": "call_id",
    "decisions": "decision_id",
    "answers": "decision_id",
    "responses": "idempotency_key",
    "verdicts": "verdict_id",
}
"""Tables and their keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What is known about a question."""

    skill: str | None = None
    reference: tuple[str, ...] = ()
    """Right answers."""
    split: str | None = None
    """train, val or test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a call's answer was right, and who says so."""

    call_id: int
    score: float
    """In [0, 1]."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCall:
    """A completion as the ledger holds it, with what is known about its question."""

    call_id: int
    completion: Completion
    version: str
    """Of the expert's weights."""
    skill: str | None
    split: str | None
    score: float | None
    """Latest verdict on the call, in [0, 1]; None where nobody judged it."""
    score_source: str | None = None
    """Who gave it."""
    reference: tuple[str, ...] = ()
    """Right answers."""


class Ledger:
    """One SQLite file in WAL mode; ``":memory:"`` for a ledger that is not kept.

    Safe to use from several threads of a process, and from several processes on one machine.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            if isinstance(path, Path):
                _make_private(path)
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._add_new_columns()
            for table, key in _KEYS.items():
                for change in ("UPDATE", "DELETE"):
                    self._forbid(f"{change.lower()}_{table}", f"BEFORE {change} ON {table}")
                # REPLACE deletes without asking the trigger on deletes.
                there = f"SELECT 1 FROM {table} WHERE {key} = NEW.{key}"  # noqa: S608 (our names)
                self._forbid(f"replace_{table}", f"BEFORE INSERT ON {table} WHEN EXISTS ({there})")
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(
                f"{path} cannot be used as a ledger: {error}. Move it away, or name another folder "
                "under `data_dir:` in conclave.yaml."
            ) from None

    def _add_new_columns(self) -> None:
        """To a ledger that an older release has made."""
        there = {row[1] for row in self._db.execute("PRAGMA table_info(calls)")}
        for name, kind in _NEW_COLUMNS.items():
            if name not in there:
                self._db.execute(f"ALTER TABLE calls ADD COLUMN {name} {kind}")

    def _forbid(self, name: str, when: str) -> None:
        self._db.execute(
            f"CREATE TRIGGER IF NOT EXISTS no_{name} {when} "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Writing.

    def add_query(self, query: Query, *, source: str, label: Label | None = None) -> None:
        """Record a question; asking it again changes nothing, but for a label that is new.

        Raises DataError when its id stands for another text.
        """
        with self._transaction() as db:
            _add_query(db, query, source)
            if label is not None:
                _add_label(db, query.query_id, label)

    def add_decisions(
        self, queries: Sequence[Query], rows: Sequence[Mapping[str, Any]], *, source: str
    ) -> None:
        """Record questions and what was decided about them, in one transaction.

        ``rows`` have the columns of the table, without ``at``. Raises DataError as ``add_query``.
        """
        with self._transaction() as db:
            for query in queries:
                _add_query(db, query, source)
            for row in rows:
                _inserted(db, "decisions", {**row, "at": time.time()})

    def add_calls(
        self,
        completions: Sequence[Completion],
        decision_ids: Sequence[str | None],
        *,
        versions: Mapping[str, str] = MappingProxyType({}),
    ) -> list[int]:
        """Record calls, in one transaction.

        ``versions`` gives the version of each expert's weights. Returns the calls' ids.
        """
        with self._transaction() as db:
            return [
                _inserted(db, "calls", _call_row(completion, decision_id, versions))
                for completion, decision_id in zip(completions, decision_ids, strict=True)
            ]

    def add_answers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record answers, in one transaction; ``rows`` have the columns of the table, without
        ``at``."""
        with self._transaction() as db:
            for row in rows:
                _inserted(db, "answers", {**row, "at": time.time()})

    def add_response(self, key: str, request: str, body: str) -> None:
        """Keep a response for who asks again; the first one of a key stays."""
        with self._transaction() as db:
            if _response_to(db, key) is None:
                row = {"idempotency_key": key, "at": time.time(), "request": request, "body": body}
                _inserted(db, "responses", row)

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Record verdicts on calls; earlier ones stay, and count no more."""
        with self._transaction() as db:
            for v in verdicts:
                _inserted(db, "verdicts", _verdict_row(v.call_id, v.score, v.source))

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

    def recorded_calls(self) -> Iterator[RecordedCall]:
        """Calls made to record outcomes, oldest first; the latest label and verdict count."""
        for row in self.rows(
            "SELECT c.*, q.messages, l.skill, l.split, l.reference, v.score, "
            "v.source AS score_source "
            "FROM calls c JOIN queries q USING (query_id) LEFT JOIN labels l ON l.label_id = "
            "(SELECT MAX(label_id) FROM labels m WHERE m.query_id = c.query_id) "
            "LEFT JOIN verdicts v ON v.verdict_id = "
            "(SELECT MAX(verdict_id) FROM verdicts w WHERE w.call_id = c.call_id) "
            "WHERE c.purpose = 'record' ORDER BY c.call_id"
        ):
            yield _recorded(row)

    def completions_of(self, query_ids: Sequence[str]) -> list[RecordedCall]:
        """Calls that were made to answer these queries and brought an answer, oldest first."""
        rows = self.rows(
            "SELECT c.*, q.messages, NULL AS skill, NULL AS split, NULL AS reference, "
            "NULL AS score, NULL AS score_source FROM calls c JOIN queries q USING (query_id) "
            "WHERE query_id IN (SELECT value FROM json_each(?)) AND c.purpose = 'answer' "
            "AND c.error IS NULL AND c.finish_reason IN ('stop', 'length') ORDER BY c.call_id",
            [json.dumps(list(query_ids))],
        )
        return [_recorded(row) for row in rows]

    def response_to(self, key: str) -> tuple[str, str] | None:
        """Digest of the request and body of the response that are kept under a key."""
        with self._lock:
            return _response_to(self._db, key)

    def load_times_s(self, expert: str, version: str, *, n: int = 9) -> list[float]:
        """Seconds of the last loads of these weights, newest first."""
        # What a stand-in's call waited for was another's load.
        rows = self.rows(
            "SELECT load_s FROM calls WHERE load_s > 0 AND expert = ? AND version = ? "
            "AND asked IS NULL ORDER BY call_id DESC LIMIT ?",
            (expert, version, n),
        )
        return [row["load_s"] for row in rows]

    def cost_usd_of(self, prefix: str) -> float:
        """Every dollar for queries whose id begins so: calls and routers."""
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        total = 0.0
        for column, table in (("cost_usd", "calls"), ("router_cost_usd", "decisions")):
            [row] = self.rows(
                f"SELECT SUM({column}) AS usd FROM {table} "  # noqa: S608 (our names)
                "WHERE query_id >= ? AND query_id < ?",
                (prefix, after),
            )
            total += row["usd"] or 0.0
        return total

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


def _add_query(db: sqlite3.Connection, query: Query, source: str) -> None:
    messages = json.dumps([[m.role, m.content] for m in query.messages], ensure_ascii=False)
    row = db.execute(
        "SELECT messages FROM queries WHERE query_id = ?", (query.query_id,)
    ).fetchone()
    if row is None:
        columns = {
            "query_id": query.query_id, "at": time.time(), "messages": messages, "source": source,
        }  # fmt: skip
        _inserted(db, "queries", columns)
    elif row[0] != messages:
        raise DataError(
            f"The id {query.query_id!r} stands for another question in the ledger: "
            f"{_shortened(row[0])}. Give the new one another id, or none."
        )


def _response_to(db: sqlite3.Connection, key: str) -> tuple[str, str] | None:
    found: tuple[str, str] | None = db.execute(
        "SELECT request, body FROM responses WHERE idempotency_key = ?", (key,)
    ).fetchone()
    return found


def _inserted(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    # Table and column names are this module's own; values are bound.
    cursor = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    return int(cursor.lastrowid or 0)


def _make_private(path: Path) -> None:
    """The folder and the file, for their owner alone: people's conversations are in them."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)


def _shortened(messages: str) -> str:
    text = json.loads(messages)[-1][1]
    return repr(text if len(text) < _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")


def _add_label(db: sqlite3.Connection, query_id: str, label: Label) -> None:
    reference = json.dumps(label.reference, ensure_ascii=False) if label.reference else None
    new = (label.skill, reference, label.split)
    latest = db.execute(
        "SELECT skill, reference, split FROM labels WHERE query_id = ? "
        "ORDER BY label_id DESC LIMIT 1",
        (query_id,),
    ).fetchone()
    if latest != new:
        columns = dict(zip(("skill", "reference", "split"), new, strict=True))
        _inserted(db, "labels", {"at": time.time(), "query_id": query_id, **columns})


def _verdict_row(call_id: int, score: float, source: str) -> dict[str, Any]:
    return {"at": time.time(), "call_id": call_id, "score": score, "source": source}


def _call_row(
    completion: Completion, decision_id: str | None, versions: Mapping[str, str]
) -> dict[str, Any]:
    call = completion.call
    return {
        "at": time.time(),
        "query_id": call.query_id,
        "decision_id": decision_id,
        "expert": call.arm.expert,
        "version": versions.get(call.arm.expert, ""),
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
        "n_batch": completion.n_batch,
        "logprob": completion.logprob,
        "finish_reason": completion.finish_reason,
        "error": completion.error,
        "error_code": completion.error_code,
        "usage_estimated": int(completion.usage.estimated),
        "asked": None if completion.stood_in_for is None else str(completion.stood_in_for),
    }


def _finite(logprob: float | None) -> float | None:
    """Early ledgers hold what servers said, infinities too."""
    return logprob if logprob is not None and math.isfinite(logprob) else None


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
        stood_in_for=Arm.parse(row["asked"]) if row["asked"] else None,
        text=row["text"],
        answer=row["answer"],
        usage=Usage(
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            estimated=bool(row["usage_estimated"]),
        ),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        load_s=row["load_s"],
        n_batch=row["n_batch"],
        logprob=_finite(row["logprob"]),
        finish_reason=row["finish_reason"],
        error=row["error"],
        error_code=row["error_code"],
    )
    return RecordedCall(
        call_id=row["call_id"],
        completion=completion,
        version=row["version"],
        skill=row["skill"],
        split=row["split"],
        score=row["score"],
        score_source=row["score_source"],
        reference=tuple(json.loads(row["reference"])) if row["reference"] else (),
    )
