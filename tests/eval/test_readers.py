"""Other projects' outcome files become matrices; broken ones are refused with help.

The files are made here, tiny, with the field names of the published ones.
"""

from __future__ import annotations

import csv
import json
import os
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.outcomes.matrix import MatrixQuery, MatrixRow, matrix_of, write_matrix
from eval.outcomes.readers import READERS, inspect_ai, read_outcomes
from eval.outcomes.splits import split_of
from experts.errors import DataError

UNKNOWN = pytest.approx(float("nan"), nan_ok=True)


# The files, as they are published.


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_zip(path: Path, members: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, json.dumps(value))
    return path


def routerbench_row(sample_id: str = "mbpp.dev.1", **changed: Any) -> dict[str, Any]:
    return {
        "": 7,
        "sample_id": sample_id,
        "prompt": str([f"Write a function: {sample_id}."]),
        "eval_name": "mbpp",
        "gpt-4": 1.0,
        "small": 0.25,
        "gpt-4|model_response": "['def f():\\n    return 1']",
        "small|model_response": "[' B ']",
        "gpt-4|total_cost": 0.002,
        "small|total_cost": 0.0001,
        "oracle_model_to_route_to": "gpt-4",
        **changed,
    }


def routerarena_line(index: str = "AIME_112", **changed: Any) -> dict[str, Any]:
    judged = {
        "extracted_answer": "So it is \\boxed{{610}}.",
        "ground_truth": "610",
        "score": 1.0,
        "metric": "math_metric",
        "inference_cost": 0.00024,
    }
    known = {key: changed.pop(key) for key in list(changed) if key in judged}
    return {
        "global_index": index,
        "question": f"Question {index}?",
        "llm_selected": "haiku",
        "generated_answer": "So it is \\boxed{{610}}.",
        "token_usage": {"input_tokens": 349, "output_tokens": 120, "total_tokens": 469},
        "success": True,
        "provider": "anthropic",
        "error": None,
        "evaluation_result": {**judged, **known},
        **changed,
    }


def llmrouterbench_run(model: str, *records: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "performance": 1.0,
        "time_taken": 2.5,
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "cost": 0.001,
        "counts": len(records),
        "model_name": model,
        "dataset_name": "aime",
        "split": "test",
        "demo": False,
        "extra_metrics": {},
        "data_fingerprint": "",
        "records": list(records),
        **changed,
    }


def llmrouterbench_record(index: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "index": index,
        "origin_query": f"What is {index} + {index}?",
        "prompt": f"Question: what is {index} + {index}?",
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "cost": 0.001,
        "score": 1.0,
        "prediction": "2",
        "ground_truth": 2,
        "raw_output": "... 2",
        "extra_fields": {},
        **changed,
    }


def routellm_row(prompt: str = "2 + 2?\nA. 3\nB. 4", **changed: Any) -> dict[str, Any]:
    return {"prompt": prompt, "mixtral": False, "gpt-4": True, **changed}


def mmlu_pro_record(question_id: int = 70, **changed: Any) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "question": f"Which is right ({question_id})?",
        "options": ["Fear", "Joy"],
        "answer": "B",
        "answer_index": 1,
        "cot_content": "",
        "category": "business",
        "src": "ori_mmlu-business_ethics",
        "pred": "B",
        "generated_text": " ... The answer is (B).",
        **changed,
    }


def zeroeval_record(task: str = "gsm", number: int = 0, **changed: Any) -> dict[str, Any]:
    return {
        "session_id": f"{task}-test-#{number}",
        "chat_history": ["\n## Question: ..."],
        "model_input": "n/a",
        "output": ['```json\n{"reasoning": "9 x 2", "answer": "$18.00"}\n```'],
        "generator": "cohere/command-r",
        "configs": {"engine": "cohere", "temperature": 0.0},
        "dataset": task,
        "id": f"{task}-test-#{number}",
        "question": f"How much is it ({number})?",
        "answer": "# 18",
        **changed,
    }


