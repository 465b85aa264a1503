"""The ledger's tables, the triggers that keep the past as it was, and the version of both.

A file is made whole or not at all, by one of the processes that open it, and has its version from
then on (SQLite's ``user_version``). One of another version is refused, not altered: what it holds
was recorded by other rules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from experts.errors import UserError
from experts.sqlite_file import NAME_ANOTHER

VERSION = 4
"""One more with every change below."""
_TABLES = {
    "queries": """
        query_id TEXT PRIMARY KEY,
        at REAL NOT NULL,            -- seconds since 1970, here and below
        messages TEXT NOT NULL,      -- JSON list of [role, content], and what there is of tools
        source TEXT NOT NULL         -- ask, serve, demo, record, ...
    """,
    "labels": """
        label_id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        query_id TEXT NOT NULL,
        skill TEXT,
        reference TEXT,              -- JSON list of right answers
        split TEXT                   -- train, val or test
    """,
    "begun": """
        begun_id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,        -- which of the run's calls, from 0
        query_id TEXT NOT NULL,
        decision_id TEXT NOT NULL,
        expert TEXT NOT NULL,
        mode TEXT NOT NULL,
        digest TEXT NOT NULL,        -- of what was asked
        most_usd REAL NOT NULL       -- upper bound of what it costs in tokens
    """,
    "calls": """
        call_id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        query_id TEXT NOT NULL,
        decision_id TEXT,            -- NULL for calls made to record outcomes
        expert TEXT NOT NULL,
        version TEXT NOT NULL,       -- of the expert's weights
        mode TEXT NOT NULL,
        sample INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        prompt TEXT NOT NULL,        -- digest, where it was asked something else than the query
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
        own_odds REAL,               -- log-odds of being right, by a scorer of its own states
        finish_reason TEXT NOT NULL,
        error TEXT,
        error_code TEXT,
        usage_estimated INTEGER NOT NULL, -- tokens and cost are upper bounds
        asked TEXT,                  -- the arm that was asked, where another stood in for it
        tool_calls TEXT,             -- JSON list, where it wants functions called
        cached_tokens INTEGER NOT NULL, -- of the input, what the server still had
        begun_id INTEGER             -- of a durable run's call: its row in begun
    """,
    "decisions": """
        decision_id TEXT PRIMARY KEY,
        at REAL NOT NULL,
        query_id TEXT NOT NULL,
        policy TEXT NOT NULL,
        plan TEXT NOT NULL,
        reason TEXT NOT NULL,
        fallback_price_usd REAL NOT NULL,
        scores TEXT NOT NULL,        -- JSON: per arm p_correct, sd, cost_usd; skills; novelty
        p_correct REAL,              -- expected by the policy; NULL where an expert was named
        expected_cost_usd REAL,
        router_cost_usd REAL NOT NULL,
        router_s REAL NOT NULL,
        account TEXT NOT NULL        -- who pays: a key's id; empty where none is asked for
    """,
    "answers": """
        decision_id TEXT PRIMARY KEY,
        at REAL NOT NULL,
        answer TEXT NOT NULL,
        contributors TEXT NOT NULL,  -- JSON list of arms
        p_correct REAL,
        abstained INTEGER NOT NULL,
        cost_usd REAL NOT NULL,      -- calls and router together
        latency_s REAL NOT NULL,
        notes TEXT NOT NULL,         -- JSON list
        decided TEXT                 -- JSON: plan, reason, scores, ... where keywords led to others
    """,
    "responses": """
        idempotency_key TEXT PRIMARY KEY, -- with whose it is
        at REAL NOT NULL,
        request TEXT NOT NULL,       -- digest of what was asked
        body TEXT NOT NULL           -- JSON, as it was sent
    """,
    "verdicts": """
        verdict_id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        call_id INTEGER,             -- a verdict is on a call ...
        decision_id TEXT,            -- ... or on a whole answer
        score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
        source TEXT NOT NULL,        -- grader:exact, feedback, ...
        comment TEXT,
        caller TEXT                  -- digest of who sent feedback
    """,
    "explorations": """
        decision_id TEXT PRIMARY KEY,
        at REAL NOT NULL,
        arm TEXT NOT NULL,
        propensity REAL NOT NULL,    -- probability of asking this arm, in (0, 1]
        reserved_usd REAL NOT NULL   -- the most that the call can cost
    """,
    "spools": """
        name TEXT PRIMARY KEY,       -- of a file of rows beside the ledger, or one that was there
        n_bytes INTEGER NOT NULL     -- of it that are in the tables
    """,
}
"""Columns by table; the first one is its key."""
_INDEXES = {
    "labels_of_query": "labels (query_id)",
    "begun_of_run": "begun (run_id)",
    "calls_of_query": "calls (query_id)",
    "calls_of_decision": "calls (decision_id)",
    "calls_of_begun": "calls (begun_id) WHERE begun_id IS NOT NULL",
    "decisions_of_account": "decisions (account, at) WHERE account != ''",
    "loads_of_expert": "calls (expert, version) WHERE load_s > 0",
    "responses_by_age": "responses (at)",
    "verdicts_of_call": "verdicts (call_id)",
    "verdicts_of_decision": "verdicts (decision_id) WHERE decision_id IS NOT NULL",
    "explorations_by_age": "explorations (at)",
}
_MAY_BE_DELETED = frozenset({"responses"})
_MAY_CHANGE = frozenset({"spools"})


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables in a new file; leave one that has them as it is. The connection begins no
    transactions by itself afterwards.

    Raises UserError for a file of another version.
    """
    # A statement alone is a transaction, in half the time of one that is begun and committed.
    db.row_factory, db.isolation_level = None, None
    if _version(db) == VERSION:
        return
    # Others may be opening the new file, too: the first one makes it, the rest find it made.
    db.execute("BEGIN IMMEDIATE")
    try:
        if (found := _version(db)) != VERSION:
            _check_is_new(db, found)
            _make(db)
        db.commit()
    except BaseException:
        db.rollback()
        raise


