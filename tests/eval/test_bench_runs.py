"""``conclave bench runs`` and ``conclave bench overhead``."""

from __future__ import annotations

import json

from eval.benchmarks.overhead import DURABLE, FLOOR, PLANS
from eval.benchmarks.runs import N_CALLS, KilledRun, RunsReport
from eval.commands.bench_kills import format_killed_runs
from tests.shown import shown
from tests.typed import typed


def test_a_run_that_is_killed_keeps_what_is_promised() -> None:
    run = typed("bench", "runs", "-n", "1", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["kept"], told["seed"], told["n_calls"]) == (True, 0, N_CALLS)
    [killed] = told["killed"]
    assert killed["same_answer"]
    assert killed["each_call_once"]
    assert told["problems"] == []


def test_the_table_says_what_was_kept_and_what_was_broken() -> None:
    kept = KilledRun(
        at_s=0.1, n_before=3, n_lost=1, recovery_s=0.2, same_answer=True, each_call_once=True
    )
    broken = KilledRun(
        at_s=0.2, n_before=7, n_lost=0, recovery_s=0.1, same_answer=False, each_call_once=True
    )
    report = RunsReport(
        n_calls=10, seconds_unkilled=0.4, killed=[kept, broken], problems=["kill 2: it says [x]"]
    )
    text = shown(format_killed_runs(report))
    assert "the same answer: 1 of 2" in text
    assert "the ledger holds each call once: 2 of 2" in text
    assert "kill 2: it says [x]" in text
    assert not report.is_kept


def test_a_step_is_measured_live_and_durable() -> None:
    run = typed("bench", "overhead", "--n", "10")
    assert run.returncode in (0, 1), run.stderr  # 1: a busy machine missed a goal
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["n"], told["seed"]) == (10, 0)
    steps = {row["name"]: row for row in told["steps"]}
    assert set(steps) == {*PLANS, FLOOR, DURABLE}
    for row in steps.values():
        low, high = row["cpu_p50_interval_s"]
        assert low <= row["cpu_p50_s"] <= high
        assert row["n_steps"] >= row["n"] == 10
        assert row["n_calls"] >= row["n_steps"]
        parts = [row["strategy_s"], row["driver_s"], row["ledger_s"]]
        assert all(part is None for part in parts) == (row["name"] not in PLANS)
    assert steps["vote of 5"]["n_calls"] == 5 * steps["vote of 5"]["n_steps"]
    assert steps[DURABLE]["n_steps"] == steps["cascade"]["n_steps"]
    assert steps[FLOOR]["cpu_p50_s"] < steps["cascade"]["cpu_p50_s"] < steps[DURABLE]["cpu_p50_s"]
    assert run.stdout.startswith("A step outside of its experts")