def inspect_sample(sample_id: int = 1, epoch: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "id": sample_id,
        "epoch": epoch,
        "input": f"What is {sample_id} + {sample_id}?",
        "target": "2",
        "messages": [],
        "output": {"model": "gpt-4o-mini-2024-07-18", "choices": []},
        "scores": {"match": {"value": "C", "answer": "2", "explanation": "2"}},
        "metadata": {},
        "store": {},
        "events": [],
        "model_usage": {
            "openai/gpt-4o-mini": {"input_tokens": 64, "output_tokens": 2, "total_tokens": 66}
        },
        "attachments": {},
        **changed,
    }


def inspect_header(model: str = "openai/gpt-4o-mini", status: str = "success") -> dict[str, Any]:
    return {
        "version": 2,
        "status": status,
        "eval": {"task": "sums", "model": model, "config": {}, "dataset": {"samples": 2}},
        "plan": {"name": "plan", "steps": []},
        "results": {"scores": [{"name": "match", "scorer": "match"}]},
        "stats": {},
    }


def write_eval(path: Path, header: dict[str, Any], *samples: dict[str, Any]) -> Path:
    members = {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples}
    start = {"version": 2, "eval": header["eval"], "plan": header["plan"]}
    return write_zip(
        path, {"_journal/start.json": start, **members, "summaries.json": [], "header.json": header}
    )


# Each reader gives the right matrix.


def test_routerbench_tables_are_read_with_scores_responses_and_dollars(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "routerbench_0shot.csv",
        [routerbench_row(), routerbench_row("mbpp.dev.2", small="", eval_name="mbpp")],
    )
    matrix = read_outcomes(path)
    assert matrix.models == ("gpt-4", "small")
    assert matrix.score.tolist() == [[1, 0.25], [1, UNKNOWN]]
    assert matrix.cost_usd.tolist() == [[0.002, 0.0001], [0.002, UNKNOWN]]
    assert matrix.pred.tolist()[0] == ["def f():\n    return 1", "B"]
    assert np.isnan(matrix.input_tokens).all()
    query = matrix.queries[0]
    assert (query.query_id, query.task) == ("routerbench:mbpp.dev.1", "mbpp")
    assert query.prompt == "Write a function: mbpp.dev.1."
    assert query.split == split_of(query.prompt)


def test_a_question_asked_in_two_wordings_is_two_queries(tmp_path: Path) -> None:
    other = routerbench_row(prompt="['Write another.']", small=1.0, **{"gpt-4": ""})
    path = write_table(tmp_path / "table.csv", [routerbench_row(small=""), other])
    matrix = read_outcomes(path)
    assert [q.query_id for q in matrix.queries] == [
        "routerbench:mbpp.dev.1",
        "routerbench:mbpp.dev.1~2",
    ]
    assert matrix.score.tolist() == [[1, UNKNOWN], [UNKNOWN, 1]]


def test_a_pickle_is_read_when_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = routerbench_row(small=float("nan"), prompt=["Write", "it."])
    table = SimpleNamespace(columns=list(row), to_dict=lambda orient: [row])
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(read_pickle=lambda file: table))
    (tmp_path / "routerbench_0shot.pkl").write_bytes(b"...")
    matrix = read_outcomes(tmp_path / "routerbench_0shot.pkl", allow_pickle=True)
    assert matrix.score.tolist() == [[1]]
    assert matrix.queries[0].prompt == "Write\n\nit."


def test_routerarena_results_are_read_from_a_folder(tmp_path: Path) -> None:
    lines = [routerarena_line(), routerarena_line("MMLUPro_computer science_7", score=0.0)]
    write_lines(tmp_path / "haiku.jsonl", lines)
    write_lines(tmp_path / "flash.jsonl", [routerarena_line()])
    matrix = read_outcomes(tmp_path)
    assert matrix.models == ("flash", "haiku")
    assert matrix.score.tolist() == [[1, 1], [UNKNOWN, 0]]
    assert matrix.pred[0].tolist() == ["610", "610"]
    assert matrix.input_tokens[0].tolist() == [349, 349]
    assert matrix.cost_usd[1].tolist() == [UNKNOWN, 0.00024]
    assert matrix.tasks.tolist() == ["AIME", "MMLUPro_computer science"]
    assert matrix.queries[0].answer == "610"


