"""``conclave eval estimators``: known biases come out, and ours keep their promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from eval.commands.estimators import format_simulated
from eval.cost_of_pass.simulations import GateRow, Row, Simulated, simulate
from tests.eval.commands import run_eval, told


@pytest.fixture(scope="module")
def run() -> tuple[str, Mapping[str, Any]]:
    result = run_eval("estimators", "--n", 2000, "--gates", 60, "--seed", 3)
    assert result.exit_code == 0, result.output
    return result.stdout, told(result)


def biases(found: Mapping[str, Any], situation: str, estimator: str) -> list[float]:
    return [
        r["bias"]
        for r in found["rows"]
        if r["situation"].startswith(situation) and r["estimator"].startswith(estimator)
    ]


def test_the_biases_that_are_known_come_out(run: tuple[str, Mapping[str, Any]]) -> None:
    _, found = run
    # E[n / k | k > 0] of 8 runs is 7.3, 6.6 and 4.0 for rates of .05, .1 and .3.
    for p, known in ((0.05, 7.3 * 0.05), (0.1, 6.6 * 0.1), (0.3, 4.04 * 0.3)):
        [bias] = biases(found, f"P = {p:g}", "ratio")[:1]
        assert bias == pytest.approx(known - 1, abs=0.03)
    few, many = biases(found, "frontier", "picked on the reported runs: pays")
    assert few > many > 0.2
    claims = biases(found, "frontier", "picked on the reported runs: claims")
    assert all(-0.3 < c < 0.1 for c in claims)  # it looks right, and pays far more
    assert biases(found, "tasks", "picked on the reported run: claims")[0] < -0.9
    naive = next(g for g in found["gates"] if not g["ours"])
    assert naive["violation_rate"] > 0.3


def test_ours_are_close_and_the_gate_keeps_its_word(run: tuple[str, Mapping[str, Any]]) -> None:
    text, found = run
    assert found["ok"]
    ours = [r for r in found["rows"] if r["ours"]]
    assert len(ours) >= 12
    for r in ours:
        assert abs(r["bias"]) <= 0.08, r  # with the default numbers it is 2 %
    gate = next(g for g in found["gates"] if g["ours"])
    assert gate["violation_rate"] <= 0.1 + 0.08
    assert gate["mean_coverage"] > 0.5
    for part in ("Estimators of cost-of-pass", "E[cost] / P", "Ours keep their promises"):
        assert part in text


def test_the_same_seed_draws_the_same() -> None:
    told_twice = [simulate(n=1000, n_gates=50, seed=1, on_stage=lambda s: None) for _ in "ab"]
    assert told_twice[0] == told_twice[1]


def test_a_broken_promise_is_said() -> None:
    row = Row(
        situation="s", estimator="e", of="o", ours=True, n=10, truth=10.0, mean=10.5,
        ci=(10.4, 10.6), bias=0.05,
    )  # fmt: skip
    gate = GateRow(
        gate="g", ours=True, n_calibration=10, n_gates=10, violation_rate=0.2, ci=(0.15, 0.3),
        mean_coverage=0.5,
    )  # fmt: skip
    assert not Simulated(rows=(row,), gates=()).ok
    assert not Simulated(rows=(), gates=(gate,)).ok
    assert [t.row_count for t in format_simulated(Simulated(rows=(row,), gates=(gate,)))] == [1, 1]
