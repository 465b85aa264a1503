"""``conclave bench gateway``: the load asks and sees what there is; the report adds it up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.benchmarks.gateway.gateways import check_peers
from eval.benchmarks.gateway.rounds import N_PIECES, Report, Size, _n_lost, run_bench
from eval.benchmarks.gateway.upstream import piece
from eval.commands.bench_gateway import format_gateways, goals_of
from experts.errors import UserError
from orchestrator.cli.command import app

TWO_CORES = len(os.sched_getaffinity(0)) >= 2 if hasattr(os, "sched_getaffinity") else False


@pytest.mark.skipif(not TWO_CORES, reason="a core for the gateway, and another for who asks")
def test_it_measures_what_conclave_does() -> None:
    size = Size(n_rounds=3, seconds=0.2, concurrencies=(1, 16), stream_concurrencies=(64,))
    report = run_bench([], size=size, peers_home=Path("nowhere"))
    by_way = {(f.gateway, f.streams, f.n_at_once): f for f in report.figures}
    assert set(by_way) == {
        (name, streams, n)
        for name in ("direct", "conclave")
        for streams, n in ((False, 1), (False, 16), (True, 64))
    }
    for figures in report.figures:
        assert figures.n_asked > 0
        assert (figures.n_failed, figures.n_lost) == (0, 0)
        assert (figures.added_p50_ms is None) == (figures.gateway == "direct")
    assert report.n_answered == report.n_recorded > 0
    assert 50 < report.memory_mb["conclave"] < 1000
    goals = goals_of(report)
    assert goals["every answer in the ledger, once"]
    assert goals["no request failed, no piece lost"]
    assert format_gateways(report).row_count == len(report.figures)


def stream_of(*pieces: str) -> bytes:
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in ("", *pieces)]
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, {"choices": []}]]
    return "".join([*events, "data: [DONE]\n\n"]).encode()


ALL = [piece(i) for i in range(N_PIECES)]


@pytest.mark.parametrize(
    ("pieces", "n_lost"),
    [(ALL, 0), (ALL[:-1], 1), ([], N_PIECES), ([*ALL[:3], ALL[4], ALL[3], *ALL[5:]], 2)],
)
def test_pieces_that_do_not_come_are_counted(pieces: list[str], n_lost: int) -> None:
    assert _n_lost(stream_of(*pieces)) == n_lost


def test_peers_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make peers"):
        check_peers(["litellm"], tmp_path)
    with pytest.raises(UserError, match="no peer 'nginx'"):
        check_peers(["nginx"], tmp_path)
    ran = CliRunner().invoke(app, ["bench", "gateway", "--peers", "litellm", "--peers-home", "x"])
    assert ran.exit_code != 0


def test_goals_that_are_missed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.benchmarks.gateway.rounds import Figures
    from eval.statistics import Estimate

    def estimate(value: float) -> Estimate:
        return Estimate(value=value, ci=(value, value))

    def figures(name: str, n: int, per_s: float, *, streams: bool = False) -> Figures:
        return Figures(
            gateway=name, streams=streams, n_at_once=n, n_asked=10, per_s=estimate(per_s),
            p50_ms=estimate(1), p99_ms=estimate(1), added_p50_ms=estimate(0.5),
            added_p99_ms=estimate(1), n_failed=0, n_lost=0,
        )  # fmt: skip

    report = Report(
        figures=(
            figures("conclave", 1, 2000),
            figures("conclave", 16, 5000),
            figures("conclave", 64, 100, streams=True),
            figures("litellm", 16, 170),
        ),
        memory_mb={"conclave": 150.0, "litellm": 400.0},
        n_answered=10,
        n_recorded=9,
    )
    missed = {goal for goal, reached in goals_of(report).items() if not reached}
    assert missed == {
        "added p50 at most 0.4 ms, one at a time",
        "every answer in the ledger, once",
        "30 times litellm's requests/s with 16 at once",
    }