def test_a_call_that_failed_says_nothing_about_its_model(tmp_path: Path) -> None:
    none = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    path = write_lines(
        tmp_path / "haiku.jsonl",
        [
            routerarena_line("AIME_1"),
            routerarena_line("AIME_2", success=False, token_usage=none, evaluation_result=None),
            routerarena_line("AIME_3", metric="error", score=0.0, inference_cost=0.0),
            routerarena_line("AIME_4", evaluation_result=None),
        ],
    )
    matrix = read_outcomes(path)
    assert matrix.score[:, 0].tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert matrix.input_tokens[:, 0].tolist() == [349, UNKNOWN, 349, 349]


def test_routerarena_meteor_below_zero_is_zero(tmp_path: Path) -> None:
    line = routerarena_line("NarrativeQA_4102", metric="meteor_score", score=-0.033)
    assert read_outcomes(write_lines(tmp_path / "haiku.jsonl", [line])).score.tolist() == [[0]]


def test_llmrouterbench_reads_the_latest_whole_run(tmp_path: Path) -> None:
    folder = tmp_path / "bench" / "aime" / "test" / "gpt-5"
    wrong = llmrouterbench_record(score=0.0)
    for name, run in {
        "aime-test-gpt-5-20250101_120000.json": llmrouterbench_run("gpt-5", wrong),
        "aime-test-gpt-5-20250102_120000.json": llmrouterbench_run(
            "gpt-5", llmrouterbench_record(), llmrouterbench_record(2, score=None)
        ),
        "aime-test-gpt-5-20250103_120000.json": llmrouterbench_run("gpt-5", wrong, demo=True),
    }.items():
        write_json(folder / name, run)
    local = llmrouterbench_record(cost=0.0, prediction=["2", "4"])
    write_json(
        folder / "aime-test-qwen-20250101_120000.json",  # as after moving all into one folder
        llmrouterbench_run("qwen", local),
    )
    matrix = read_outcomes(tmp_path / "bench")
    qwen = matrix.models.index("qwen")
    assert matrix.of_models(["gpt-5", "qwen"]).score.tolist() == [[1, 1], [UNKNOWN, UNKNOWN]]
    assert matrix.of_models(["gpt-5", "qwen"]).cost_usd[0].tolist() == [0.001, UNKNOWN]
    assert matrix.pred[0, qwen] == '["2", "4"]'
    assert matrix.queries[0].query_id == "aime/test:1"
    assert matrix.queries[0].answer == "2"
    assert matrix.queries[0].split == split_of("Question: what is 1 + 1?")


def test_routellm_reads_mmlu_and_gsm8k_together(tmp_path: Path) -> None:
    write_table(
        tmp_path / "mmlu/responses/mmlu_anatomy.csv", [routellm_row(), routellm_row("3 + 3?")]
    )
    answered = routellm_row("Eggs?", **{"gpt-4_response": "9 * $2 = $18. #### 1,018"})
    write_table(tmp_path / "gsm8k/gsm8k_responses.csv", [{**answered, "mixtral_response": ""}])
    matrix = read_outcomes(tmp_path)
    assert matrix.models == ("mixtral", "gpt-4")
    assert [q.query_id for q in matrix.queries] == [
        "routellm:gsm8k:0000",
        "routellm:mmlu:anatomy:0000",
        "routellm:mmlu:anatomy:0001",
    ]
    assert matrix.score.tolist() == [[0, 1]] * 3
    assert matrix.pred[0].tolist() == [None, "1018"]
    assert np.isnan(matrix.cost_usd).all()


