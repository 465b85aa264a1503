"""RouterBench's wide table: one row a question, three columns a model.

Columns: ``sample_id``, ``prompt``, ``eval_name``; per model ``<model>`` (score in [0, 1]),
``<model>|model_response`` and ``<model>|total_cost`` (dollars, estimated by the source);
``oracle_model_to_route_to`` is not needed. A prompt or response is the ``repr`` of a list of texts.
Where not all models were asked in the same words, a question has a row for each wording, with the
scores of those who were asked so. The source extracts no answers, so ``pred`` is the whole
response; it counts no tokens and names no references, and the splits in its ids (``mbpp.dev.1``)
are of the benchmarks, not for routers.

Read from: github.com/withmartian/routerbench at cc67d10 (``convertors/``, ``utils.py``); a listing
of the 37 columns of ``routerbench_0shot.pkl``; CSV slices in github.com/shuhao02/RouterDC at
1963d68 (``datasets/routerbench_zs``), whose first column is a nameless index.
"""

from __future__ import annotations

import ast
import importlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.files import (
    files_in,
    head_of,
    header_of,
    known_cost,
    number,
    read_csv,
    require_columns,
)
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError

NEEDED = ("sample_id", "prompt", "eval_name")
RESPONSE, COST = "|model_response", "|total_cost"
PICKLES = (".pkl", ".pickle")
PATTERNS = ("*.csv", "*.pkl", "*.pickle")


def recognises(path: Path) -> bool:
    """By its columns; a pickle by its name alone, for it must not be opened to be looked at."""
    if path.suffix in PICKLES:
        return True
    header = header_of(head_of(path, "*.csv"))
    return set(NEEDED) <= set(header) and any(c.endswith((RESPONSE, COST)) for c in header)


def read(path: Path, *, allow_pickle: bool = False) -> OutcomeMatrix:
    """A CSV, the published pickle, or a folder of them.

    Raises DataError for a pickle unless ``allow_pickle``: opening one runs the code in it.
    """
    gathering = Gathering(path)
    for file in files_in(path, *PATTERNS):
        models: list[str] | None = None
        for where, cells in _rows(file, allow_pickle=allow_pickle):
            if models is None:
                models = _models(list(cells), file)
            _add(gathering, cells, models, file, where)
    return gathering.matrix()


def _rows(file: Path, *, allow_pickle: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if file.suffix not in PICKLES:
        yield from read_csv(file, NEEDED)
        return
    if not allow_pickle:
        raise DataError(
            f"{file} is a pickle, and opening a pickle runs whatever code is in it. If you trust "
            "those who made it, say --allow-pickle (allow_pickle=True in Python); if not, ask for "
            "a CSV."
        )
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise DataError(
            f"{file} holds a pandas table, and pandas is not installed. pip install pandas, or "
            "write the table as CSV where it is (DataFrame.to_csv)."
        ) from None
    try:
        table = pandas.read_pickle(file)
    except (pickle.UnpicklingError, EOFError) as error:
        raise DataError(f"{file} is no whole pickle ({error}); fetch it again.") from None
    if not hasattr(table, "columns"):
        raise DataError(f"{file} holds a {type(table).__name__} where a table should be.")
    for i, cells in enumerate(table.to_dict("records"), 1):
        if i == 1:
            require_columns(list(cells), NEEDED, file)
        yield f"{file}, row {i}", cells


def _models(columns: Sequence[str], file: Path) -> list[str]:
    models = [c.removesuffix(RESPONSE) for c in columns if c.endswith(RESPONSE)]
    if not models:
        raise DataError(
            f"{file}: no column is named '<model>{RESPONSE}', so no model can be told from the "
            "other columns."
        )
    require_columns(columns, models, file)  # the scores
    return models


def _add(
    gathering: Gathering, cells: Mapping[str, Any], models: Sequence[str], file: Path, where: str
) -> None:
    query_id = gathering.query(
        f"routerbench:{cells['sample_id']}",
        task=str(cells["eval_name"]),
        prompt=_joined(cells["prompt"]),
    )
    for model in models:
        score = number(cells[model], f"the score of {model!r}", where)
        if score is None:
            continue
        cost = cells.get(f"{model}{COST}")
        row = MatrixRow(
            query_id=query_id,
            model=model,
            score=score,
            pred=_joined(cells[f"{model}{RESPONSE}"]).strip() or None,
            cost_usd=known_cost(cost, f"the cost of {model!r}", where),
        )
        gathering.outcome(row, file)


def _joined(cell: object) -> str:
    r"""The texts of a cell, joined by empty lines.

    >>> _joined("['Translate.', 'Guten Tag']")
    'Translate.\n\nGuten Tag'
    >>> _joined("What is [1] + [2]?")
    'What is [1] + [2]?'
    """
    parts = cell
    if isinstance(cell, str) and cell[:2] in ("['", '["') and cell[-2:] in ("']", '"]'):
        try:
            parts = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return cell
    if isinstance(parts, list):
        return "\n\n".join(map(str, parts))
    return parts if isinstance(parts, str) else ""
