"""``conclave bench strategies``: what strategies bring on the bundled experts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import ACHIEVED, achieved, figures_table, percent, usd_gained
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.strategies_report import Against, Report, Row


def register(group: typer.Typer) -> None:
    group.command()(strategies)


def strategies(
    n: Annotated[
        int, typer.Option(help="Questions of each of three kinds; as many to choose on.", min=4)
    ] = 112,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Every strategy and aggregator on the bundled experts: right, dollars, calls, seconds.

    On held-out questions of one skill, of two in sequence, and look-alikes. The last line is JSON.
    Exit code 1 when a fixed strategy beats the default policy, which chooses by itself.
    """
    import asyncio

    from eval.benchmarks.strategies import run_strategies
    from eval.benchmarks.strategies_report import report_object
    from eval.json_ready import json_ready
    from orchestrator.conclave import Conclave
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger

    with Ledger(":memory:") as ledger:
        conclave = Conclave.shipped(Config(), ledger=ledger)
        report = asyncio.run(run_strategies(conclave, n=n, seed=seed, tell=teller(as_json)))
    if not as_json:
        print_parts(format_strategies(report), format_against_default(report))
        for note in (*report.notes, *report.not_played):
            typer.echo(f"- {note}")
    typer.echo(json.dumps(json_ready(report_object(report)), allow_nan=False))
    if not report.is_never_beaten:
        raise typer.Exit(1)


def format_strategies(report: Report) -> Table:
    """A line a strategy, at the default policy's price of a failure."""
    at = report.prices[0]
    kinds = tuple(report.n)
    drawn = ", ".join(f"{count} {kind}" for kind, count in report.n.items())
    right, right_ci, *dollars = ACHIEVED
    table = figures_table(
        ("strategy", "setting"),
        (right, right_ci, *kinds, "calls", "failed", *dollars, "s/1k"),
        title=f"{report.n_experts} experts, {sum(report.n.values())} held-out questions ({drawn}), "
        f"a failure at {at.fallback_price_usd:g} $",
        caption=f"95 % intervals. Settings were chosen on {report.n_val} other questions. "
        f"Seconds of computing, in batches. Seed {report.seed}.",
    )
    for row in at.rows:
        accuracy, accuracy_ci, *costs = achieved(row.figures)
        table.add_row(
            _named(row),
            row.setting,
            accuracy,
            accuracy_ci,
            *(percent(row.by_kind[k]) if k in row.by_kind else "" for k in kinds),
            f"{row.n_calls:.2f}",
            f"{row.n_failed:.2f}",
            *costs,
            f"{1000 * row.seconds:.3g}",
        )
    return table


def format_against_default(report: Report) -> Table:
    """What the default policy gains over each fixed strategy, at each policy's price."""
    table = figures_table(
        ("strategy",),
        [f"{at.policy}, V = {at.fallback_price_usd:g} $" for at in report.prices],
        title="Cost + V (1 - right) of 1000 questions less that of the policy, which chooses by "
        "itself: $ (95 %, paired)",
        caption="Above 0, the policy is better; an interval below 0 (!) says that it is beaten.",
    )
    for rows in zip(*(at.against for at in report.prices), strict=True):
        cells = [f"{usd_gained(a.gain_usd)}{'!' if a.is_beaten else ''}" for a in rows]
        table.add_row(_named(rows[0]), *cells)
    return table


def _named(row: Row | Against) -> str:
    """``vote`` is a strategy, and a way of merging what a team says."""
    return f"{row.name} of a team of three" if row.role == "aggregator" else row.name