def test_mmlu_pro_is_read_zipped_and_bare(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "model_outputs_gpt-4o_5shots.json.zip",
        {
            "__MACOSX/._model_outputs_gpt-4o_5shots.json": 0,
            "model_outputs_gpt-4o_5shots.json": ["business", mmlu_pro_record(70)],
        },
    )
    write_json(
        tmp_path / "model_outputs_Yi-6B_5shots.json",
        [mmlu_pro_record(70, pred=None), mmlu_pro_record(71, pred="A")],
    )
    matrix = read_outcomes(tmp_path)
    assert matrix.models == ("Yi-6B", "gpt-4o")
    assert matrix.score.tolist() == [[0, 1], [0, UNKNOWN]]
    assert matrix.pred.tolist() == [[None, "B"], ["A", None]]
    assert matrix.queries[0].prompt == "Which is right (70)?\nA. Fear\nB. Joy"
    assert matrix.queries[0].answer == "B"


def test_a_corrected_key_is_another_question(tmp_path: Path) -> None:
    write_json(tmp_path / "model_outputs_old_5shots.json", [mmlu_pro_record(answer="A")])
    write_json(tmp_path / "model_outputs_new_5shots.json", [mmlu_pro_record(answer="B")])
    matrix = read_outcomes(tmp_path)
    assert [(q.query_id, q.answer) for q in matrix.queries] == [
        ("mmlu_pro:70", "B"),
        ("mmlu_pro:70~2", "A"),
    ]
    assert matrix.of_models(["new", "old"]).score.tolist() == [[1, UNKNOWN], [UNKNOWN, 0]]


def test_zeroeval_outputs_are_graded_by_task(tmp_path: Path) -> None:
    results = tmp_path / "result_dirs"
    write_json(results / "gsm.summary.json", [{"Model": "command-r", "Acc": "52.99"}])
    write_json(results / "zebra-grid" / "command-r.json", [zeroeval_record("zebra-grid")])
    write_json(results / "gsm" / "sampling" / "command-r.json", [zeroeval_record()])
    write_json(
        results / "gsm" / "command-r.json",
        [
            zeroeval_record(),
            zeroeval_record(number=1, output=["I do not know."]),
            zeroeval_record(number=2, output=['{"answer": "19"}', '{"answer": 18}']),
        ],
    )
    literal = {"answer": "{'b': [1], 'a': 'x'}"}
    write_json(
        results / "crux" / "command-r.json",
        [zeroeval_record("crux", output=["{\"answer\": \"{'a': 'x', 'b': [1]}\"}"], **literal)],
    )
    write_json(
        results / "math-l5" / "command-r.json",
        [{**zeroeval_record("math-l5", output=["so \\boxed{18}"]), "id": 0, "problem": "How?"}],
    )
    write_json(
        results / "mmlu-redux" / "command-r.json",
        [
            zeroeval_record(
                "mmlu-redux",
                choices=["Lyon", "Paris"],
                correct_answer="Paris",
                output=['{"answer": "B) Paris"}'],
            )
        ],
    )
    matrix = read_outcomes(results)
    assert matrix.models == ("command-r", "command-r#2")
    scores = dict(zip((q.query_id for q in matrix.queries), matrix.score.tolist(), strict=True))
    assert scores == {
        "crux:crux-test-#0": [1, UNKNOWN],
        "gsm:gsm-test-#0": [1, UNKNOWN],
        "gsm:gsm-test-#1": [0, UNKNOWN],
        "gsm:gsm-test-#2": [0, 1],
        "math-l5:0": [1, UNKNOWN],
        "mmlu-redux:mmlu-redux-test-#0": [1, UNKNOWN],
    }
    graded = read_outcomes(results / "gsm")
    assert graded.pred.tolist() == [["18", None], [None, None], ["19", "18"]]


