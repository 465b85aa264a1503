"""``conclave batch run``, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.batch.run import BatchSummary
from orchestrator.cli.batch import format_summary
from tests.orchestrator.batch.batches import read, write
from tests.typed import typed

WORDS = [{"question": f"Reverse the word {word}."} for word in ("cat", "planet")]


def test_a_file_is_answered_and_the_next_run_has_nothing_to_do() -> None:
    queries = write(Path("queries.jsonl"), WORDS)
    command = ("batch", "run", str(queries), "--out", "answers.jsonl", "-m", "words")
    told = json.loads(typed(*command, "--json").stdout)
    assert (told["n_queries"], told["n_answered"], told["n_new"]) == (2, 2, 2)
    assert told["cost_usd"] > 0
    assert {r["answer"] for r in read(Path("answers.jsonl"))} == {"tac", "tenalp"}
    again = typed(*command)
    assert again.returncode == 0
    assert again.stdout.startswith("2 of 2 queries answered in answers.jsonl, 2 of them before;")


def test_a_bad_line_shows_in_the_exit_code() -> None:
    queries = write(Path("queries.jsonl"), [*WORDS, "?"])
    run = typed("batch", "run", str(queries), "--out", "answers.jsonl", "-m", "words")
    assert run.returncode == 1
    assert "1 cannot be asked as they are: see answers.errors.jsonl" in run.stdout


def test_what_is_wrong_with_the_files_is_one_line_on_stderr() -> None:
    run = typed("batch", "run", "nowhere.jsonl", "--out", "answers.jsonl")
    assert run.returncode == 2
    assert run.stderr.startswith("conclave: nowhere.jsonl is no file")
    queries = write(Path("queries.jsonl"), WORDS)
    run = typed("batch", "run", str(queries), "--out", "answers.jsonl", "-m", "wrods")
    assert run.returncode == 2
    assert run.stderr.startswith("conclave: Unknown model (policy or expert) 'wrods'. Did you mean")
    assert [p.name for p in Path().glob("*.jsonl*")] == ["queries.jsonl"]


def test_the_summary_says_what_comes_next() -> None:
    summary = BatchSummary(
        n_queries=10,
        n_answered=5,
        n_new=3,
        n_failed=1,
        n_bad=1,
        cost_usd=0.01,
        stopped="what another call may cost would pass the limit of 0.01 $",
        errors=Path("a.errors.jsonl"),
    )
    lines = format_summary(summary, Path("a.jsonl"))
    assert lines[0] == "5 of 10 queries answered in a.jsonl, 2 of them before; 1.00e-02 $."
    assert "3 left" in lines[3]
    assert "higher --max-cost-usd" in lines[4]
