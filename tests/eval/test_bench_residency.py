"""``conclave bench residency``: every policy in every table, and one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from eval.benchmarks.residency import OURS, Report, Size, policies, run_bench
from eval.benchmarks.residency_scenarios import llmux_workloads
from eval.commands.bench_residency import format_residency
from tests.shown import shown

TINY = Size(
    n_batch=150, n_online=150, n_capacity=60, n_large=200, n_seeds=2, n_steps=2, n_experts=12
)


@pytest.fixture(scope="module")
def report() -> Report:
    return run_bench(TINY)


def test_all_policies_play_the_same_requests(report: Report) -> None:
    assert len(report.tables) == 6
    for table in report.tables:
        assert {row.policy for row in table.rows} == set(policies(1.0))
        assert OURS in policies(None)
    assert all(r.to_bound >= 1 for t in report.tables[:2] for r in t.rows if r.to_bound)
    assert all(0 <= c.load <= 1.28 for c in report.capacities)


def test_the_tables_fit_a_terminal(report: Report) -> None:
    text = shown(*format_residency(report), columns=100)
    assert "lower bound" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_report_is_json(report: Report) -> None:
    assert json.loads(json.dumps(asdict(report)))["seeds"] == [0, 1]


def test_plain_grouping_has_the_shares_that_llmux_published(report: Report) -> None:
    # Its drain-first policy without the limit is plain grouping: 94 % at 2 s and 61 % at 20 s.
    share = {(s.policy, s.switch_s): s.serving_share for s in report.shares}
    assert share["largest queue first", 2.0] == pytest.approx(0.94, abs=0.01)
    assert share["largest queue first", 20.0] == pytest.approx(0.61, abs=0.05)
    assert {len(rows) for rows in llmux_workloads().values()} >= {300, 40, 60}