def test_inspect_logs_are_read_as_archive_and_as_json(tmp_path: Path) -> None:
    grader = {"openai/grader": {"input_tokens": 999, "output_tokens": 999, "total_tokens": 1998}}
    own = {"input_tokens": 4, "output_tokens": 2, "input_tokens_cache_read": 60, "total_cost": 0.1}
    write_eval(
        tmp_path / "2025-05-12T20-28-13_sums_x.eval",
        inspect_header(),
        inspect_sample(epoch=2, scores={"match": {"value": "P"}}),
        inspect_sample(model_usage={**grader, "openai/gpt-4o-mini": own}),
        inspect_sample(2, scores=None, error={"message": "timeout"}),
    )
    message = {"role": "user", "content": [{"type": "text", "text": "What is 1 + 1?"}]}
    write_json(
        tmp_path / "2025-05-12T20-28-26_sums_y.json",
        {
            **inspect_header("ollama/llama3"),
            "samples": [
                inspect_sample(input=[message], scores={"match": {"value": 0.25}}),
                inspect_sample(2, scores={"match": {"value": float("nan")}}),
            ],
        },
    )
    write_json(tmp_path / "logs.json", {"some": "listing"})
    matrix = read_outcomes(tmp_path)
    assert matrix.models == ("openai/gpt-4o-mini", "openai/gpt-4o-mini#2", "ollama/llama3")
    assert matrix.score.tolist() == [[1, 0.5, 0.25], [UNKNOWN] * 3]
    assert matrix.input_tokens[0].tolist() == [64, 64, UNKNOWN]
    assert matrix.cost_usd[0].tolist() == [0.1, UNKNOWN, UNKNOWN]
    assert matrix.pred[0].tolist() == ["2", None, None]
    assert matrix.queries[0] == MatrixQuery(
        query_id="sums:1",
        task="sums",
        prompt="What is 1 + 1?",
        answer="2",
        split=split_of("What is 1 + 1?"),
    )


@pytest.mark.parametrize(
    ("value", "score"),
    [("C", 1), ("I", 0), ("P", 0.5), ("N", 0), (True, 1), (0.3, 0.3), ("yes", 1), ("0.7", 0.7)],
)
def test_inspect_values_become_scores(tmp_path: Path, value: Any, score: float) -> None:
    sample = inspect_sample(scores={"match": {"value": value}}, choices=["2", "3"])
    matrix = read_outcomes(write_eval(tmp_path / "log.eval", inspect_header(), sample))
    assert matrix.score.tolist() == [[score]]
    assert matrix.queries[0].prompt == "What is 1 + 1?\nA) 2\nB) 3"


def test_one_of_several_inspect_scorers_can_be_named(tmp_path: Path) -> None:
    scores = {"match": {"value": "I"}, "model_graded_fact": {"value": "C"}}
    path = write_eval(tmp_path / "log.eval", inspect_header(), inspect_sample(scores=scores))
    assert read_outcomes(path).score.tolist() == [[0]]
    assert inspect_ai.read(path, scorer="model_graded_fact").score.tolist() == [[1]]
    with pytest.raises(DataError, match=r"Did you mean 'match'\? There are match, model_graded"):
        inspect_ai.read(path, scorer="mach")


def test_conclaves_own_folders_come_through_the_same_door(tmp_path: Path) -> None:
    queries = [MatrixQuery(query_id="q", task="t", prompt="p", split="val")]
    rows = [MatrixRow(query_id="q", model="m", score=1.0, cost_usd=0.5)]
    write_matrix(matrix_of(queries, rows, source="here"), tmp_path / "own")
    matrix = read_outcomes(tmp_path / "own")
    assert (matrix.models, matrix.queries[0].split) == (("m",), "val")


@pytest.mark.parametrize("cost", [-1, 0, "", "nan"])
def test_an_unknown_price_is_never_a_number(tmp_path: Path, cost: Any) -> None:
    row = routerbench_row(**{"small|total_cost": cost})
    matrix = read_outcomes(write_table(tmp_path / "table.csv", [row]))
    assert matrix.cost_usd.tolist() == [[0.002, UNKNOWN]]


# What is broken is refused with help.

GOOD: dict[str, Callable[[Path], Path]] = {
    "routerbench": lambda d: write_table(d / "table.csv", [routerbench_row()]),
    "routerarena": lambda d: write_lines(d / "haiku.jsonl", [routerarena_line()]),
    "llmrouterbench": lambda d: write_json(
        d / "aime-test-m-20250101_120000.json", llmrouterbench_run("m", llmrouterbench_record())
    ),
    "routellm": lambda d: write_table(d / "mmlu_anatomy.csv", [routellm_row()]),
    "mmlu_pro": lambda d: write_zip(
        d / "model_outputs_m_5shots.zip", {"model_outputs_m_5shots.json": [mmlu_pro_record()]}
    ),
    "zeroeval": lambda d: write_json(d / "command-r.json", [zeroeval_record()]),
    "inspect_ai": lambda d: write_eval(d / "log.eval", inspect_header(), inspect_sample()),
}


