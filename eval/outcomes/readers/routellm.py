"""RouteLLM's pair: who of a strong and a weak model was right on MMLU and GSM8K.

``mmlu/responses/mmlu_<subject>.csv`` has ``prompt`` and a column of True and False per model;
``gsm8k/gsm8k_responses.csv`` also has ``<model>_response``. No references, tokens or costs. A row
has no id, so its number is one. Prompts that the source calls contaminated (those like some of its
training data) are kept; ``contaminated_prompts.jsonl`` beside the files lists them.

Read from: github.com/lm-sys/RouteLLM at 0b64fda (``routellm/evals``: ``benchmarks.py``,
``gsm8k/generate_responses.py`` and all 58 CSV files).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.files import files_in, head_of, header_of, number, read_csv
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError

RESPONSE = "_response"
PATTERNS = ("**/mmlu_*.csv", "**/gsm8k_responses.csv")


def recognises(path: Path) -> bool:
    """By its columns: prompt, and two models with or without their responses."""
    header = header_of(head_of(path, *PATTERNS))
    return header[:1] == ["prompt"] and len(_models(header)) == 2


def read(path: Path) -> OutcomeMatrix:
    """One CSV, or ``routellm/evals`` or any folder above or below it."""
    gathering = Gathering(path)
    for file in files_in(path, *PATTERNS):
        subject = file.stem.removeprefix("mmlu_")
        task = "gsm8k" if file.stem == "gsm8k_responses" else f"mmlu/{subject}"
        for i, (where, cells) in enumerate(read_csv(file, ["prompt"])):
            models = _models(list(cells))
            if len(models) != 2:
                raise DataError(
                    f"{file}: {len(models)} models ({', '.join(models)}) where the format has a "
                    "strong and a weak one."
                )
            query_id = gathering.query(
                f"routellm:{task.replace('/', ':')}:{i:04}", task=task, prompt=cells["prompt"]
            )
            for model in models:
                row = MatrixRow(
                    query_id=query_id,
                    model=model,
                    score=number(cells[model], f"the cell of {model!r}", where),
                    pred=_last_number(cells.get(f"{model}{RESPONSE}", "")),
                )
                gathering.outcome(row, file)
    return gathering.matrix()


def _models(header: Sequence[str]) -> list[str]:
    responses = {c for c in header if c.endswith(RESPONSE) and c.removesuffix(RESPONSE) in header}
    return [c for c in header if c != "prompt" and c not in responses]


def _last_number(response: str) -> str | None:
    """What the source compares: the last run of digits, thousands separators removed."""
    numbers = re.findall(r"\d+", response.replace(",", ""))
    return numbers[-1] if numbers else None
