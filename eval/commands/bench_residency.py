"""``conclave bench residency``: which expert is loaded when, on the clock and on real engines.

The command and its tables; what is played is in ``eval/benchmarks/residency*``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.engines_rig import Played
    from eval.benchmarks.residency import Report
    from eval.benchmarks.residency_engines import EnginesReport


def register(group: typer.Typer) -> None:
    group.command()(residency)


def residency(
    vllm: Annotated[
        Path | None,
        typer.Option(help="A Python that has vLLM: the policies drive two real engines, too."),
    ] = None,
    clock: Annotated[bool, typer.Option(help="Play them on the virtual clock.")] = True,
    quick: Annotated[
        bool, typer.Option(help="Small: half a minute (engines: three), figures of no use.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Draws of requests, on the clock.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Which expert is loaded when: all policies on a virtual clock, beside a lower bound.

    With --vllm (a path, after `make vllm` it is .venv-vllm/bin/python) also on two real engines
    with the eight bundled experts. Each part takes some fifteen minutes. The last line is JSON.
    Exit code 1 when a goal is missed (not if quick).
    """
    from eval.benchmarks.residency import QUICK, Size, run_bench
    from eval.benchmarks.residency_engines import QUICK_ON_ENGINES, OnEngines, run_on_engines
    from experts.errors import UserError

    if not (clock or vllm):
        raise UserError("Nothing to run: --no-clock needs --vllm PYTHON.")
    tell = teller(as_json)
    on_engines = on_clock = None
    if vllm is not None:
        of = QUICK_ON_ENGINES if quick else OnEngines()
        on_engines = asyncio.run(run_on_engines(vllm.absolute(), of, seed=seed, tell=tell))
        if not as_json:
            print_parts(*format_on_engines(on_engines))
    if clock:
        size = replace(QUICK if quick else Size(), n_seeds=seeds)
        on_clock = run_bench(size, seed=seed, tell=tell)
        if not as_json:
            print_parts(*format_residency(on_clock))
    reports = {
        "engines": on_engines and asdict(on_engines),
        "clock": on_clock and asdict(on_clock),
    }
    typer.echo(json.dumps(reports))
    goals = [r.goals for r in (on_engines, on_clock) if r is not None]
    if not quick and not all(reached for one in goals for reached in one.values()):
        raise typer.Exit(1)


def format_on_engines(report: EnginesReport) -> list[Table]:
    """The batch, a table a rate, the ways of swapping, and the goals."""
    hand = ", ".join(f"{s:.1f}" for s in report.by_hand_s)
    overhead = ", ".join(f"{share:+.1%}" for share in report.overhead)
    title = (
        f"Two engines, {report.n_experts} experts: {report.n} questions at once. "
        f"By hand {hand} s without swaps; overhead of ours {overhead}"
    )
    tables = [_played(title, report.batch)]
    tables += [
        _played(
            f"Online: {online.n}, {online.per_s:.3g} a second ({online.share:.0%} of what "
            f"engines can answer); bound on waiting {online.max_wait_s:g} s",
            online.played,
        )
        for online in report.online
    ]
    ways = figures_table(("way",), ("n", "median s"), title="Swaps")
    for way, seconds in report.swap_s.items():
        ways.add_row(way, str(report.n_swaps[way]), f"{seconds:.2f}")
    goals = figures_table(("goal", ""), (), title="Goals on engines")
    for goal, reached in report.goals.items():
        goals.add_row(goal, "reached" if reached else "missed")
    for name, ratio in report.ratios.items():
        goals.add_row(f"{name}: 1/{1 / ratio:.0f}", "")
    return [*tables, ways, goals]


def _played(title: str, rows: Sequence[Played]) -> Table:
    figures = ("makespan s", "loads", "p50 s", "p99 s", "longest", "other answers", "left")
    table = figures_table(("",), figures, title=title)
    for p in rows:
        table.add_row(
            p.policy, f"{p.makespan_s:.1f}", str(p.n_loads), f"{p.wait_p50_s:.2f}",
            f"{p.wait_p99_s:.2f}", f"{p.wait_max_s:.2f}", str(p.n_other_answers + p.n_failed),
            str(p.n_given_up),
        )  # fmt: skip
    return table


def format_residency(report: Report) -> list[Table]:
    """A table a case, then capacities, llmux's shares, and the goals."""
    tables = []
    for case in report.tables:
        bound = (
            f"lower bound {case.lower_bound_s:.0f} s"
            if case.lower_bound_s is not None
            else f"bound on waiting {case.max_wait_s:g} s"
        )
        shown = figures_table(
            ("",),
            ("makespan s", "/bound", "loads", "p50 s", "p99 s", "longest", "fair", "serving"),
            title=f"{case.name}, {case.n_requests} requests, {len(report.seeds)} seeds; {bound}",
        )
        for r in case.rows:
            shown.add_row(
                r.policy, f"{r.makespan_s:.0f}", "" if r.to_bound is None else f"{r.to_bound:.2f}",
                f"{r.n_loads:.0f}", f"{r.wait_p50_s:.1f}", f"{r.wait_p99_s:.1f}",
                f"{r.wait_max_s:.1f}", f"{r.fairness:.2f}", f"{r.serving_share:.0%}",
            )  # fmt: skip
        tables.append(shown)
    capacity = figures_table(
        ("", "case"),
        ("load", "95 %", "requests/s"),
        title="Highest load with no wait beyond the bound",
    )
    for c in report.capacities:
        low, high = c.interval
        capacity.add_row(
            c.policy, c.case, f"{c.load:.2f}", f"{low:.2f}-{high:.2f}", f"{c.per_s:.1f}"
        )
    shares = figures_table(
        ("",),
        ("switch s", "serving", "longest wait s"),
        title="llmux's workloads: share of slot time spent serving",
    )
    for s in report.shares:
        shares.add_row(s.policy, f"{s.switch_s:g}", f"{s.serving_share:.0%}", f"{s.wait_max_s:.0f}")
    goals = figures_table(("goal", ""), (), title="Goals")
    for goal, reached in report.goals.items():
        goals.add_row(goal, "reached" if reached else "missed")
    goals.add_row(
        f"{report.large_n} requests: {report.large_s:.0f} s, {report.large_to_bound:.3f} of the "
        "lower bound",
        "",
    )
    return [*tables, capacity, shares, goals]