def test_every_format_but_our_own_is_tried_here() -> None:
    assert set(GOOD) == set(READERS) - {"conclave"}


@pytest.mark.parametrize("fmt", GOOD)
def test_a_format_is_recognised_by_file_and_by_folder(tmp_path: Path, fmt: str) -> None:
    path = GOOD[fmt](tmp_path / "source")
    for place in (path, path.parent):
        assert [name for name, reader in READERS.items() if reader.recognises(place)] == [fmt]
        assert len(read_outcomes(place)) == len(read_outcomes(place, fmt)) == 1


@pytest.mark.parametrize("fmt", GOOD)
def test_a_half_written_file_is_refused(tmp_path: Path, fmt: str) -> None:
    path = GOOD[fmt](tmp_path / "source")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(DataError, match=r"fetch it again") as refused:
        read_outcomes(path, fmt)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("fmt", READERS)
def test_an_empty_folder_is_refused(tmp_path: Path, fmt: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty (has|holds) no "):
        read_outcomes(tmp_path / "empty", fmt)


def test_an_outcome_told_twice_is_refused_by_file(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [routerbench_row()])
    write_table(tmp_path / "b.csv", [routerbench_row()])
    with pytest.raises(
        DataError, match=r"b\.csv: a second outcome of 'gpt-4' .* the first is in .*a\.csv"
    ):
        read_outcomes(tmp_path)
    write_table(tmp_path / "a.csv", [routerbench_row(), routerbench_row()])
    with pytest.raises(DataError, match=r"the first is there, too. Keep one"):
        read_outcomes(tmp_path / "a.csv")


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


BROKEN: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "a column is missing": (
        "routerbench",
        lambda d: write_table(d / "t.csv", [without(routerbench_row(), "sample_id")]),
        "t.csv: the column 'sample_id' is missing; there are '', 'prompt'",
    ),
    "a score column is missing": (
        "routerbench",
        lambda d: write_table(d / "t.csv", [without(routerbench_row(), "small")]),
        "the column 'small' is missing",
    ),
    "no column tells of a model": (
        "routerbench",
        lambda d: write_table(d / "t.csv", [{"sample_id": 1, "prompt": 2, "eval_name": 3, "m": 1}]),
        r"no column is named '<model>\|model_response'",
    ),
    "a score is no number": (
        "routerbench",
        lambda d: write_table(d / "t.csv", [routerbench_row(small="good")]),
        "t.csv, line 2: the score of 'small' is 'good', not a number",
    ),
    "a score is too high": (
        "routerbench",
        lambda d: write_table(d / "t.csv", [routerbench_row(small=8)]),
        r"score 8 is outside \[0, 1\]",
    ),
    "a line is no object": (
        "routerarena",
        lambda d: write_lines(d / "m.jsonl", [routerarena_line(), 0]),
        "m.jsonl, line 2: 0 where an object with 'global_index' should be",
    ),
    "a field of a line is missing": (
        "routerarena",
        lambda d: write_lines(d / "m.jsonl", [without(routerarena_line(), "token_usage")]),
        "m.jsonl, line 1: the field 'token_usage' is missing; a record has global_index",
    ),
    "nothing was evaluated yet": (
        "routerarena",
        lambda d: write_lines(d / "m.jsonl", [routerarena_line(evaluation_result=None)]),
        "none of the 1 outcomes has a score",
    ),
    "a run has no records": (
        "llmrouterbench",
        lambda d: write_json(d / "r.json", without(llmrouterbench_run("m"), "records")),
        "r.json: the field 'records' is missing",
    ),
    "a run is a demo": (
        "llmrouterbench",
        lambda d: write_json(d / "r.json", llmrouterbench_run("m", demo=True)),
        "r.json is a demo run",
    ),
    "a record has no score": (
        "llmrouterbench",
        lambda d: write_json(
            d / "r.json", llmrouterbench_run("m", without(llmrouterbench_record(), "score"))
        ),
        "r.json, record 1: the field 'score' is missing",
    ),
    "three models are no pair": (
        "routellm",
        lambda d: write_table(d / "mmlu_law.csv", [routellm_row(llama=True)]),
        r"3 models \(mixtral, gpt-4, llama\) where the format has a strong and a weak one",
    ),
    "right or wrong is said otherwise": (
        "routellm",
        lambda d: write_table(d / "mmlu_law.csv", [routellm_row(mixtral="maybe")]),
        # The prompt has three lines, so the first row ends on the fourth.
        "mmlu_law.csv, line 4: the cell of 'mixtral' is 'maybe', not a number",
    ),
    "a name tells no model": (
        "mmlu_pro",
        lambda d: write_json(d / "model_outputs_m.json", [mmlu_pro_record()]),
        "the name should be model_outputs_<model>_5shots.json or .zip",
    ),
    "an archive holds no outputs": (
        "mmlu_pro",
        lambda d: write_zip(d / "model_outputs_m_5shots.zip", {"readme.txt": 0}),
        "holds no .json file",
    ),
    "a record in an archive is not whole": (
        "mmlu_pro",
        lambda d: write_zip(
            d / "model_outputs_m_5shots.zip",
            {"m.json": [mmlu_pro_record(), without(mmlu_pro_record(), "pred")]},
        ),
        "model_outputs_m_5shots.zip/m.json, record 2: the field 'pred' is missing",
    ),
    "a task has no single answer": (
        "zeroeval",
        lambda d: write_json(d / "m.json", [zeroeval_record("zebra-grid")]),
        "the task 'zebra-grid' has no single answer to compare. Graded are gsm",
    ),
    "a file holds no list": (
        "zeroeval",
        lambda d: write_json(d / "m.json", {"a": 1}),
        "m.json: {'a': 1} where a list should be",
    ),
    "a reference is missing": (
        "zeroeval",
        lambda d: write_json(d / "m.json", [without(zeroeval_record(), "answer")]),
        "m.json, record 1: the field 'answer' is missing",
    ),
    "a run has not ended": (
        "inspect_ai",
        lambda d: write_json(d / "l.json", {**inspect_header(status="started"), "samples": []}),
        "l.json is the log of a run that has not ended",
    ),
    "an archive has no header": (
        "inspect_ai",
        lambda d: write_zip(d / "l.eval", {"_journal/start.json": inspect_header()}),
        "inspect log recover",
    ),
    "samples are in chunks": (
        "inspect_ai",
        lambda d: write_zip(
            d / "l.eval",
            {"samples/1_epoch_1/sample.json": inspect_sample(), "header.json": inspect_header()},
        ),
        "keeps its samples in chunks.* inspect log convert",
    ),
    "a score is several": (
        "inspect_ai",
        lambda d: write_eval(
            d / "l.eval", inspect_header(), inspect_sample(scores={"f1": {"value": {"a": 1}}})
        ),
        "samples/1_epoch_1.json: the scorer 'f1' gives several values",
    ),
    "a log has no samples": (
        "inspect_ai",
        lambda d: write_eval(d / "l.eval", inspect_header()),
        "l.eval holds no outcomes",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_said(tmp_path: Path, what: str) -> None:
    fmt, write, complaint = BROKEN[what]
    with pytest.raises(DataError, match=complaint):
        read_outcomes(write(tmp_path / "source"), fmt)


def test_a_pickle_is_not_opened_unasked(tmp_path: Path) -> None:
    (tmp_path / "routerbench_0shot.pkl").write_bytes(b"cos\nsystem\n(S'echo run'\ntR.")
    with pytest.raises(DataError, match=r"runs whatever code is in it.*allow_pickle=True"):
        read_outcomes(tmp_path / "routerbench_0shot.pkl")


def test_a_pickle_needs_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "routerbench_0shot.pkl").write_bytes(b"...")
    with pytest.raises(DataError, match=r"pandas is not installed. pip install pandas"):
        read_outcomes(tmp_path / "routerbench_0shot.pkl", allow_pickle=True)


def test_zstandard_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zipfile_zstd", None)
    path = write_eval(tmp_path / "log.eval", inspect_header(), inspect_sample())
    data = path.read_bytes()
    deflated, zstandard = struct.pack("<H", 8), struct.pack("<H", 93)
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        parts = data.split(signature)
        assert all(p[offset - 4 : offset - 2] == deflated for p in parts[1:])
        changed = [p[: offset - 4] + zstandard + p[offset - 2 :] for p in parts[1:]]
        data = signature.join([parts[0], *changed])
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"compressed with zstandard. pip install zipfile-zstd"):
        read_outcomes(path)


