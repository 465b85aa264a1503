"""The ledger as it is written: what is added, in which transactions."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experts.errors import DataError
from experts.values import Completion, Query
from orchestrator.ledger.reader import LedgerReader, kept_response, spent_exploring_usd
from orchestrator.ledger.rows import call_row, label_row, query_row
from orchestrator.ledger.spool import Rows, insertion, move_left
from orchestrator.ledger.values import Label, Verdict

_SHOWN_CHARS = 60


class Ledger(LedgerReader):
    """One SQLite file in WAL mode; ``":memory:"`` for a ledger that is not kept.

    Safe to use from several threads of a process, and from several processes on one machine.
    """

    def __init__(self, path: Path | str) -> None:
        """As ``LedgerReader``; what servers that died have left beside the file is in it then."""
        super().__init__(path)
        if isinstance(path, Path):
            with self._lock:
                move_left(self._db, path)

    def record(self, rows: Rows) -> None:
        """Record rows of any tables, whose keys are new: what is written on a request's path."""
        with self._transaction() as db:
            for table, of_table in rows.items():
                for row in of_table:
                    _inserted(db, table, row)

    def record_decisions(
        self, queries: Sequence[Query], rows: Sequence[Mapping[str, Any]], *, source: str
    ) -> None:
        """As ``add_decisions``, of queries whose ids were made for them."""
        self.add_decisions(queries, rows, source=source)

    def record_calls(
        self,
        completions: Sequence[Completion],
        decision_ids: Sequence[str | None],
        *,
        versions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """As ``add_calls``, for who does not need the ids."""
        rows = zip(completions, decision_ids, strict=True)
        self.record({"calls": [call_row(c, d, versions, None) for c, d in rows]})

    def record_answers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """As ``add_answers``."""
        at = time.time()
        self.record({"answers": [{**row, "at": at} for row in rows]})

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
        begun_ids: Sequence[int] | None = None,
    ) -> list[int]:
        """Record calls, in one transaction.

        ``versions`` gives the version of each expert's weights; ``begun_ids`` what ``begin`` gave.
        Returns the calls' ids.
        """
        begun: Sequence[int | None] = begun_ids or [None] * len(completions)
        rows = [
            call_row(c, decision, versions, begun_id)
            for c, decision, begun_id in zip(completions, decision_ids, begun, strict=True)
        ]
        if len(rows) == 1:
            with self._lock:
                return [_inserted(self._db, "calls", rows[0])]
        with self._transaction() as db:
            return [_inserted(db, "calls", row) for row in rows]

    def begin(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Record calls that are about to be made, in one transaction; their ``begun_id``s.

        ``rows`` have the columns of the table ``begun``, without ``at``.
        """
        with self._transaction() as db:
            return [_inserted(db, "begun", {**row, "at": time.time()}) for row in rows]

    def add_answers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record answers, in one transaction; ``rows`` have the columns of the table, without
        ``at``."""
        with self._transaction() as db:
            for row in rows:
                _inserted(db, "answers", {**row, "at": time.time()})

    def add_response(self, key: str, request: str, body: str) -> None:
        """Keep a response for who asks again; the first one of a key stays."""
        with self._transaction() as db:
            if kept_response(db, key, 0.0) is None:
                row = {"idempotency_key": key, "at": time.time(), "request": request, "body": body}
                _inserted(db, "responses", row)

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Record verdicts on calls; earlier ones stay, and count no more."""
        with self._transaction() as db:
            for v in verdicts:
                row = {"call_id": v.call_id, "score": v.score, "source": v.source}
                _inserted(db, "verdicts", {**row, "at": time.time()})

    def add_feedback(
        self, decision_id: str, score: float, comment: str | None, *, caller: str = ""
    ) -> bool:
        """Record a verdict on an answer; False when there is no such decision. caller: digest of
        who says so; empty where nobody is told from anybody else."""
        with self._transaction() as db:
            known = db.execute(
                "SELECT 1 FROM decisions WHERE decision_id = ?", (decision_id,)
            ).fetchone()
            if known:
                row = {
                    "at": time.time(), "decision_id": decision_id, "score": score,
                    "source": "feedback", "comment": comment, "caller": caller,
                }  # fmt: skip
                _inserted(db, "verdicts", row)
            return known is not None

    def reserve_exploration(
        self, row: Mapping[str, Any], *, since_s: float, budget_usd: float
    ) -> bool:
        """Record an exploration if what was spent and reserved since then (Unix seconds) leaves
        room for it; ``row`` has the columns of the table. Two processes cannot take the same
        dollar."""
        with self._transaction() as db:
            reserved_usd = float(row["reserved_usd"])
            fits = spent_exploring_usd(db, since_s) + reserved_usd <= budget_usd
            if fits:
                _inserted(db, "explorations", row)
            return fits

    def drop_responses(self, *, before_s: float) -> None:
        """Forget responses that were kept before then (Unix seconds)."""
        with self._transaction() as db:
            db.execute("DELETE FROM responses WHERE at < ?", (before_s,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.settle()
        with self._lock:
            # At once, so that nobody else writes between what is read here and what is written.
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise


def _add_query(db: sqlite3.Connection, query: Query, source: str) -> None:
    asked = query_row(query, source)
    row = db.execute(
        "SELECT messages FROM queries WHERE query_id = ?", (query.query_id,)
    ).fetchone()
    if row is None:
        _inserted(db, "queries", asked)
    elif row[0] != asked["messages"]:
        raise DataError(
            f"The id {query.query_id!r} stands for another question in the ledger: "
            f"{_shortened(row[0])}. Give the new one another id, or none."
        )


def _add_label(db: sqlite3.Connection, query_id: str, label: Label) -> None:
    row = label_row(label)
    latest = db.execute(
        "SELECT skill, reference, split FROM labels WHERE query_id = ? "
        "ORDER BY label_id DESC LIMIT 1",
        (query_id,),
    ).fetchone()
    if latest != tuple(row.values()):
        _inserted(db, "labels", {"at": time.time(), "query_id": query_id, **row})


def _inserted(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    cursor = db.execute(insertion(table, tuple(row)), tuple(row.values()))
    return int(cursor.lastrowid or 0)


def _shortened(messages: str) -> str:
    text = json.loads(messages)[-1][1]
    return repr(text if len(text) < _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
