"""MMLU-Pro's outputs: ``model_outputs_<model>_5shots.json``, as published in a zip or bare.

A file is a list of questions: ``question_id``, ``question``, ``options``, ``answer`` (a letter),
``category``, ``pred`` (a letter, or null where none was found in the output). Null counts as wrong;
the leaderboard guesses at random instead, so some of its figures are a little higher. Models that
were asked with another number of examples carry it in their name. No tokens, no costs.

Read from: github.com/TIGER-AI-Lab/MMLU-Pro at f418b11 (``evaluate_from_local.py``,
``evaluate_from_api.py`` and 29 files of ``eval_results``; the larger ones could not be had).
Their questions are not all of one version: a few differ in options or key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.answers import with_choices
from eval.outcomes.readers.files import (
    MACOS,
    files_in,
    has_keys,
    head_of,
    list_of,
    open_zip,
    parse_json,
    read_json,
    read_member,
    record_with,
)
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError

FIELDS = ("question_id", "question", "options", "answer", "category", "pred")
PATTERNS = ("**/model_outputs_*.json", "**/model_outputs_*.zip")


def recognises(path: Path) -> bool:
    """By the names of its fields; a zip by those of its first member."""
    return has_keys(head_of(path, *PATTERNS), *FIELDS)


def read(path: Path) -> OutcomeMatrix:
    """One model's file, zipped or not, or a folder of them; nothing is unpacked to disk."""
    gathering = Gathering(path)
    for file in files_in(path, *PATTERNS):
        model = _model(file)
        for name, records in _lists(file):
            for i, record in enumerate(records, 1):
                if isinstance(record, str):
                    continue  # a merged file has the names of categories between its questions
                where = f"{name}, record {i}"
                _add(gathering, record_with(record, FIELDS, where), model, file)
    return gathering.matrix()


def _model(file: Path) -> str:
    """The model in a file's name.

    >>> _model(Path("model_outputs_gpt-4o_5shots.json.zip"))
    'gpt-4o'
    >>> _model(Path("model_outputs_sonnet_0shots_12_01_18.zip"))
    'sonnet-0shots'
    """
    stem = re.sub(r"(\.json)?(\.zip)?$", "", file.name)
    match = re.fullmatch(r"model_outputs_(.+)_(\d+)-?shots.*", stem)
    if not match:
        raise DataError(f"{file}: the name should be model_outputs_<model>_5shots.json or .zip.")
    return match[1] if match[2] == "5" else f"{match[1]}-{match[2]}shots"


def _lists(file: Path) -> Iterator[tuple[str, list[Any]]]:
    if file.suffix != ".zip":
        yield str(file), list_of(read_json(file), str(file))
        return
    with open_zip(file) as archive:
        names = [n for n in archive.namelist() if n.endswith(".json") and not n.startswith(MACOS)]
        if not names:
            raise DataError(f"{file} holds no .json file.")
        for name in names:
            whole = f"{file}/{name}"
            yield whole, list_of(parse_json(read_member(archive, name, whole), whole), whole)


def _add(gathering: Gathering, record: Mapping[str, Any], model: str, file: Path) -> None:
    query_id = gathering.query(
        f"mmlu_pro:{record['question_id']}",
        task=str(record["category"]),
        prompt=with_choices(str(record["question"]), record["options"], "."),
        answer=str(record["answer"]),
    )
    pred = record["pred"] or None
    row = MatrixRow(
        query_id=query_id, model=model, score=float(pred == record["answer"]), pred=pred
    )
    gathering.outcome(row, file)
