"""``conclave eval estimators``: how far estimators of cost-of-pass are off the known truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table, percent, percent_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.cost_of_pass.simulations import Simulated


def register(group: typer.Typer) -> None:
    group.command()(estimators)


def estimators(
    n: Annotated[int, typer.Option(help="Simulated problems per situation.", min=1000)] = 40_000,
    gates: Annotated[int, typer.Option(help="Simulated calibrations of the gate.", min=50)] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Simulate: known biases of cost-of-pass from few runs, and estimators without them.

    Also how often the risk gate breaks its promise over simulated calibrations. Exit code 1 when
    one of ours is off by more than 2 %, or the gate breaks its promise too often. The last line is
    JSON.
    """
    from eval.cost_of_pass.simulations import simulate
    from eval.json_ready import json_ready

    found = simulate(n=n, n_gates=gates, seed=seed, on_stage=teller(as_json))
    if not as_json:
        print_parts(*format_simulated(found))
        typer.echo("Ours keep their promises." if found.ok else "One of ours breaks its promise.")
    told = {"n": n, "seed": seed, "ok": found.ok, **json_ready(found)}
    typer.echo(json.dumps(told))
    if not found.ok:
        raise typer.Exit(1)


def format_simulated(found: Simulated) -> list[Table]:
    """Biases and gates; what is ours is bold."""
    from rich.markup import escape

    from eval.cost_of_pass.simulations import ALPHA, DELTA, TOLERANCE

    rows = figures_table(
        ("situation", "estimator", "of"),
        ("truth", "mean", "95 %", "bias"),
        title=f"Estimators of cost-of-pass (bold: ours, held to {TOLERANCE:.0%})",
    )
    before = ""
    for r in found.rows:
        if before and r.situation != before:
            rows.add_section()
        name = f"[bold]{r.estimator}[/bold]" if r.ours else r.estimator
        rows.add_row(
            "" if r.situation == before else r.situation, name, escape(r.of), f"{r.truth:.4g}",
            f"{r.mean:.4g}", f"{r.ci[0]:.4g}-{r.ci[1]:.4g}", f"{r.bias:+.1%}",
        )  # fmt: skip
        before = r.situation
    gates = figures_table(
        ("gate",),
        ("answers", "gates", "violations", "95 %", "coverage"),
        title=f"Gates that promise at most {ALPHA:.0%} wrong, but for {DELTA:.0%} of calibrations",
    )
    for g in found.gates:
        gates.add_row(
            f"[bold]{g.gate}[/bold]" if g.ours else g.gate, str(g.n_calibration), str(g.n_gates),
            percent(g.violation_rate), percent_range(g.ci), percent(g.mean_coverage),
        )  # fmt: skip
    return [rows, gates]
