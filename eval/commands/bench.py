"""``conclave bench``: how fast things are on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.bench_residency import residency
from orchestrator.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.decision import Report
    from eval.benchmarks.kills import KillsReport
    from eval.benchmarks.serve import Timing

bench = typer.Typer(name="bench", help="How fast things are on this machine.", no_args_is_help=True)
bench.command()(residency)


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


@bench.command()
def kills(
    vllm: Annotated[
        Path | None,
        typer.Option(
            help="The Python that has vLLM: experts run on two engines, which are killed, too."
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Kills.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments and the questions.")] = 0,
    max_minutes: Annotated[float, typer.Option(help="No kill is made after that.", min=0.1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """kill -9 of a batch, a server and engines at random moments: is everything answered once?

    The last line is JSON. Exit code 1 when a promise is broken.
    """
    from rich.console import Console

    from eval.benchmarks.kills import KillsSize, run_bench

    tell = (lambda what: None) if as_json else lambda what: typer.echo(f"  {what} ...", err=True)
    starting_s = 20.0 if vllm else 5.0
    size = KillsSize(n_kills=n, starting_s=starting_s, max_s=60 * max_minutes)
    report = run_bench(size, python=vllm and vllm.absolute(), seed=seed, tell=tell)
    if not as_json:
        Console().print(format_kills(report))
    typer.echo(json.dumps({"seed": seed, **asdict(report)}))
    if not all(report.promises.values()):
        raise typer.Exit(1)


def format_kills(report: KillsReport) -> Table:
    """A row for what was killed at which stage; below, the promises and what broke them."""
    from statistics import median

    from rich.markup import escape
    from rich.table import Table

    told = [
        f"{'kept' if kept else 'BROKEN'}: {promise}" for promise, kept in report.promises.items()
    ]
    told += report.problems
    table = Table(
        "killed", "while", "times", "back p50 s", "longest s",
        title=f"kill -9, {len(report.kills)} times in {report.seconds:.0f} s: {report.n_queries} "
        f"queries in batches, {report.n_requests} requests (connections broke {report.n_broken} "
        "times)",
        title_justify="left", caption=escape("\n".join(told)), caption_justify="left",
    )  # fmt: skip
    groups: dict[tuple[str, str], list[float]] = {}
    for kill in report.kills:
        groups.setdefault((kill.victim, kill.stage), []).append(kill.recovery_s)
    for (victim, stage), back_s in sorted(groups.items()):
        table.add_row(
            victim, stage, str(len(back_s)), f"{median(back_s):.1f}", f"{max(back_s):.1f}"
        )
    return table
