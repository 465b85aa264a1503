"""The outcome matrix: who answered what, how well, and at what cost, in one format.

A folder holds ``queries.jsonl`` (``query_id, task, prompt, answer, split``) and ``outcomes.csv``
(``query_id, model, score, pred, input_tokens, output_tokens, cost_usd``), both optionally gzipped;
an empty cell is unknown, and stays unknown: no price is not a price of zero. Readers of other
projects' files are in ``eval/outcomes/readers``; the ledger exports to this format.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from experts.errors import DataError, did_you_mean

NUMBERS = ("score", "input_tokens", "output_tokens", "cost_usd")
_COLUMNS = ("query_id", "model", "score", "pred", "input_tokens", "output_tokens", "cost_usd")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixQuery:
    """One question of a matrix."""

    query_id: str
    task: str
    prompt: str
    answer: str | None = None
    """Reference, where the source tells it."""
    split: str | None = None
    """train, val or test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixRow:
    """One outcome: a model's answer to a question. None is unknown."""

    query_id: str
    model: str
    score: float | None
    pred: str | None = None
    """Extracted final answer; replays of votes and cascades need it."""
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeMatrix:
    """Outcomes of n queries under m models; arrays are (n, m), NaN or None where unknown."""

    queries: tuple[MatrixQuery, ...]
    models: tuple[str, ...]
    score: np.ndarray
    """In [0, 1]; 1 is right."""
    pred: np.ndarray
    """Objects: text or None."""
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    cost_usd: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, rows: np.ndarray) -> Self:
        """These rows; a boolean mask or indices."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            queries=tuple(self.queries[i] for i in index),
            pred=self.pred[index],
            **{name: getattr(self, name)[index] for name in NUMBERS},
        )

    def of_models(self, models: Sequence[str]) -> Self:
        """These models' columns, in this order.

        Raises DataError for one that is named twice and, with the nearest names, for one that the
        matrix does not have.
        """
        if twice := sorted({m for m in models if models.count(m) > 1}):
            raise DataError(f"Named twice: {', '.join(twice)}. Each model plays, or votes, once.")
        for model in models:
            if model not in self.models:
                raise DataError(
                    f"No outcomes of the model {model!r}.{did_you_mean(model, self.models)} "
                    f"Known: {', '.join(self.models)}."
                )
        columns = [self.models.index(m) for m in models]
        return replace(
            self,
            models=tuple(models),
            pred=self.pred[:, columns],
            **{name: getattr(self, name)[:, columns] for name in NUMBERS},
        )

    def complete(self) -> Self:
        """The queries that every model answered. Raises DataError when there is none."""
        known = ~np.isnan(self.score).any(axis=1)
        if not known.any():
            coverage = ", ".join(
                f"{m} {c:.0%}" for m, c in zip(self.models, self.coverage(), strict=True)
            )
            raise DataError(
                f"No question was answered by all {len(self.models)} models ({coverage}). "
                "Leave out the models that answered least."
            )
        return self[known]

    def coverage(self) -> np.ndarray:
        """(m,) share of the queries that each model answered."""
        result: np.ndarray = (~np.isnan(self.score)).mean(axis=0)
        return result

    def split(self, name: str) -> Self:
        """The queries of one split. Raises DataError when it is empty."""
        rows = np.array([q.split == name for q in self.queries], bool)
        if not rows.any():
            found = sorted({str(q.split) for q in self.queries})
            raise DataError(f"The split {name!r} is empty; the queries are of {', '.join(found)}.")
        return self[rows]

    @property
    def tasks(self) -> np.ndarray:
        """(n,) objects."""
        return np.array([q.task for q in self.queries], object)


def matrix_of(
    queries: Iterable[MatrixQuery],
    rows: Iterable[MatrixRow],
    *,
    source: str,
    models: Sequence[str] | None = None,
) -> OutcomeMatrix:
    """Arrange rows; ``source`` is what errors call them; models in order of appearance or given.

    Raises DataError for a query that occurs twice, a row of an unknown query, two rows of one
    query and model, a score outside [0, 1], or a negative count or cost.
    """
    queries = tuple(queries)
    place = {q.query_id: i for i, q in enumerate(queries)}
    if len(place) < len(queries):
        ids = [q.query_id for q in queries]
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"{source}: the query {twice!r} occurs twice. Give each its own id.")
    rows = list(rows)
    names = tuple(models) if models else tuple(dict.fromkeys(r.model for r in rows))
    column = {m: j for j, m in enumerate(names)}
    numbers = {name: np.full((len(queries), len(names)), np.nan) for name in NUMBERS}
    pred = np.full((len(queries), len(names)), None, object)
    seen = np.zeros((len(queries), len(names)), bool)
    for row in rows:
        if row.query_id not in place:
            raise DataError(f"{source}: an outcome of the unknown query {row.query_id!r}.")
        if row.model not in column:
            continue
        i, j = place[row.query_id], column[row.model]
        if seen[i, j]:
            raise DataError(
                f"{source}: two outcomes of {row.model!r} for the query {row.query_id!r}. Keep "
                "one; several samples of a model are models of their own (name, name#2)."
            )
        seen[i, j] = True
        _check_row(row, source)
        pred[i, j] = row.pred
        for name in NUMBERS:
            value = getattr(row, name)
            if value is not None:
                numbers[name][i, j] = value
    return OutcomeMatrix(queries=queries, models=names, pred=pred, **numbers)


def _check_row(row: MatrixRow, source: str) -> None:
    if not (row.model or "").strip():
        raise DataError(f"{source}: an outcome of {row.query_id!r} has no model. Name it.")
    where = f"{source}: {row.model!r} on {row.query_id!r}"
    if row.score is not None and not 0 <= row.score <= 1:
        raise DataError(f"{where}: score {row.score:g} is outside [0, 1]. Rescale the scores.")
    for name in ("input_tokens", "output_tokens", "cost_usd"):
        value = getattr(row, name)
        if value is not None and not 0 <= value < np.inf:
            raise DataError(
                f"{where}: {name} is {value:g}. An unknown value is an empty cell, never "
                "a negative or infinite one."
            )


def read_matrix(folder: Path) -> OutcomeMatrix:
    """Read a folder of the format above.

    Raises DataError that names file, line and what is wrong.
    """
    try:
        return _read_matrix(folder)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{folder}: a gzipped file is broken ({error}). One that was half written or half "
            "fetched looks like this; fetch it again."
        ) from None


def _read_matrix(folder: Path) -> OutcomeMatrix:
    queries_path, outcomes_path = _find(folder, "queries.jsonl"), _find(folder, "outcomes.csv")
    with _opened(queries_path) as lines:
        queries = [_query(line, i, queries_path) for i, line in enumerate(lines, 1) if line.strip()]
    with _opened(outcomes_path) as lines:
        reader = csv.DictReader(lines)
        missing = {"query_id", "model", "score"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{outcomes_path}: the column {sorted(missing)[0]!r} is missing. The first line "
                f"reads {','.join(_COLUMNS)}."
            )
        rows = [_row(cells, i, outcomes_path) for i, cells in enumerate(reader, 2)]
    return matrix_of(queries, rows, source=str(folder))


def write_matrix(matrix: OutcomeMatrix, folder: Path) -> None:
    """Write the format above, gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "queries.jsonl.gz", "wt", encoding="utf-8") as out:
        for q in matrix.queries:
            fields = {name: getattr(q, name) for name in MatrixQuery.__slots__}
            out.write(json.dumps(fields, ensure_ascii=False) + "\n")
    with gzip.open(folder / "outcomes.csv.gz", "wt", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(_COLUMNS)
        writer.writerows(_cells(matrix))


def _cells(matrix: OutcomeMatrix) -> Iterator[list[Any]]:
    for i, query in enumerate(matrix.queries):
        for j, model in enumerate(matrix.models):
            values = {name: getattr(matrix, name)[i, j] for name in NUMBERS}
            if all(np.isnan(v) for v in values.values()) and matrix.pred[i, j] is None:
                continue
            told: Mapping[str, Any] = {
                "query_id": query.query_id,
                "model": model,
                "pred": matrix.pred[i, j] or "",
                **{name: "" if np.isnan(v) else f"{v:.10g}" for name, v in values.items()},
            }
            yield [told[name] for name in _COLUMNS]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name} or {name}.gz; both files of the format are needed.")


