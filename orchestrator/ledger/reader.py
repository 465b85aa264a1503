"""What the ledger is asked, by name: nobody else has to know its tables to learn these things."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from experts.sqlite_file import open_private
from experts.values import Arm
from orchestrator.ledger.rows import recorded_call
from orchestrator.ledger.schema import prepare
from orchestrator.ledger.values import BegunCall, Passed, RecordedCall

_CALLS_ALONE = (
    "SELECT c.*, q.messages, NULL AS skill, NULL AS split, NULL AS reference, "
    "NULL AS score, NULL AS score_source FROM calls c JOIN queries q USING (query_id)"
)
"""Rows as ``recorded_call`` takes them, without label and verdict."""


class LedgerReader:
    """The half of a ledger that changes nothing; see ``orchestrator.ledger.Ledger``.

    A base class, since the two halves share a connection and its lock, and whoever writes reads.
    """

    def __init__(self, path: Path | str) -> None:
        """Raises UserError where the file cannot be used, or is of another version."""
        self.path = path
        self._lock = threading.Lock()
        self._db = open_private(path, prepare, use="as a ledger")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def settle(self) -> None:
        """Wait until all that was recorded here is in the tables; at once, but where it goes there
        by a spool."""

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Any reading query, as dictionaries."""
        self.settle()
        return self._rows_now(query, arguments)

    def _rows_now(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Those that are in the tables: perhaps not yet those of the last moment."""
        with self._lock:
            cursor = self._db.execute(query, tuple(arguments))
            names = [d[0] for d in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

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
            yield recorded_call(row)

    def position(self) -> dict[str, Any]:
        """Which ledger this is, and its latest verdict: what is fitted now has seen so much."""
        first = self.rows("SELECT query_id, at FROM queries ORDER BY rowid LIMIT 1")
        told = json.dumps([list(row.values()) for row in first])
        [last] = self.rows("SELECT COALESCE(MAX(verdict_id), 0) AS id FROM verdicts")
        return {
            "ledger": hashlib.blake2b(told.encode(), digest_size=8).hexdigest() if first else "",
            "last_verdict_id": last["id"],
        }

    def labelled_skills(self) -> list[str]:
        """Skills that questions are labelled with, the latest label of each, by name."""
        rows = self.rows(
            "SELECT DISTINCT skill FROM labels l WHERE skill IS NOT NULL AND label_id = "
            "(SELECT MAX(label_id) FROM labels m WHERE m.query_id = l.query_id) ORDER BY skill"
        )
        return [row["skill"] for row in rows]

    def verdicts_since(self, verdict_id: int, *, n: int) -> list[dict[str, Any]]:
        """The latest ``n`` verdicts after that one, oldest first, each with what it is on: a call,
        or an answer with its decision, as it was carried out. Those on questions marked as test
        are not among them: nothing is to be learned of these."""
        found = self.rows(
            "SELECT v.*, COALESCE(json_extract(a.decided, '$.scores'), d.scores) AS scores, "
            "a.decided IS NOT NULL AS by_keywords, "
            "q.query_id, q.messages, a.contributors, a.answer, "
            "a.p_correct AS p_answer, c.expert, c.version, c.mode, c.purpose, l.skill "
            "FROM verdicts v "
            "LEFT JOIN calls c ON c.call_id = v.call_id "
            "LEFT JOIN decisions d ON d.decision_id = COALESCE(v.decision_id, c.decision_id) "
            "LEFT JOIN answers a ON a.decision_id = d.decision_id "
            "JOIN queries q ON q.query_id = COALESCE(c.query_id, d.query_id) "
            "LEFT JOIN labels l ON l.label_id = "
            "(SELECT MAX(label_id) FROM labels m WHERE m.query_id = q.query_id) "
            "WHERE v.verdict_id > ? AND COALESCE(l.split, '') != 'test' "
            "ORDER BY v.verdict_id DESC LIMIT ?",
            (verdict_id, n),
        )
        return found[::-1]

    def calls_of_decision(self, decision_id: str) -> list[dict[str, Any]]:
        """What was asked for an answer, oldest first: expert, version, mode, answer, error."""
        return self.rows(
            "SELECT expert, version, mode, answer, error FROM calls WHERE decision_id = ? "
            "AND purpose IN ('answer', 'explore') ORDER BY call_id",
            (decision_id,),
        )

    def completions_of(
        self, query_ids: Sequence[str], *, since_s: float = 0.0
    ) -> list[RecordedCall]:
        """Calls that were made for the answers to these queries, or to learn what they need,
        since then (Unix seconds) and brought something, oldest first."""
        rows = self.rows(
            f"{_CALLS_ALONE} "  # noqa: S608 (our text)
            "WHERE query_id IN (SELECT value FROM json_each(?)) "
            "AND c.purpose IN ('answer', 'judge', 'plan', 'annotate', 'explore') "
            "AND c.at >= ? AND c.error IS NULL "
            "AND c.finish_reason IN ('stop', 'length', 'tool_calls') ORDER BY c.call_id",
            [json.dumps(list(query_ids)), since_s],
        )
        return [recorded_call(row) for row in rows]

    def begun_by(self, run_id: str) -> list[BegunCall]:
        """A durable run's calls, oldest first."""
        rows = self.rows(
            "SELECT b.begun_id, b.at, b.seq, b.digest, b.most_usd, b.expert, b.mode, c.call_id "
            "FROM begun b LEFT JOIN calls c USING (begun_id) WHERE b.run_id = ? "
            "ORDER BY b.begun_id",
            [run_id],
        )
        made = self.rows(
            f"{_CALLS_ALONE} WHERE c.call_id IN (SELECT value FROM json_each(?))",  # noqa: S608
            [json.dumps([row["call_id"] for row in rows if row["call_id"] is not None])],
        )
        known = {row["call_id"]: recorded_call(row).completion for row in made}
        return [
            BegunCall(
                begun_id=row["begun_id"],
                at=row["at"],
                seq=row["seq"],
                arm=Arm(row["expert"], row["mode"]),
                digest=row["digest"],
                most_usd=row["most_usd"],
                completion=known.get(row["call_id"]),
            )
            for row in rows
        ]

    def has_answer(self, decision_id: str) -> bool:
        """Whether what came of a decision is recorded."""
        return bool(self.rows("SELECT 1 FROM answers WHERE decision_id = ?", [decision_id]))

    def response_to(self, key: str, *, since_s: float) -> tuple[str, str] | None:
        """Digest of the request and body of the response that was kept under a key since then
        (Unix seconds)."""
        with self._lock:
            return kept_response(self._db, key, since_s)

    def load_times_s(self, expert: str, version: str, *, n: int = 9) -> list[float]:
        """Seconds of the last loads of these weights, newest first."""
        # What a stand-in's call waited for was another's load.
        rows = self._rows_now(
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

    def total_cost_usd(self) -> float:
        """Every dollar there is: calls and routers."""
        sums = self.rows(
            "SELECT (SELECT COALESCE(SUM(cost_usd), 0) FROM calls) + "
            "(SELECT COALESCE(SUM(router_cost_usd), 0) FROM decisions) AS total"
        )
        return float(sums[0]["total"])

    def spent_usd(self, account: str, since_s: float) -> float:
        """Dollars that an account has spent since then (Unix seconds): calls, failed ones as well,
        and routing."""
        self.settle()
        with self._lock:
            found = self._db.execute(_SPENT, {"account": account, "since_s": since_s}).fetchone()
        return float(found[0])

    def passed(self, *, since_s: float) -> Passed:
        """Answers given since then (Unix seconds) that have a verdict; the latest one counts."""
        [row] = self.rows(_PASSED, [since_s])
        return Passed(n=row["n"], n_right=row["n_right"], cost_usd=row["cost_usd"])

    def explored_usd(self, *, since_s: float) -> float:
        """Dollars of explorations since then: those that are done at what they cost, others at what
        was reserved."""
        with self._lock:
            return spent_exploring_usd(self._db, since_s)


_PASSED = """
SELECT COUNT(*) AS n, COALESCE(SUM(v.score), 0) AS n_right, COALESCE(SUM(a.cost_usd), 0) AS cost_usd
FROM verdicts v JOIN answers a USING (decision_id)
WHERE a.at >= ? AND v.verdict_id =
    (SELECT MAX(verdict_id) FROM verdicts w WHERE w.decision_id = v.decision_id)
"""
_SPENT = """
SELECT COALESCE(SUM(usd), 0) FROM (
    SELECT c.cost_usd AS usd FROM decisions d JOIN calls c USING (decision_id)
    WHERE d.account = :account AND d.account != '' AND c.at >= :since_s
    UNION ALL
    SELECT router_cost_usd FROM decisions
    WHERE account = :account AND account != '' AND at >= :since_s
)
"""
"""With ``account != ''`` twice, so that SQLite sees that the index, of such rows only, will do."""


def spent_exploring_usd(db: sqlite3.Connection, since_s: float) -> float:
    """See ``LedgerReader.explored_usd``. An exploration is done once its decision has an answer."""
    [usd] = db.execute(
        "SELECT SUM(CASE WHEN EXISTS (SELECT 1 FROM answers a WHERE a.decision_id = e.decision_id) "
        "THEN (SELECT COALESCE(SUM(c.cost_usd), 0) FROM calls c WHERE c.decision_id = "
        "e.decision_id AND c.purpose = 'explore') ELSE e.reserved_usd END) "
        "FROM explorations e WHERE e.at >= ?",
        (since_s,),
    ).fetchone()
    return float(usd or 0.0)


def kept_response(db: sqlite3.Connection, key: str, since_s: float) -> tuple[str, str] | None:
    """See ``LedgerReader.response_to``."""
    found: tuple[str, str] | None = db.execute(
        "SELECT request, body FROM responses WHERE idempotency_key = ? AND at >= ?", (key, since_s)
    ).fetchone()
    return found
