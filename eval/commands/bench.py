"""``conclave bench``: how fast things are on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.decision import Report
    from eval.benchmarks.serve import Timing

bench = typer.Typer(name="bench", help="How fast things are on this machine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(bench)


@bench.command()
def serve(
    n: Annotated[int, typer.Option(help="Questions to ask.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Help, server start and warm questions over HTTP, on an otherwise idle machine.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from rich.console import Console

    from eval.benchmarks.serve import run_bench

    tell = (lambda what: None) if as_json else lambda what: typer.echo(f"  {what} ...", err=True)
    timings = run_bench(n, seed=seed, on_progress=tell)
    if not as_json:
        Console().print(format_timings(timings))
    typer.echo(json.dumps({"seed": seed, "timings": [asdict(t) for t in timings]}))
    if any(t.goal_s is not None and t.p50_s > t.goal_s for t in timings):
        raise typer.Exit(1)


def format_timings(timings: Sequence[Timing]) -> Table:
    """Milliseconds, with the goal beside."""
    from rich.table import Table

    table = Table("", "n", "p50 ms", "p95 ms", "goal ms", title="Waiting", title_justify="left")
    for t in timings:
        goal = "" if t.goal_s is None else f"< {t.goal_s * 1000:.0f}"
        table.add_row(t.name, str(t.n), f"{t.p50_s * 1000:.1f}", f"{t.p95_s * 1000:.1f}", goal)
    return table


@bench.command()
def decision(
    n: Annotated[int, typer.Option(help="Questions to decide about.", min=20)] = 300,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    peers: Annotated[bool, typer.Option(help="Time other routers, too, if installed.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Which expert to ask: how long deciding takes on one thread, beside two other routers.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from rich.console import Console

    from eval.benchmarks.decision import run_bench

    report = run_bench(n, seed=seed, peers=peers)
    if not as_json:
        Console().print(format_decisions(report))
    typer.echo(json.dumps({"n": n, "seed": seed, **asdict(report)}))
    if any(t.goal_s and t.p50_s and t.p50_s > t.goal_s for t in report.latencies):
        raise typer.Exit(1)


def format_decisions(report: Report) -> Table:
    """Milliseconds, and the share of right categories with its 95 % interval; below, who is
    missing."""
    from rich.markup import escape
    from rich.table import Table

    from eval.benchmarks.decision import INSTALL

    names = ", ".join(report.missing)
    missing = escape(f"Not installed: {names}. In an environment of its own: {INSTALL}")
    table = Table(
        "", "n", "p50 ms", "p95 ms", "cpu ms", "goal", "right", "95 %",
        title="A decision on one thread; right: its category", title_justify="left",
        caption=missing if report.missing else None, padding=(0, 0),
    )  # fmt: skip
    for t in report.latencies:
        table.add_row(
            t.name, str(t.n), _ms(t.p50_s), _ms(t.p95_s), _ms(t.cpu_p50_s),
            "" if t.goal_s is None else f"< {t.goal_s * 1000:g}",
            "" if t.right is None else f"{t.right:.0%}",
            "{:.0%}-{:.0%}".format(*t.right_interval) if t.right_interval else "",
        )  # fmt: skip
    return table


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.2f}"
