"""``conclave bench decision``: a table for people, one line of JSON for scripts."""

from __future__ import annotations

import json

import pytest

from eval.benchmarks.decision import Latency, Report
from eval.commands.bench_speed import format_decisions
from tests.shown import shown
from tests.typed import typed


def test_the_table_fits_a_terminal_and_names_missing_peers() -> None:
    latency = Latency(
        name="no shortcut, hashing",
        n=300,
        p50_s=0.00123,
        p50_interval_s=(0.0011, 0.0014),
        p95_s=0.0123,
        cpu_p50_s=0.001,
        right=0.987,
        right_interval=(0.96, 0.99),
        goal_s=0.003,
    )
    report = Report(latencies=[latency], missing=["litellm"], settled_share=0.5)
    text = shown(format_decisions(report), columns=80)
    assert "no shortcut, hashing" in text
    assert "1.23" in text
    assert "99%" in text
    assert "conclave-coe[bench]" in text.replace("\n", " ")


def test_a_contestant_without_questions_has_no_times() -> None:
    nothing = Latency(
        name="embedded", n=0, p50_s=None, p50_interval_s=None, p95_s=None, cpu_p50_s=None
    )
    report = Report(latencies=[nothing], missing=[], settled_share=1.0)
    assert "embedded" in shown(format_decisions(report))


def test_the_last_line_is_json(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCLAVE_HOME", str(tmp_path_factory.mktemp("bench")))
    run = typed("bench", "decision", "--n", "20", "--no-peers")
    assert run.returncode in (0, 1), run.stderr  # 1: a busy machine missed a goal
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["n"], told["seed"]) == (20, 0)
    assert 0 <= told["settled_share"] <= 1
    by_name = {t["name"]: t for t in told["latencies"]}
    assert {"Conclave", "encoder (floor)", "encoder, 26 tokens", "no shortcut"} <= set(by_name)
    assert by_name["Conclave"]["n"] == 20
    assert by_name["Conclave"]["right"] > 0.7
    assert by_name["no shortcut"]["p50_s"] > 0
    assert not {"litellm complexity", "semantic-router"} & set(by_name)
