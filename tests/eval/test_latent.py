"""The commands that train, evaluate and compare latent heads, on budgets of seconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from experts.lab.composites.questions import KINDS, NEW_PAIRS, draw_questions, training_questions
from experts.lab.composites.steps import STEP_OF
from experts.lab.composites.world import (
    COUNTRY_OF,
    CURRENCY_OF,
    GUILD_OF,
    GUILDS,
    is_held_out,
)
from tests.typed import typed

PLAN = {
    "teach_steps": 8, "teach_rows": 16, "route_questions": 24, "likely_questions": 12,
    "route_steps": 4, "joint_steps": 4, "joint_rows": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(json.dumps(PLAN))
    return path


def test_training_shows_nothing_of_what_is_held_out() -> None:
    held_out = {e for e in (*GUILDS, *CURRENCY_OF) if is_held_out(e)}
    keys = {k for table in (GUILD_OF, COUNTRY_OF) for k, e in table.items() if e in held_out}
    n_facts = 0
    for question in training_questions(3000, seed=0):
        assert question.steps not in NEW_PAIRS
        if STEP_OF[question.steps[0]].is_fact:
            n_facts += 1
            told = f"{question.text} {question.answer}"
            assert not [name for name in held_out | keys if re.search(rf"\b{name}\b", told)]
    assert n_facts > 1000


def test_questions_are_what_their_kind_says() -> None:
    for kind in KINDS:
        for question in draw_questions(kind, "test", 40, seed=1):
            assert len(question.steps) == (1 if kind == "single" else 2)
            assert len(set(question.members)) == len(question.members)
            if kind == "new_pairs":
                assert question.steps in NEW_PAIRS


def test_a_head_is_trained_evaluated_and_used(plan: Path, tmp_path: Path) -> None:
    trained = typed("latent", "train", "--out", str(tmp_path / "head"), "--config", str(plan),
                    "--n", "60", "--json")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["trained"]["n_questions"] == 60
    evaluated = typed("latent", "evaluate", "--head", str(tmp_path / "head"), "--n", "6", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    told = json.loads(evaluated.stdout)
    assert set(told) == set(KINDS)
    assert told["entities"]["two calls"]["value"] > 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("form: telepathy", "form"),
        ("steps: 3", "unknown 'steps'"),
        ("- 1", "not a plan"),
        ("teach_steps: many", "teach_steps"),
    ],
)
def test_a_plan_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    run = typed("latent", "train", "--config", str(path), "--out", str(tmp_path / "head"))
    assert run.returncode == 2
    assert said in run.stderr


def test_members_that_are_none_are_refused(tmp_path: Path) -> None:
    run = typed("latent", "train", "--member", "a=nowhere", "--out", str(tmp_path / "head"))
    assert run.returncode == 2
    assert "write NAME=FOLDER" in run.stderr


def test_members_of_another_size_are_timed() -> None:
    run = typed("bench", "latent", "--shape", "128x2", "--rounds", "3", "--json")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout.splitlines()[-1])["speed"]
    assert {row["n_peers"] for row in rows} == {1, 2}
    assert typed("bench", "latent", "--shape", "7b").returncode == 2


def test_the_benchmark_ends_in_one_line_of_json(plan: Path, tmp_path: Path) -> None:
    run = typed(
        "bench", "latent", "--heads", str(tmp_path), "--config", str(plan), "--questions", "60",
        "--seeds", "1", "--draws", "2", "--n", "10", "--rounds", "3", "--json",
    )  # fmt: skip
    assert run.returncode == 1  # heads of eight steps reach no goal
    told = json.loads(run.stdout.splitlines()[-1])
    ways = told["accuracy"]["right"]["entities"]
    assert {"soft_prefix", "cache_fusion", "interaction", "shuffled", "zeroed", "lora"} < set(ways)
    assert ways["two calls"]["value"] > 0.5
    assert set(told["accuracy"]["own_skills"]) == {"people", "guilds", "sums"}
    assert {row["form"] for row in told["speed"]} == {"soft_prefix", "cache_fusion", "interaction"}
    assert not told["goals"]["held-out entities, over controls"]
    assert set(told["answering_s"]["entities"]) == {"latent", "two calls", "one call"}
