"""``conclave eval strategies``: replayed on outcomes whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.outcomes.matrix import OutcomeMatrix
from eval.strategies.methods import cannot_be_replayed, methods
from eval.strategies.world import World
from experts.errors import DataError
from experts.values import Arm
from routers.plans import Plan
from skills.embedders import make_embedder
from tests.eval.commands import run_eval, told
from tests.eval.recorded import COST_USD, data_set, matrix


def world(recorded: OutcomeMatrix) -> World:
    vectors = make_embedder("hashing-128").embed([q.prompt for q in recorded.queries])
    return World(recorded, vectors, vectors)


def test_what_a_plan_brings_is_what_was_recorded() -> None:
    recorded = matrix(80)
    here = world(recorded)
    rows = np.arange(len(recorded))
    best = recorded.models.index("large")
    alone = here.play(Plan("single"), here.by_arm, rows)
    assert alone.score == pytest.approx(recorded.score[:, best])
    assert alone.cost_usd == pytest.approx(recorded.cost_usd[:, best])
    assert alone.n_calls.sum() == len(rows)
    everybody = here.play(Plan.of("recruit", k=4), here.by_arm, rows)
    assert everybody.cost_usd == pytest.approx(recorded.cost_usd.sum(axis=1))


def test_runs_of_a_model_are_samples_of_one_arm() -> None:
    here = world(matrix(60, n_runs=3))
    assert here.arms == tuple(map(Arm, COST_USD))
    assert here.n_samples == 3
    played = here.play(Plan.of("vote", n=3), here.by_arm, np.arange(60))
    assert played.n_calls.sum(axis=1).tolist() == [3] * 60
    assert {m.name for m in methods(3, 4)} >= {"self-consistency", "Avengers", "Model-Switch"}
    assert "self-consistency" not in {m.name for m in methods(1, 4)}


@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("n_arms", [2, 3, 4, 28])
def test_every_method_is_played_or_said_not_to_be(n_samples: int, n_arms: int) -> None:
    played = methods(n_samples, n_arms)
    assert all(m.tried for m in played)
    assert {"Symbolic-MoE", "Symbolic-MoE, as published"} <= {m.name for m in played}
    said = " ".join([*(m.name for m in played), *cannot_be_replayed(n_samples, n_arms)])
    for name in ("self-consistency", "Avengers", "Model-Switch"):
        assert name in said


def test_development_is_seen_blindly_and_test_by_a_fit_to_all_of_it() -> None:
    recorded = matrix(120)
    here = world(recorded)
    flipped = OutcomeMatrix(
        queries=recorded.queries, models=recorded.models, pred=recorded.pred,
        score=recorded.score.copy(), input_tokens=recorded.input_tokens,
        output_tokens=recorded.output_tokens, cost_usd=recorded.cost_usd,
    )  # fmt: skip
    flipped.score[here.sides.test] = 1 - flipped.score[here.sides.test]
    other = world(flipped)
    for view in ("by_arm", "by_cluster"):
        one, two = getattr(here, view), getattr(other, view)
        assert one.p_correct == pytest.approx(two.p_correct)
        for a, b in zip(one.competency, two.competency, strict=True):
            assert np.array_equal(a.margin, b.margin)


def test_without_answers_or_prices_nothing_can_be_replayed() -> None:
    recorded = matrix(40)
    silent = OutcomeMatrix(
        queries=recorded.queries, models=recorded.models, pred=np.full_like(recorded.pred, None),
        score=recorded.score, input_tokens=recorded.input_tokens,
        output_tokens=recorded.output_tokens, cost_usd=recorded.cost_usd,
    )  # fmt: skip
    with pytest.raises(DataError, match="No answers"):
        world(silent)
    recorded.cost_usd[0, 0] = np.nan
    with pytest.raises(DataError, match="costs are unknown"):
        world(recorded)


@pytest.mark.parametrize("n_runs", [1, 3])
def test_the_command_ends_in_one_line_of_json(tmp_path: Path, data_dir: Path, n_runs: int) -> None:
    folder = data_set(tmp_path / "set", 60, n_runs=n_runs)
    more = ("--development",) if n_runs == 1 else ()
    run = run_eval("strategies", "--data", folder, "--embedder", "hashing-64", *more)
    found = told(run)
    rows = {row["name"]: row for row in found["strategies"]}
    assert found["n_samples"] == n_runs
    assert found["judged_on"] == ("development" if more else "test")
    assert found["n_judged"] == (found["n_dev"] if more else 60 - found["n_dev"])
    assert {"best-single", "oracle", "routing", "top-k", "Symbolic-MoE", "agreement"} <= set(rows)
    assert ("self-consistency" in rows) == (n_runs == 3)
    assert any("self-consistency" in note for note in found["notes"]) == (n_runs == 1)
    assert rows["oracle"]["accuracy"] >= rows["best-single"]["accuracy"]
    assert rows["best-single"]["against_best_single"]["difference"] == 0
    assert rows["top-k"]["calls"] >= 2
    assert "Symbolic-MoE, as published" in rows
    for row in found["strategies"]:  # stdout is a pipe: a row has a line
        low, high = (f"{x * 100:+.1f}" for x in row["against_best_single"]["ci"])
        assert any(
            line.split()[0] == row["name"].split()[0]
            and row["setting"] in line
            and f"[{low}, {high}]" in line
            for line in run.stdout.splitlines()
            if line.split()
        ), row


def test_on_a_terminal_of_80_columns_every_figure_is_whole(tmp_path: Path, data_dir: Path) -> None:
    folder = data_set(tmp_path / "set", 60)
    run = run_eval(
        "strategies", "--data", folder, "--embedder", "hashing-64", "--development", columns=80
    )
    *table, _ = run.stdout.splitlines()
    table = table[: next(i for i, line in enumerate(table) if line.startswith("- "))]
    assert max(map(len, table)) <= 80
    for row in told(run)["strategies"]:
        low, high = (f"{x * 100:+.1f}" for x in row["against_best_single"]["ci"])
        assert any(f" [{low}, {high}]" in line for line in table)
        assert any(f"{row['accuracy']:.1%}" in line for line in table)
