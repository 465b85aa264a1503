"""Clients of a server that is killed: each asks until it is answered, always with the same key."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.ledger import Ledger

N_CLIENTS = 8
_TIMEOUT_S = 900.0
_AGAIN_S = 0.1
"""Between a broken connection and the next try."""
_N_REPLAYED = 20
_COME_AGAIN = {502, 503}
"""The server is there, and its experts are not."""


class Clients:
    """Ask a server questions, over and over, from ``N_CLIENTS`` threads."""

    def __init__(self, questions: Sequence[Mapping[str, str]], port: int) -> None:
        """questions: with ``id``, ``question`` and ``model``."""
        self._questions, self._port = questions, port
        self.answers: dict[str, tuple[str, bytes]] = {}
        """Question's id and response, by key."""
        self.n_broken = 0
        """Connections that were lost or refused."""
        self.problems: list[str] = []
        self._n_begun = 0
        self._enough = threading.Event()
        self._gone = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Threads ask while it lasts; on leaving, everybody waits for the answer that is due,
        unless something went wrong."""
        threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            self.stop()
            raise
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """Nobody is asked any more."""
        self._gone.set()

    def check(self, expected: Mapping[str, str], ledger: Path) -> None:
        """Whether everybody has the right answer, once, with one bill for each; to ``problems``.
        Asks some of them again."""
        if len(self.answers) != self._n_begun:
            self.problems.append(f"{self._n_begun} asked, {len(self.answers)} have an answer")
        for key, (question, response) in self.answers.items():
            said = json.loads(response)["choices"][0]["message"]["content"]
            if said != expected[question]:
                self.problems.append(f"{question} ({key}): {said!r}, not {expected[question]!r}")
        for key in list(self.answers)[:_N_REPLAYED]:
            if self._asked(key) != self.answers[key][1]:
                self.problems.append(f"{key}: asked again, it is another response")
        with Ledger(ledger) as books:
            rows = books.rows(
                "SELECT query_id, COUNT(*) AS n FROM calls WHERE query_id LIKE 'key-%' "
                "AND error IS NULL AND finish_reason IN ('stop', 'length') GROUP BY query_id"
            )
            [kept] = books.rows("SELECT COUNT(*) AS n FROM responses")
        bills = Counter(row["n"] for row in rows)
        if bills != {1: len(self.answers)} or kept["n"] != len(self.answers):
            self.problems.append(
                f"{len(self.answers)} answers, {kept['n']} kept, queries by number of bills: "
                f"{dict(bills)}"
            )

    def _ask_on(self) -> None:
        while not self._enough.is_set():
            with self._lock:
                key = f"r{self._n_begun}"
                self._n_begun += 1
            response = self._asked(key)
            if response is not None:
                self.answers[key] = (self._question(key)["id"], response)

    def _question(self, key: str) -> Mapping[str, str]:
        return self._questions[int(key[1:]) % len(self._questions)]

    def _asked(self, key: str) -> bytes | None:
        """The response, whatever it takes; None when there is nobody to give it any more."""
        question = self._question(key)
        body = {
            "model": question["model"],
            "messages": [{"role": "user", "content": question["question"]}],
        }
        while not self._gone.is_set():
            try:
                status, response = self._posted(key, body)
            except (OSError, http.client.HTTPException):
                status, response = 0, b""
            if status == 200:
                return response
            if status and status not in _COME_AGAIN:
                self.problems.append(f"{key}: HTTP {status}: {response[:300]!r}")
                return None
            with self._lock:
                self.n_broken += 1
            time.sleep(_AGAIN_S)
        return None

    def _posted(self, key: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            headers = {"content-type": "application/json", "idempotency-key": key}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
