"""RouterArena's cached results: ``cached_results/<model>.jsonl``, one line a question.

Fields: ``global_index`` ("AIME_112"; the dataset is what stands before the last underscore),
``question`` (as it was asked), ``success``, ``token_usage`` and ``evaluation_result``: its
``extracted_answer``, ``ground_truth``, ``score``, ``metric`` and ``inference_cost`` (dollars), or
null until the source's own evaluation ran. A call that failed, or whose evaluation did (``metric``
"error"), has no score here: the source's 0 would call the model wrong. The model is the file's
name.

Read from: github.com/RouteWorks/RouterArena at 4714a9a (``llm_inference/pipeline.py``,
``llm_evaluation/evaluate_models.py`` and two files of ``cached_results``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.answers import last_boxed
from eval.outcomes.readers.files import (
    files_in,
    has_keys,
    head_of,
    known_cost,
    number,
    read_json_lines,
    record_with,
    text,
)
from eval.outcomes.readers.gathering import Gathering

FIELDS = ("global_index", "question", "success", "token_usage", "evaluation_result")
JUDGED = ("extracted_answer", "ground_truth", "score", "metric", "inference_cost")
NO_REFERENCE = "See dataset for testcases"  # what stands for the tests of LiveCodeBench


def recognises(path: Path) -> bool:
    """By the names of its fields."""
    return has_keys(head_of(path, "*.jsonl"), "global_index", "question", "evaluation_result")


def read(path: Path) -> OutcomeMatrix:
    """One model's file, or a folder of them."""
    gathering = Gathering(path)
    for file in files_in(path, "*.jsonl"):
        for where, line in read_json_lines(file):
            _add(gathering, record_with(line, FIELDS, where), file, where)
    return gathering.matrix()


def _add(gathering: Gathering, record: Mapping[str, Any], file: Path, where: str) -> None:
    judged: Mapping[str, Any] = {}
    if record["evaluation_result"] is not None:
        judged = record_with(record["evaluation_result"], JUDGED, where)
    reference = text(judged.get("ground_truth"))
    index = str(record["global_index"])
    query_id = gathering.query(
        f"routerarena:{index}",
        task=index.rpartition("_")[0] or index,
        prompt=str(record["question"]),
        answer=None if reference == NO_REFERENCE else reference,
    )
    answered = bool(record["success"])
    scored = answered and judged.get("metric") != "error"
    score = number(judged.get("score"), "score", where) if scored else None
    if score is not None and judged["metric"] == "meteor_score":
        # Their METEOR can fall below 0 (-0.033 is published): its penalty is not capped.
        score = max(score, 0.0)
    usage = record["token_usage"] or {}
    answer = text(judged.get("extracted_answer")) or ""
    row = MatrixRow(
        query_id=query_id,
        model=file.stem,
        score=score,
        # "Extracted" is the whole text in the published files; they ask for a box.
        pred=(last_boxed(answer) or answer.strip() or None) if scored else None,
        input_tokens=number(usage.get("input_tokens"), "input_tokens", where) if answered else None,
        output_tokens=number(usage.get("output_tokens"), "output_tokens", where)
        if answered
        else None,
        cost_usd=known_cost(judged.get("inference_cost"), "inference_cost", where),
    )
    gathering.outcome(row, file)
