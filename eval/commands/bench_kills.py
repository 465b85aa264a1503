"""``conclave bench kills`` and ``runs``: what is left of promises after ``kill -9``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.kills import KillsReport
    from eval.benchmarks.runs import RunsReport


def register(group: typer.Typer) -> None:
    for command in (kills, runs):
        group.command()(command)


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
    from eval.benchmarks.kills import KillsSize, run_bench

    tell = teller(as_json)
    starting_s = 20.0 if vllm else 5.0
    size = KillsSize(n_kills=n, starting_s=starting_s, max_s=60 * max_minutes)
    report = run_bench(size, python=vllm and vllm.absolute(), seed=seed, tell=tell)
    if not as_json:
        print_parts(format_kills(report))
    typer.echo(json.dumps({"seed": seed, **asdict(report)}))
    if not all(report.promises.values()):
        raise typer.Exit(1)


def format_kills(report: KillsReport) -> Table:
    """A row for what was killed at which stage; below, the promises and what broke them."""
    from statistics import median

    from rich.markup import escape

    told = [
        f"{'kept' if kept else 'BROKEN'}: {promise}" for promise, kept in report.promises.items()
    ]
    if report.n_begun:
        told.insert(0, f"engines answered {report.n_ended} calls of {report.n_begun} that began")
    told += report.problems
    table = figures_table(
        ("killed", "while"),
        ("times", "back p50 s", "longest s"),
        title=f"kill -9, {len(report.kills)} times in {report.seconds:.0f} s: {report.n_queries} "
        f"queries in batches, {report.n_requests} requests (connections broke {report.n_broken} "
        "times)",
        caption=escape("\n".join(told)),
    )
    groups: dict[tuple[str, str], list[float]] = {}
    for kill in report.kills:
        groups.setdefault((kill.victim, kill.stage), []).append(kill.recovery_s)
    for (victim, stage), back_s in sorted(groups.items()):
        table.add_row(
            victim, stage, str(len(back_s)), f"{median(back_s):.1f}", f"{max(back_s):.1f}"
        )
    return table


def runs(
    n: Annotated[int, typer.Option("-n", help="Kills.", min=1)] = 30,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """kill -9 of a durable run of ten calls at random moments: is each call paid once?

    The last line is JSON. Exit code 1 when a promise is broken.
    """
    from eval.benchmarks.runs import run_bench

    tell = teller(as_json)
    report = run_bench(n, seed=seed, tell=tell)
    if not as_json:
        print_parts(format_killed_runs(report))
    typer.echo(json.dumps({"seed": seed, "kept": report.is_kept, **asdict(report)}))
    if not report.is_kept:
        raise typer.Exit(1)


def format_killed_runs(report: RunsReport) -> Table:
    """A row for how far the run was; below, the promises and what broke them."""
    from statistics import median

    from rich.markup import escape

    def kept(count: int) -> str:
        return f"{count} of {len(report.killed)}"

    n_lost = sum(k.n_lost for k in report.killed)
    told = [
        f"the same answer: {kept(sum(k.same_answer for k in report.killed))}",
        f"the ledger holds each call once: {kept(sum(k.each_call_once for k in report.killed))}",
        f"answers lost on their way, asked again: {n_lost}",
        *report.problems,
    ]
    table = figures_table(
        ("calls back when killed",),
        ("runs", "lost", "to the end p50 s", "longest s"),
        title=f"kill -9 of a run of {report.n_calls} calls, {len(report.killed)} times; it takes "
        f"{report.seconds_unkilled:.2f} s unkilled",
        caption=escape("\n".join(told)),
    )
    for n_before in sorted({k.n_before for k in report.killed}):
        some = [k for k in report.killed if k.n_before == n_before]
        back_s = [k.recovery_s for k in some]
        table.add_row(
            str(n_before), str(len(some)), str(sum(k.n_lost for k in some)),
            f"{median(back_s):.2f}", f"{max(back_s):.2f}",
        )  # fmt: skip
    return table
