"""``conclave bench serve``, ``decision`` and ``overhead``: how long things take on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table, percent, percent_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.decision import Report
    from eval.benchmarks.overhead import Overhead
    from eval.benchmarks.serve import Timing


def register(group: typer.Typer) -> None:
    for command in (serve, decision, overhead):
        group.command()(command)


def serve(
    n: Annotated[int, typer.Option(help="Questions to ask.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Help, server start and warm questions over HTTP, on an otherwise idle machine.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from eval.benchmarks.serve import run_bench

    timings = run_bench(n, seed=seed, on_progress=teller(as_json))
    if not as_json:
        print_parts(format_timings(timings))
    typer.echo(json.dumps({"seed": seed, "timings": [asdict(t) for t in timings]}))
    if any(t.goal_s is not None and t.p50_s > t.goal_s for t in timings):
        raise typer.Exit(1)


def format_timings(timings: Sequence[Timing]) -> Table:
    """Milliseconds, with the goal beside."""
    table = figures_table(("",), ("n", "p50 ms", "p95 ms", "goal ms"), title="Waiting")
    for t in timings:
        goal = "" if t.goal_s is None else f"< {t.goal_s * 1000:.0f}"
        table.add_row(t.name, str(t.n), f"{t.p50_s * 1000:.1f}", f"{t.p95_s * 1000:.1f}", goal)
    return table


def decision(
    n: Annotated[int, typer.Option(help="Questions to decide about.", min=20)] = 300,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    peers: Annotated[bool, typer.Option(help="Time other routers, too, if installed.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Which expert to ask: how long deciding takes on one thread, beside two other routers.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from eval.benchmarks.decision import run_bench

    report = run_bench(n, seed=seed, peers=peers)
    if not as_json:
        print_parts(format_decisions(report))
    typer.echo(json.dumps({"n": n, "seed": seed, **asdict(report)}))
    if any(t.goal_s and t.p50_s and t.p50_s > t.goal_s for t in report.latencies):
        raise typer.Exit(1)


def format_decisions(report: Report) -> Table:
    """Milliseconds, and the share of right categories with its 95 % interval; below, who is
    missing."""
    from rich.markup import escape

    from eval.benchmarks.decision import INSTALL

    names = ", ".join(report.missing)
    missing = escape(f"Not installed: {names}. In an environment of its own: {INSTALL}")
    table = figures_table(
        ("",),
        ("n", "p50 ms", "p95 ms", "cpu ms", "goal", "right", "95 %"),
        title="A decision on one thread; right: its category",
        caption=missing if report.missing else None,
    )
    for t in report.latencies:
        table.add_row(
            t.name, str(t.n), _ms(t.p50_s), _ms(t.p95_s), _ms(t.cpu_p50_s),
            "" if t.goal_s is None else f"< {t.goal_s * 1000:g}",
            "" if t.right is None else percent(t.right, digits=0),
            percent_range(t.right_interval, digits=0) if t.right_interval else "",
        )  # fmt: skip
    return table


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.2f}"


def overhead(
    n: Annotated[int, typer.Option(help="Questions to answer.", min=10)] = 100,
    seed: Annotated[int, typer.Option(help="Of the questions and their order.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """A strategy's step outside of its experts: processor time, live and durable.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from eval.benchmarks.overhead import run_bench

    rows = run_bench(n, seed=seed)
    if not as_json:
        print_parts(format_overheads(rows))
    typer.echo(json.dumps({"n": n, "seed": seed, "steps": [asdict(row) for row in rows]}))
    if any(row.goal_s is not None and row.cpu_p50_s > row.goal_s for row in rows):
        raise typer.Exit(1)


def format_overheads(rows: Sequence[Overhead]) -> Table:
    """Milliseconds of processor time a step, with the median's 95 % interval and its parts."""
    goal = max((row.goal_s for row in rows if row.goal_s is not None), default=0.0)
    table = figures_table(
        ("",),
        ("steps", "calls", "ms", "95 %", "strategy", "driver", "ledger", "cold ms"),
        title="A step outside of its experts, processor time",
        caption=f"Goal: less than {goal * 1000:g} ms where parts are told.",
    )
    for row in rows:
        low, high = row.cpu_p50_interval_s
        parts = (row.strategy_s, row.driver_s, row.ledger_s)
        table.add_row(
            row.name, str(row.n_steps), str(row.n_calls), f"{row.cpu_p50_s * 1000:.3f}",
            f"{low * 1000:.3f}-{high * 1000:.3f}",
            *("" if part is None else f"{part * 1000:.3f}" for part in parts),
            f"{row.cpu_cold_p50_s * 1000:.3f}",
        )  # fmt: skip
    return table
