"""``conclave runs`` and ``conclave human`` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.typed import typed

CONFIG = """
experts:
- {kind: bundled, names: [generalist]}
- {kind: human, name: boss, call_usd: 2.5, instructions: Be brief.}
runs: {approval_usd: 3.0}
"""


def told(*arguments: str) -> dict[str, object]:
    run = typed(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    object_: dict[str, object] = json.loads(run.stdout)
    return object_


@pytest.fixture
def boss(tmp_path: Path) -> None:
    (tmp_path / "conclave.yaml").write_text(CONFIG)


def test_a_run_waits_for_a_person_and_goes_on_where_the_answer_is_given(boss: None) -> None:
    run = typed("runs", "start", "What is love?", "-m", "boss")
    assert run.returncode == 0, run.stderr
    assert "waiting for boss" in run.stdout
    [question] = told("human", "list")["questions"]  # type: ignore[misc]
    question_id = question["question_id"]  # type: ignore[index]
    assert question_id in typed("human", "list").stdout
    assert question_id in run.stdout
    run_id = str(question["run_id"])  # type: ignore[index]
    assert question_id in typed("runs", "show", run_id).stdout
    answered = typed("human", "answer", question_id, "A fire.")
    assert answered.stdout.strip() == "A fire."
    shown = told("runs", "show", run_id)
    assert (shown["state"], shown["cost_usd"]) == ("done", 2.5)
    assert typed("human", "answer", question_id, "Water.").returncode == 2


def test_leaving_the_run_to_another_process(boss: None) -> None:
    run_id = str(told("runs", "start", "What is love?", "-m", "boss")["run_id"])
    [question] = told("human", "list")["questions"]  # type: ignore[misc]
    typed("human", "answer", question["question_id"], "A fire.", "--no-resume")  # type: ignore[index]
    assert told("runs", "show", run_id)["state"] == "stopped"
    assert told("runs", "resume", run_id)["state"] == "done"
    assert typed("runs", "resume", run_id).stdout.strip() == "A fire."
    assert typed("runs", "resume", "--all").stdout.strip() == "No run is left to go on with."


def test_a_run_that_is_given_up_asks_nobody(boss: None) -> None:
    run_id = str(told("runs", "start", "What is love?", "-m", "boss")["run_id"])
    assert "cancelled" in typed("runs", "cancel", run_id).stdout
    assert typed("human", "list").stdout.strip() == "Nobody waits for an answer."


@pytest.mark.parametrize(
    "arguments",
    [
        ("start", "  "),
        ("start", "What?", "-m", "nobody"),
        ("resume",),
        ("resume", "run-1", "--all"),
        ("resume", "run-1"),
        ("show", "run-1"),
        ("cancel", "run-1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[str, ...]) -> None:
    run = typed("runs", *arguments)
    assert run.returncode == 2
    assert run.stderr.startswith("conclave: ")
    assert len(run.stderr.splitlines()) == 1


def test_a_person_has_a_price(tmp_path: Path) -> None:
    (tmp_path / "conclave.yaml").write_text("experts: [{kind: human, name: boss}]\n")
    run = typed("runs", "list")
    assert run.returncode == 2
    assert "call_usd" in run.stderr
