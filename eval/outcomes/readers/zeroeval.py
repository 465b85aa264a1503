"""ZeroEval's outputs: ``result_dirs/<task>/<model>.json``, graded here.

A file is a list of questions with ``dataset``, ``id``, ``question`` (``problem`` in math-l5),
``answer`` (``choices`` and ``correct_answer`` in mmlu-redux) and ``output``, a list of texts that
were to end in JSON with an ``"answer"`` field. The source publishes outputs and totals but no
scores. We compare the last ``"answer"`` field, or else the last box, with the reference: numbers as
numbers, Python literals as literals. The source takes the first number that it finds, of "3/2" the
3, and for crux compares text. A further output of a model is a model of its own (``name#2``).

Tasks that no such comparison can grade (zebra-grid, alpaca_eval) are left out, and so are other
ways of asking, which lie a folder deeper (``sampling/``). Models are named as their files,
``@host`` included. No tokens, no costs.

Read from: github.com/WildEval/ZeroEval at 8c1485e (``src/unified_utils.py``, ``src/evaluation`` and
the files of gsm, crux, math-l5 and numersense-v2; those of mmlu-redux could not be had).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.answers import (
    as_letter,
    as_literal,
    as_number,
    final_answer,
    with_choices,
)
from eval.outcomes.readers.files import files_in, has_keys, head_of, list_of, read_json, record_with
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError

FIELDS = ("dataset", "id", "output")
CANONICAL: Mapping[str, Callable[[str], str]] = {
    "gsm": as_number,
    "math-l5": as_number,
    "numersense-v2": as_number,
    "crux": as_literal,
    "mmlu-redux": as_letter,
}
"""By task: an answer in one way of writing. Equal means right; votes can compare them, too."""


def recognises(path: Path) -> bool:
    """By the names of its fields."""
    files = _files(path)
    return bool(files) and has_keys(head_of(files[0]), "session_id", "chat_history", "output")


def read(path: Path) -> OutcomeMatrix:
    """One model's file, a task's folder, or ``result_dirs``."""
    files = _files(path)
    if not files:
        files_in(path, "*.json", "*/*.json")  # says so if there is nothing at all
        raise DataError(
            f"{path} holds none of the tasks that can be graded: {', '.join(CANONICAL)}."
        )
    gathering = Gathering(path)
    for file in files:
        records = read_json(file)
        for i, record in enumerate(list_of(records, str(file)), 1):
            where = f"{file}, record {i}"
            _add(gathering, record_with(record, FIELDS, where), file, where)
    return gathering.matrix()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    below = [file for task in CANONICAL for file in path.glob(f"{task}/*.json")]
    # Beside the tasks lie summaries, which are of no model.
    here = [file for file in path.glob("*.json") if "summary" not in file.name]
    return sorted(below or here)


def _add(gathering: Gathering, record: Mapping[str, Any], file: Path, where: str) -> None:
    task = str(record["dataset"])
    if task not in CANONICAL:
        raise DataError(
            f"{where}: the task {task!r} has no single answer to compare. Graded are "
            f"{', '.join(CANONICAL)}."
        )
    canonical = CANONICAL[task]
    prompt, reference = _question(record, task, where)
    answer = canonical(reference)
    query_id = gathering.query(f"{task}:{record['id']}", task=task, prompt=prompt, answer=answer)
    for sample, output in enumerate(list_of(record["output"], f"{where}, output"), 1):
        found = final_answer(str(output))
        pred = canonical(found) if found is not None else None
        row = MatrixRow(
            query_id=query_id,
            model=file.stem if sample == 1 else f"{file.stem}#{sample}",
            score=float(pred == answer),
            pred=pred,
        )
        gathering.outcome(row, file)


def _question(record: Mapping[str, Any], task: str, where: str) -> tuple[str, str]:
    """Prompt and reference answer."""
    if task == "mmlu-redux":
        record_with(record, ("question", "choices", "correct_answer"), where)
        choices = [str(c) for c in record["choices"]]
        if str(record["correct_answer"]) not in choices:
            raise DataError(f"{where}: correct_answer {record['correct_answer']!r} is no choice.")
        letter = chr(ord("A") + choices.index(str(record["correct_answer"])))
        return with_choices(str(record["question"]), choices, ")"), letter
    field = "problem" if task == "math-l5" else "question"
    record_with(record, (field, "answer"), where)
    return str(record[field]), str(record["answer"])
