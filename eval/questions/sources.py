"""Where questions come from: JSONL, CSV, inspect_ai tasks, Hugging Face data sets.

``read_source`` takes what stands on the command line and finds out which it is. Tables of other
people have other columns: ``Columns`` says which is which.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.questions import Question, question_of, read_questions
from experts.errors import DataError, did_you_mean

_FORM = "A row has the columns question and answer; skill, grader, options, split, id if you like."
_PARTS = ("skill", "grader", "split", "id", "also_right")
_SPLITS = {"train": "train", "validation": "val", "val": "val", "dev": "val", "test": "test"}
"""Names of splits that others use, and ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column of a table is what; empty is none."""

    question: str = "question"
    answer: str = "answer"
    options: str = "options"
    skill: str = "skill"


DEFAULT_COLUMNS = Columns()


def read_source(
    source: str,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    default_grader: str | None = None,
    limit: int | None = None,
) -> list[Question]:
    """Questions of ``file.jsonl``, ``file.csv``, ``hf:NAME[:config][:split]``, an inspect_ai task
    as ``inspect:NAME`` (a registry name) or ``task.py[@name]``.

    default_grader: for questions that name none. limit: only the first so many. Raises DataError
    that names the place and what is wrong, and ConfigError for an extra that is not installed.
    """
    path = Path(source)
    if source.startswith("hf:"):
        from eval.questions.hub import read_hub

        rows, name = read_hub(source.removeprefix("hf:"), limit), source
        found = questions_of_rows(rows, name, columns, default_grader)
    elif source.startswith("inspect:") or path.name.partition("@")[0].endswith(".py"):
        from eval.questions.inspect_tasks import read_task

        found = read_task(source.removeprefix("inspect:"), default_grader, limit)
    elif path.suffix.lower() in (".csv", ".tsv"):
        found = questions_of_rows(read_csv(path), str(path), columns, default_grader)
    else:
        found = [_graded(q, default_grader) for q in read_questions(path)]
    return found[:limit]


def questions_of_rows(
    rows: Iterable[Mapping[str, Any]],
    name: str,
    columns: Columns = DEFAULT_COLUMNS,
    default_grader: str | None = None,
) -> list[Question]:
    """Questions of a table's rows; ``name`` is what errors call it. Other columns are passed
    over."""
    questions = []
    for i, row in enumerate(rows, start=1):
        where = f"{name}, row {i}"
        for wanted in (columns.question, columns.answer):
            if wanted not in row:
                raise DataError(
                    f"{where}: there is no column {wanted!r}.{did_you_mean(wanted, row)} There "
                    f"are {', '.join(row)}. Say which it is with --question-column and "
                    "--answer-column."
                )
        fields = {part: row[part] for part in _PARTS if row.get(part) not in (None, "")}
        fields |= {"question": row[columns.question], "answer": row[columns.answer]}
        if row.get(columns.skill) not in (None, ""):
            fields["skill"] = row[columns.skill]
        if (options := _options(row.get(columns.options), where)) is not None:
            fields["options"] = options
        elif not isinstance(fields["answer"], str):
            fields["answer"] = str(fields["answer"])
        if "also_right" in fields:
            fields["also_right"] = _options(fields["also_right"], where)
        if (split := str(fields.get("split", ""))) in _SPLITS:
            fields["split"] = _SPLITS[split]
        questions.append(_graded(question_of(fields, where, _FORM), default_grader))
    if not questions:
        raise DataError(f"{name} holds no questions.")
    return questions


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, or of a TSV one by its ending."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            return list(csv.DictReader(file, delimiter=delimiter, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _options(cell: Any, where: str) -> list[str] | None:
    """Of a list, a JSON list, or a text with ``|`` between them; None where there are none."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, str):
        if cell.lstrip().startswith("["):
            try:
                cell = json.loads(cell)
            except ValueError:
                raise DataError(
                    f'{where}: {cell[:60]!r} is no JSON list. Write ["a", "b"], or a | b.'
                ) from None
        else:
            cell = [part.strip() for part in cell.split("|")]
    return [str(option) for option in cell]


def _graded(question: Question, default_grader: str | None) -> Question:
    """With the default grader where the source names none."""
    named = "grader" in question.model_fields_set and not question.options
    if default_grader is None or named:
        return question
    if question.options and question.grader != "choice":
        return question
    return question.model_copy(update={"grader": default_grader})
