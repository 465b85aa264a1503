"""What no command on recorded outcomes may accept, or end on with a traceback."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import eval.audit
from eval.audit import CHECKS
from eval.outcomes.readers import read_outcomes
from experts.errors import DataError, UnknownName
from skills.embedders import make_embedder
from skills.errors import SkillsError
from tests.eval.commands import run_eval, told
from tests.eval.recorded import data_set, written

QUESTION = {"query_id": "q", "prompt": "What?"}
OUTCOME = {"query_id": "q", "model": "a", "score": 1, "cost_usd": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), 40)


@pytest.mark.parametrize(
    ("models", "why"),
    [([], "names no model"), (["large", "large"], "Named twice: large")],
)
def test_pools_that_are_none(data: Path, tmp_path: Path, models: list[str], why: str) -> None:
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps(models))
    with pytest.raises(DataError, match=why):
        told(run_eval("cost-of-pass", "--data", data, "--pool", pool))


def test_nobody_votes_twice(data: Path) -> None:
    with pytest.raises(DataError, match="Named twice: large"):
        told(run_eval("cost-of-pass", "--data", data, "--vote", "large,large,tiny"))


@pytest.mark.parametrize(
    ("asked", "outcome", "why"),
    [
        ({**QUESTION, "prompt": None}, OUTCOME, "line 1: prompt is null"),
        ({**QUESTION, "query_id": None}, OUTCOME, "line 1: query_id is null"),
        (QUESTION, {**OUTCOME, "model": " "}, "'q' has no model"),
    ],
)
def test_what_has_no_name_or_text(
    tmp_path: Path, asked: dict[str, Any], outcome: dict[str, Any], why: str
) -> None:
    with pytest.raises(DataError, match=why):
        read_outcomes(written(tmp_path / "d", [asked], [outcome]), None)


def test_no_outcomes_are_said_to_be_none(tmp_path: Path) -> None:
    data = written(tmp_path / "d", [QUESTION], [])
    with pytest.raises(DataError, match="There are no outcomes"):
        told(run_eval("cost-of-pass", "--data", data))


def test_a_misspelt_check_is_not_allowed(data: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'unknown-prices'"):
        told(run_eval("audit", "--data", data, "--quick", "--allow", "unknown-price"))


def test_every_check_can_be_allowed() -> None:
    """The names in the audit's source are the names that --allow knows."""
    named = {"pool"}
    for path in Path(eval.audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "check":
                named |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)}
    assert named <= set(CHECKS)
    assert sorted(CHECKS) == list(CHECKS)


def test_an_embedder_without_buckets() -> None:
    with pytest.raises(SkillsError, match="hashing-0: there must be a bucket"):
        make_embedder("hashing-0")


@pytest.mark.parametrize("command", ["cost-of-pass", "audit"])
def test_a_seed_below_nought(data: Path, command: str) -> None:
    assert run_eval(command, "--data", data, "--seed", -1).exit_code == 2
