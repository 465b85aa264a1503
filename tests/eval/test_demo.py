"""The demonstration, as ``make demo`` runs it."""

from __future__ import annotations

import json

import pytest

from tests.typed import typed

BASELINES = {"best_single", "cheapest", "random", "vote_all", "best_per_skill", "oracle"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, dict[str, object]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONCLAVE_HOME", str(tmp_path_factory.mktemp("demo")))
        run = typed("demo")
    assert run.returncode == 0, run.stderr
    return run.stdout, json.loads(run.stdout.splitlines()[-1])


def test_the_last_line_is_json_with_the_system_and_its_baselines(demo) -> None:
    _, told = demo
    assert told["n"] >= 60
    assert told["handwritten"]["n"] >= 20
    for part in (told, told["handwritten"]):
        assert set(part["baselines"]) == BASELINES
        for figures in (part, *part["baselines"].values(), *part["policies"].values()):
            assert {"n", "accuracy", "cost_usd", "cost_of_pass_usd"} <= set(figures)
            assert figures["n"] == part["n"]


def test_it_beats_its_baselines_by_what_the_readme_claims(demo) -> None:
    _, told = demo
    baselines = told["baselines"]
    assert told["accuracy"] >= baselines["best_single"]["accuracy"] + 0.20
    assert told["accuracy"] >= baselines["best_per_skill"]["accuracy"] - 0.05
    assert told["accuracy"] <= baselines["oracle"]["accuracy"] + 0.02
    assert told["cost_usd"] < baselines["vote_all"]["cost_usd"] / 2


def test_people_get_tables(demo) -> None:
    text, _ = demo
    for part in ("generated questions", "hand-written questions", "oracle", "Calls of Conclave"):
        assert part in text
