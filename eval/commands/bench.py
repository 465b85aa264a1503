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

    from eval.bench_serve import Timing

bench = typer.Typer(name="bench", help="How fast things are on this machine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(bench)


@bench.callback()
def _several() -> None:
    """Keeps ``serve`` a command of its own while it is the only one."""


@bench.command()
def serve(
    n: Annotated[int, typer.Option(help="Questions to ask.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Help, server start and warm questions over HTTP, on an otherwise idle machine.

    The last line is JSON. Exit code 1 when a median misses its goal.
    """
    from rich.console import Console

    from eval.bench_serve import run_bench

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