def test_a_folder_of_two_formats_is_ambiguous(tmp_path: Path) -> None:
    GOOD["routerarena"](tmp_path)
    GOOD["inspect_ai"](tmp_path)
    with pytest.raises(DataError, match=r"looks like routerarena and inspect_ai. Say which"):
        read_outcomes(tmp_path)
    assert read_outcomes(tmp_path, "routerarena").models == ("haiku",)


def test_what_is_no_format_is_told_all_formats(tmp_path: Path) -> None:
    path = write_json(tmp_path / "my.json", {"hello": "world"})
    with pytest.raises(DataError, match=r"none of the formats(.|\n)*zeroeval: result_dirs/<task>"):
        read_outcomes(path)
    with pytest.raises(DataError, match=r"Unknown format 'zeroval'. Did you mean 'zeroeval'\?"):
        read_outcomes(path, "zeroval")
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_outcomes(tmp_path / "nowhere")


# Splits.


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)), st.data())
def test_letter_case_and_spacing_never_change_the_split(prompt: str, data: st.DataObject) -> None:
    space = data.draw(st.sampled_from([" ", "\n", "\t  ", "\r\n"]))
    same = space + space.join(prompt.upper().split()) + space
    assert split_of(same) == split_of(prompt)


@given(st.text())
def test_every_prompt_has_a_split(prompt: str) -> None:
    assert split_of(prompt) in ("train", "val", "test")
    assert split_of(prompt + "\ud83d") in ("train", "val", "test")  # half an emoji


