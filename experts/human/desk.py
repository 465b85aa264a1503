"""The desk: what people are asked and what they answered, on SQLite.

Whoever asks and whoever answers may be different processes, days apart. Nobody is told of anything
here: askers look again. A question is settled once, by an answer, by the end of its time, or by
being withdrawn; then it stays as it is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experts.errors import UnknownName, UserError
from experts.sqlite_file import open_private
from experts.values import encodable

QuestionState = Literal["waiting", "answered", "late", "withdrawn"]
MAX_ANSWER_CHARS = 100_000
YES, NO = "yes", "no"
_IN_WORDS = {
    "answered": "it is answered already",
    "late": "its time was up",
    "withdrawn": "whoever asked does not wait any more",
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    question_id TEXT PRIMARY KEY,
    asked_at REAL NOT NULL,      -- seconds since 1970, as all times here
    kind TEXT NOT NULL,          -- answer, or approval: yes or no
    expert TEXT NOT NULL,        -- who is asked
    messages TEXT NOT NULL,      -- JSON list of [role, content]
    instructions TEXT NOT NULL,
    price_usd REAL NOT NULL,
    deadline_at REAL NOT NULL,
    run_id TEXT,                 -- the durable run that waits for it
    state TEXT NOT NULL,
    answer TEXT,
    settled_at REAL
);
CREATE INDEX IF NOT EXISTS questions_by_state ON questions (state);
CREATE INDEX IF NOT EXISTS questions_of_run ON questions (run_id) WHERE run_id IS NOT NULL;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a person is asked."""

    question_id: str
    kind: Literal["answer", "approval"] = "answer"
    """approval: yes or no."""
    expert: str
    """Who is asked."""
    messages: tuple[tuple[str, str], ...]
    """The conversation, as (role, text)."""
    instructions: str = ""
    """What the owner wants whoever answers to know."""
    price_usd: float = 0.0
    """What an answer is paid."""
    asked_at: float
    """Seconds since 1970, as all times here."""
    deadline_at: float
    run_id: str | None = None
    """The durable run that waits for it."""
    state: QuestionState = "waiting"
    answer: str | None = None
    settled_at: float | None = None

    @property
    def is_settled(self) -> bool:
        return self.state != "waiting"


class Desk:
    """Questions in one SQLite file; from several threads and processes of one machine."""

    def __init__(self, path: Path | str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._db = open_private(
            path, lambda db: db.executescript(_SCHEMA), use="for questions to people"
        )

    def close(self) -> None:
        with self._lock:  # not under a thread that is reading
            self._db.close()

    # Asking.

    def put(self, question: Question) -> Question:
        """Ask, unless that question is there: then it is as it is on the desk, where the answer may
        have come meanwhile. One that was withdrawn or late is asked anew, unless a run asks:
        that goes on with what became of it."""
        with self._lock, self._db:
            self._settle_late()
            there = self._found(question.question_id)
            if there is not None and (there.run_id or there.state in ("waiting", "answered")):
                return there
            self._db.execute(
                "INSERT OR REPLACE INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    question.question_id,
                    question.asked_at,
                    question.kind,
                    question.expert,
                    json.dumps(question.messages, ensure_ascii=False),
                    question.instructions,
                    question.price_usd,
                    question.deadline_at,
                    question.run_id,
                    question.state,
                    question.answer,
                    question.settled_at,
                ),
            )
            return question

    def look(self, question_id: str) -> Question:
        """The question as it is now. Raises UnknownName."""
        with self._lock, self._db:
            self._settle_late()
            return self._known(question_id)

    def withdraw(self, question_ids: Sequence[str]) -> None:
        """Nobody waits for these any more."""
        with self._lock, self._db:
            self._db.executemany(
                "UPDATE questions SET state = 'withdrawn', settled_at = ? "
                "WHERE question_id = ? AND state = 'waiting'",
                [(self._now(), question_id) for question_id in question_ids],
            )

    # Answering.

    def waiting(self) -> list[Question]:
        """Oldest first."""
        with self._lock, self._db:
            self._settle_late()
            rows = self._db.execute(
                "SELECT * FROM questions WHERE state = 'waiting' ORDER BY asked_at, question_id"
            ).fetchall()
        return [_question(row) for row in rows]

    def of_run(self, run_id: str) -> list[Question]:
        """All that a durable run asked, oldest first."""
        with self._lock, self._db:
            self._settle_late()
            rows = self._db.execute(
                "SELECT * FROM questions WHERE run_id = ? ORDER BY asked_at, question_id", [run_id]
            ).fetchall()
        return [_question(row) for row in rows]

    def answer(self, question_id: str, text: str) -> Question:
        """Settle a question. Raises UserError, which says why, for one that cannot be answered (any
        more), and for what is no answer to it."""
        text = _readable(text)
        with self._lock, self._db:
            self._settle_late()
            question = self._known(question_id)
            if question.is_settled:
                raise UserError(
                    f"{question_id} cannot be answered: {_IN_WORDS[question.state]}. "
                    "See what waits with: conclave human list"
                )
            if question.kind == "approval":
                text = _yes_or_no(text)
            self._db.execute(
                "UPDATE questions SET state = 'answered', answer = ?, settled_at = ? "
                "WHERE question_id = ?",
                (text, self._now(), question_id),
            )
            return self._known(question_id)

    # In a transaction.

    def _settle_late(self) -> None:
        """Written down as soon as it is seen, so that nobody sees it otherwise afterwards."""
        self._db.execute(
            "UPDATE questions SET state = 'late', settled_at = deadline_at "
            "WHERE state = 'waiting' AND deadline_at <= ?",
            [self._now()],
        )

    def _known(self, question_id: str) -> Question:
        found = self._found(question_id)
        if found is None:
            rows = self._db.execute("SELECT question_id FROM questions WHERE state = 'waiting'")
            known = [row["question_id"] for row in rows.fetchall()]
            raise UnknownName(question_id, known, what="question")
        return found

    def _found(self, question_id: str) -> Question | None:
        row = self._db.execute(
            "SELECT * FROM questions WHERE question_id = ?", [question_id]
        ).fetchone()
        return None if row is None else _question(row)


def _question(row: Any) -> Question:
    messages = tuple((role, text) for role, text in json.loads(row["messages"]))
    return Question(**{**dict(row), "messages": messages})


def _readable(text: str) -> str:
    text = text.strip()
    if not text:
        raise UserError("The answer is empty. Put it in quotes behind the question's id.")
    if len(text) > MAX_ANSWER_CHARS:
        raise UserError(f"The answer has {len(text)} characters; at most {MAX_ANSWER_CHARS} fit.")
    try:
        return encodable(text)
    except ValueError as error:
        raise UserError(f"The answer is not text: {error}.") from None


def _yes_or_no(text: str) -> str:
    said = text.lower().rstrip(".!")
    if said in ("y", YES):
        return YES
    if said in ("n", NO):
        return NO
    raise UserError(f"This asks for approval: answer {YES} or {NO} (got {text[:60]!r}).")
