"""The command, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.typed import conclave, typed


def test_help_names_every_command() -> None:
    out = conclave("--help").stdout
    for command in (
        "ask",
        "batch",
        "demo",
        "doctor",
        "experts",
        "fit",
        "init",
        "lab",
        "record",
        "serve",
    ):
        assert command in out


def test_ask_prints_the_answer_and_nothing_else() -> None:
    run = conclave("ask", "What is the capital of France?")
    assert run.returncode == 0
    assert run.stdout.strip() == "Paris"
    assert run.stderr == ""


def test_ask_explains_itself() -> None:
    out = typed("ask", "What is the capital of France?", "--explain").stdout
    for part in ("Skills", "capital", "Scores", "Plans", "Plan", "Calls", "Bill", "Decision"):
        assert part in out


def test_ask_gives_one_json_object() -> None:
    told = json.loads(typed("ask", "Reverse the word planet.", "--json").stdout)
    assert told["answer"] == "tenalp"
    assert "words" in told["contributors"]  # others may agree
    assert told["cost_usd"] > told["decision"]["router_cost_usd"] > 0
    assert "reverse_word" in told["decision"]["skills"]


def test_an_expert_can_be_asked_by_name() -> None:
    told = json.loads(
        typed("ask", "What is the symbol of gold?", "-m", "elements", "--json").stdout
    )
    assert told["answer"] == "Au"
    assert told["decision"]["plan"] == "only"


def test_limits_are_kept_and_told() -> None:
    out = typed("ask", "How much is 12 times 3?", "--max-cost-usd", "1e-12").stdout
    assert "limit of 1e-12 $" in out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("ask", "hello?", "--max-calls", "0"), 2, "--max-calls"),
        (("ask", "  "), 2, "The question is empty"),
        (("ask", "hello?", "-m", "wrods"), 2, "Did you mean 'words'?"),
        (("ask", "hello?", "-c", "nowhere.yaml"), 2, "conclave init"),
        (("ask",), 2, "Missing argument"),
        (("record", "nowhere.jsonl"), 2, "cannot be read"),
        (("lab", "train", "wrods"), 2, "Did you mean 'words'?"),
    ],
)
def test_mistakes_are_answered_without_a_traceback(
    arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    run = typed(*arguments)
    assert run.returncode == code
    assert complaint in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in conclave("--debug", "ask", "hello?", "-m", "wrods").stderr


def test_a_question_that_is_worth_nothing_is_left_unanswered() -> None:
    run = typed("ask", "What is the capital of France?", "--fallback-price", "1e-9")
    assert run.returncode == 0
    assert "no answer" in run.stdout


def test_init_writes_a_file_that_works_and_is_not_overwritten(tmp_path: Path) -> None:
    assert typed("init").returncode == 0
    assert (tmp_path / "conclave.yaml").exists()
    again = typed("init")
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert typed("experts").returncode == 0


def test_experts_lists_sizes_and_prices() -> None:
    told = json.loads(typed("experts", "--json").stdout)
    assert told["fitted"]
    by_name = {e["name"]: e for e in told["experts"]}
    assert len(by_name) == 8
    assert by_name["generalist"]["parameters"] < by_name["words"]["parameters"]
    assert by_name["generalist"]["input_usd_per_mtok"] < by_name["words"]["input_usd_per_mtok"]
    assert "generalist" in typed("experts").stdout


def test_doctor_finds_this_machine_well() -> None:
    run = typed("doctor", "--json")
    assert run.returncode == 0
    findings = {f["check"]: f["status"] for f in json.loads(run.stdout)["findings"]}
    assert findings == dict.fromkeys(
        ("python", "torch", "experts", "embedder", "router", "ledger"), "ok"
    )


def test_doctor_says_what_to_do_about_an_unfitted_router(tmp_path: Path) -> None:
    (tmp_path / "conclave.yaml").write_text("embedder: hashing\n")
    run = typed("doctor")
    assert run.returncode == 0
    assert "conclave record" in run.stdout


def test_your_own_questions_recorded_and_fitted(tmp_path: Path) -> None:
    """The owner's way: a part of the pool, another embedder, one's own questions."""
    (tmp_path / "conclave.yaml").write_text(
        "embedder: hashing\nexperts: [{kind: bundled, names: [countries, elements]}]\n"
    )
    countries = ["France", "Japan", "Peru", "Egypt", "Norway", "Kenya", "Italy", "Spain"]
    capitals = ["Paris", "Tokyo", "Lima", "Cairo", "Oslo", "Nairobi", "Rome", "Madrid"]
    names = ["gold", "iron", "helium", "carbon", "oxygen", "zinc", "tin", "neon"]
    symbols = ["Au", "Fe", "He", "C", "O", "Zn", "Sn", "Ne"]
    lines = [
        {"question": form.format(k), "answer": v, "skill": skill}
        for skill, forms, ks, vs in (
            (
                "capital",
                ("What is the capital of {}?", "Name the capital of {}."),
                countries,
                capitals,
            ),
            ("symbol", ("What is the symbol of {}?", "Give the symbol for {}."), names, symbols),
        )
        for form in forms
        for k, v in zip(ks, vs, strict=True)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recorded = json.loads(typed("record", "mine.jsonl", "--json").stdout)
    assert (recorded["n_asked"], recorded["n_failed"]) == (64, 0)
    assert json.loads(typed("record", "mine.jsonl", "--json").stdout)["n_asked"] == 0
    fitted = json.loads(typed("fit", "--json").stdout)
    assert fitted["n_questions"] == 32
    assert fitted["category_accuracy_blind"] == 1.0
    told = json.loads(typed("ask", "What is the capital of Greece?", "--json").stdout)
    assert (told["answer"], told["contributors"]) == ("Athens", ["countries"])


def test_a_broken_question_file_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "a?", "answer": "b"}\n{"question": "c?"}\n')
    run = typed("record", "mine.jsonl")
    assert run.returncode == 2
    assert "mine.jsonl, line 2: answer: Field required" in run.stderr


def test_quick_training_really_learns(tmp_path: Path) -> None:
    run = conclave("lab", "train", "--quick", "--out", "lab", "--json", timeout_s=300)
    [trained] = json.loads(run.stdout.splitlines()[-1])["trained"]
    assert trained["last_loss"] < trained["first_loss"] / 5
    assert trained["seconds"] < 120
    run = typed("lab", "evaluate", "--folder", "lab", "--n", "40", "--json")
    cells = json.loads(run.stdout)["cells"]
    [symbols] = [c for c in cells if c["skill"] == "symbol" and not c["held_out_wording"]]
    assert symbols["accuracy"] >= 0.9
    [others] = [c for c in cells if c["skill"] == "capital" and not c["held_out_wording"]]
    assert others["accuracy"] <= 0.1