def test_splits_are_as_large_as_they_say() -> None:
    n = 20_000
    share = {s: k / n for s, k in Counter(split_of(f"Question {i}?") for i in range(n)).items()}
    assert share == pytest.approx({"train": 0.6, "val": 0.15, "test": 0.25}, abs=0.015)


def test_splits_stay_as_they_are() -> None:
    """If this fails, questions that were held out have become training data."""
    prompts = ("What is 2 + 2?", "Name a planet.", "Who wrote it?", "Solve x = 3.", "Why?")
    assert [split_of(p) for p in prompts] == ["train", "val", "test", "train", "train"]


# Real folders.

CONCLAVE_DATA = os.environ.get("CONCLAVE_DATA")


@pytest.mark.skipif(
    not CONCLAVE_DATA, reason="CONCLAVE_DATA does not name a folder with recorded outcomes"
)
@pytest.mark.parametrize(
    ("name", "n_queries", "n_models"),
    [
        ("zeroeval", 2471, 54),
        ("mmlu_pro", 10490, 29),
        ("llmrouter", 6108, 9),
        ("routellm_pair", 15361, 2),
    ],
)
def test_real_outcomes_are_read(name: str, n_queries: int, n_models: int) -> None:
    matrix = read_outcomes(Path(str(CONCLAVE_DATA)) / name)
    assert (len(matrix), len(matrix.models)) == (n_queries, n_models)
    assert not np.isnan(matrix.score).all(axis=0).any()
    # Ours were split by the same rule, so that reading the sources anew moves no question.
    assert all(q.split == split_of(q.prompt) for q in matrix.queries)
