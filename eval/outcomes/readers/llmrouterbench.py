"""LLMRouterBench's results: ``results/bench/<dataset>/<split>/<model>/<timestamp>.json``.

A file is one run of a model on a dataset: ``model_name``, ``dataset_name``, ``split``, ``demo`` and
``records`` (``index``, ``origin_query``, ``prompt``, ``prediction``, ``ground_truth``, ``score``,
``prompt_tokens``, ``completion_tokens``, ``cost`` in dollars). As in the source, demo runs are left
out and of several runs the latest counts. Unlike the source, a null score is unknown, not 0, and so
is a cost of 0: it is what the source writes for models that it has no price for. ``split`` is the
dataset's own, nearly always "test", and its routers are split anew by prompt; so are ours.

Read from: github.com/ynulihao/LLMRouterBench at 0e267fb (``data_collector/storage.py`` and
``runner.py``, ``baselines/data_loader.py``, ``generators/generator.py``). The results themselves
are not in the repository, so no published file was seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.files import (
    files_in,
    has_keys,
    head_of,
    known_cost,
    list_of,
    number,
    read_json,
    record_with,
    text,
)
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError

FIELDS = ("model_name", "dataset_name", "split", "records")
RECORD_FIELDS = ("index", "prompt", "score")


def recognises(path: Path) -> bool:
    """By the names of its fields."""
    return has_keys(head_of(path, "**/*.json"), *FIELDS)


def read(path: Path) -> OutcomeMatrix:
    """One run, or a folder of them, however deep."""
    gathering = Gathering(path)
    for file in _latest(files_in(path, "**/*.json")):
        run = record_with(read_json(file), FIELDS, str(file))
        if run.get("demo"):
            if path == file:
                raise DataError(f"{file} is a demo run, over a part of the dataset; read a whole.")
            continue
        for i, record in enumerate(list_of(run["records"], str(file)), 1):
            where = f"{file}, record {i}"
            _add(gathering, run, record_with(record, RECORD_FIELDS, where), file, where)
    return gathering.matrix()


def _latest(files: list[Path]) -> list[Path]:
    """Of files that differ in the time in their names, the last that is no demo."""
    latest: dict[Path, Path] = {}
    for file in sorted(files):
        run = file.with_name(re.sub(r"\d{8}_\d{6}\.json$", "", file.name) or "run")
        if run not in latest or not _is_demo(file):
            latest[run] = file
    return list(latest.values())


def _is_demo(file: Path) -> bool:
    return re.search(r'"demo"\s*:\s*true', head_of(file)) is not None


def _add(
    gathering: Gathering,
    run: Mapping[str, Any],
    record: Mapping[str, Any],
    file: Path,
    where: str,
) -> None:
    if not record["prompt"]:
        return  # the source's placeholder for a record whose processing broke
    dataset, split = str(run["dataset_name"]), str(run["split"])
    query_id = gathering.query(
        f"{dataset}/{split}:{record['index']}",
        task=dataset,
        prompt=str(text(record["prompt"])),
        answer=text(record.get("ground_truth")),
    )
    tokens_in = number(record.get("prompt_tokens"), "prompt_tokens", where)
    tokens_out = number(record.get("completion_tokens"), "completion_tokens", where)
    called = bool(tokens_in or tokens_out)  # both are 0 where the call failed
    row = MatrixRow(
        query_id=query_id,
        model=str(run["model_name"]),
        score=number(record["score"], "score", where),
        pred=text(record.get("prediction")),
        input_tokens=tokens_in if called else None,
        output_tokens=tokens_out if called else None,
        cost_usd=known_cost(record.get("cost"), "cost", where),
    )
    gathering.outcome(row, file)