def _version(db: sqlite3.Connection) -> int:
    [version] = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_is_new(db: sqlite3.Connection, version: int) -> None:
    if version == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        return
    [_, _, path] = db.execute("PRAGMA database_list").fetchone()
    raise UserError(
        f"{path} was made by another version of Conclave, or by another program: its tables are of "
        f"version {version}, and those of this one of {VERSION}. {NAME_ANOTHER}"
    )


def _make(db: sqlite3.Connection) -> None:
    for table, columns in _TABLES.items():
        db.execute(f"CREATE TABLE {table} ({columns})")
        if table in _MAY_CHANGE:
            continue
        for change in ("UPDATE",) if table in _MAY_BE_DELETED else ("UPDATE", "DELETE"):
            _forbid(db, f"{change.lower()}_{table}", f"{change} ON {table}")
        _guard(db, table)
    for name, columns in _INDEXES.items():
        db.execute(f"CREATE INDEX {name} ON {columns}")
    db.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def without_guards(db: sqlite3.Connection) -> Iterator[None]:
    """Within a transaction, for many plain inserts, which replace nothing: that each of them is
    looked at again is half of what it costs. Nobody else sees the file without its guards."""
    guarded = [table for table in _TABLES if table not in _MAY_CHANGE]
    for table in guarded:
        db.execute(f"DROP TRIGGER no_replace_{table}")
    yield
    for table in guarded:
        _guard(db, table)


def _guard(db: sqlite3.Connection, table: str) -> None:
    """REPLACE deletes without asking the trigger on deletes."""
    key = _TABLES[table].split(maxsplit=1)[0]
    there = f"SELECT 1 FROM {table} WHERE {key} = NEW.{key}"  # noqa: S608 (our names)
    _forbid(db, f"replace_{table}", f"INSERT ON {table} WHEN EXISTS ({there})")


def _forbid(db: sqlite3.Connection, name: str, change: str) -> None:
    db.execute(
        f"CREATE TRIGGER no_{name} BEFORE {change} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    )