def _opened(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _query(line: str, number: int, path: Path) -> MatrixQuery:
    try:
        fields = json.loads(line)
        query = MatrixQuery(
            query_id=str(fields["query_id"]),
            task=str(fields["task"]),
            prompt=str(fields["prompt"]),
            answer=None if fields.get("answer") is None else str(fields["answer"]),
            split=fields.get("split"),
        )
        for name in ("query_id", "prompt"):
            if fields[name] is None:
                raise DataError(f"{path}, line {number}: {name} is null; it must be a text.")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}, line {number}: {error!r}. A line reads "
            '{"query_id": ..., "task": ..., "prompt": ..., "answer": ..., "split": ...}.'
        ) from None
    if query.split is not None and query.split not in SPLITS:
        raise DataError(
            f"{path}, line {number}: split {query.split!r} is none of {', '.join(SPLITS)}."
        )
    return query


def _row(cells: Mapping[str, str], number: int, path: Path) -> MatrixRow:
    def value(name: str) -> float | None:
        text = cells.get(name) or ""
        try:
            return float(text) if text else None
        except ValueError:
            raise DataError(f"{path}, line {number}: {name} is {text!r}, not a number.") from None

    return MatrixRow(
        query_id=cells["query_id"],
        model=cells["model"],
        score=value("score"),
        pred=cells.get("pred") or None,
        input_tokens=value("input_tokens"),
        output_tokens=value("output_tokens"),
        cost_usd=value("cost_usd"),
    )
