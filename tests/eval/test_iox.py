"""``conclave eval iox``, on few questions: figures add up, and tools are worth their calls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.commands import lab
from eval.iox.questions import channel_questions, distractors, shuffled
from experts.lab.calls.kinds import texts_of, tool_kinds
from experts.tools.iox.attributes import ATTRIBUTES
from experts.tools.iox.channels import TEST_SEEDS, draw_scenario
from experts.tools.iox.classifiers import load_classifiers
from orchestrator.config import load_config
from tests.eval.commands import run_eval, told

PAGE = (Path(__file__).parents[2] / "docs" / "iox.md").read_text(encoding="utf-8")
N = 6


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return told(run_eval("iox", "--n", N, "--split", "val", "--json"))


def row(figures: dict[str, Any], method: str, distractors: bool = False) -> dict[str, Any]:
    [found] = [
        m for m in figures["methods"] if m["method"] == method and m["distractors"] == distractors
    ]
    return found


def test_the_right_tool_is_worth_more_than_guessing(figures: dict[str, Any]) -> None:
    best = row(figures, "best choice of tool")
    assert figures["n"] == sum(c["n"] for c in figures["classifiers"]) == N * len(ATTRIBUTES)
    assert best["accuracy"]["value"] > row(figures, "most frequent label")["accuracy"]["value"]
    assert row(figures, "LLM alone")["lift"] is None
    for m in figures["methods"]:
        for name in ("accuracy", "choice", "call"):
            if m[name] is not None:
                low, high = m[name]["ci"]
                assert low <= m[name]["value"] <= high
    assert {c["name"] for c in figures["classifiers"]} == {a.name for a in ATTRIBUTES}


def test_the_tool_caller_chooses_and_copies(figures: dict[str, Any]) -> None:
    """Few questions: they must not refute the promise, and never be far from it."""
    for distracted, promised in ((False, 0.95), (True, 0.9)):
        choice = row(figures, "LLM with tools", distracted)["choice"]
        assert choice["ci"][1] >= promised
        assert choice["value"] >= promised - 0.1
    with_tools = row(figures, "LLM with tools")
    assert with_tools["lift"]["value"] >= 0.4
    assert with_tools["call"]["value"] >= 0.85


def test_questions_are_held_out_and_each_has_its_channel() -> None:
    questions = channel_questions(20, "test")
    assert len({q.seed for q in questions}) == len(questions)
    assert min(q.seed for q in questions) >= TEST_SEEDS
    for q in questions:
        assert q.label == draw_scenario(q.seed).labels[q.attribute]
        assert q.text.count("{channel}") == 1
    trained = {p for k in tool_kinds("wireless") for p in texts_of(k, "train").wordings}
    held_out = {p for k in tool_kinds("wireless") for p in texts_of(k, "test").wordings}
    assert held_out
    assert not trained & held_out


def test_distractors_look_right_and_stand_anywhere() -> None:
    for split in ("val", "test"):
        names = [t["function"]["name"] for t in distractors(split)]  # type: ignore[arg-type]
        assert len(names) == 6
        assert not set(names) & {a.name for a in ATTRIBUTES}
    tools = distractors("test")
    places = {shuffled(tools, str(i)).index(tools[0]) for i in range(60)}
    assert places == set(range(6))


def test_an_unknown_split_is_refused() -> None:
    result = run_eval("iox", "--split", "train")
    assert result.exit_code != 0
    assert "val, test" in result.output


def test_the_classifiers_can_be_remade(tmp_path: Path) -> None:
    assert "conclave lab classifiers" in PAGE
    app = typer.Typer()
    lab.register(app)
    file = tmp_path / "made.npz"
    few = ["--n-train", "100", "--n-val", "50", "--out", str(file)]
    result = CliRunner().invoke(app, ["lab", "classifiers", *few])
    assert result.exit_code == 0, result.output
    assert set(load_classifiers(file)) == {a.name for a in ATTRIBUTES}


def test_the_page_says_the_tools_and_their_borders() -> None:
    for a in ATTRIBUTES:
        assert f"| `{a.name}` |" in PAGE
        [line] = [line for line in PAGE.splitlines() if line.startswith(f"| `{a.name}`")]
        assert all(label in line for label in a.labels)
        numbers = [float(n) for n in re.findall(r"\d+", line)]
        unit = 1e-9 if a.name == "delay_spread_class" else 1.0
        assert numbers == pytest.approx([e / unit for e in a.edges])
    assert "conclave eval iox" in PAGE


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_the_configuration_is_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "conclave.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_config(file)
