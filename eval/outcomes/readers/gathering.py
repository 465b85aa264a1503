"""Gathering: queries and outcomes of one source, as they turn up in its files, into one matrix.

Files of one benchmark may come from different versions of it. Another prompt, or another reference
answer, under a known id is another question: it is kept under ``id~2``, so that models which were
asked different things are never compared, and nothing is lost. Models that were asked the other
one have NaN there (``OutcomeMatrix.complete`` leaves such questions out).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eval.outcomes.matrix import MatrixQuery, MatrixRow, OutcomeMatrix, matrix_of
from eval.outcomes.splits import split_of
from experts.errors import DataError


class Gathering:
    """Queries and outcomes, to which readers add."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._queries: dict[str, MatrixQuery] = {}
        self._rows: dict[tuple[str, str], tuple[MatrixRow, Path]] = {}

    def query(self, query_id: str, *, task: str, prompt: str, answer: str | None = None) -> str:
        """Note a question; returns the id to file outcomes under."""
        prompt = prompt.strip()
        name, version = query_id, 1
        while (known := self._queries.get(name)) is not None:
            if known.prompt == prompt and (answer in (None, known.answer) or known.answer is None):
                if known.answer is None and answer is not None:
                    self._queries[name] = replace(known, answer=answer)
                return name
            version += 1
            name = f"{query_id}~{version}"
        self._queries[name] = MatrixQuery(
            query_id=name, task=task, prompt=prompt, answer=answer, split=split_of(prompt)
        )
        return name

    def outcome(self, row: MatrixRow, file: Path) -> None:
        """Note an outcome. Raises DataError, naming both files, for a second one."""
        key = (row.query_id, row.model)
        if key in self._rows:
            first = self._rows[key][1]
            where = "is there, too" if first == file else f"is in {first}"
            raise DataError(
                f"{file}: a second outcome of {row.model!r} for the query {row.query_id!r}; the "
                f"first {where}. Keep one; several samples of a model are models of their own "
                "(name, name#2)."
            )
        self._rows[key] = (row, file)

    def matrix(self) -> OutcomeMatrix:
        """All of it. Raises DataError when nothing was found, or nothing with a score."""
        rows = [row for row, _ in self._rows.values()]
        if not rows:
            raise DataError(f"{self.source} holds no outcomes.")
        if all(row.score is None for row in rows):
            raise DataError(
                f"{self.source}: none of the {len(rows)} outcomes has a score. Score them with "
                "the project that they come from, then read again."
            )
        return matrix_of(self._queries.values(), rows, source=str(self.source))
