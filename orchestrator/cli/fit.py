"""``conclave fit``: from the ledger's recorded outcomes to a router."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table


def register(app: typer.Typer) -> None:
    app.command()(fit)


def fit(
    out: Annotated[
        Path | None, typer.Option(help="Where to write; the data folder by default.")
    ] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Fit router, calibration and plans from recorded outcomes.

    Outcomes of questions marked as test are never used. Record outcomes first: conclave record.
    """
    from orchestrator.config import load_config
    from orchestrator.fitting import fit_from_ledger
    from orchestrator.ledger import Ledger

    config = load_config(config_file)
    with Ledger(config.ledger_path) as ledger:
        stages = (lambda s: None) if as_json else lambda s: typer.echo(f"  {s} ...", err=True)
        fitted = fit_from_ledger(config, ledger, on_stage=stages)
    folder = out or config.fitted_dir
    fitted.save(folder)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **fitted.report}))
        return
    from rich.console import Console

    Console().print(format_fit(fitted.report))
    typer.echo(f"Saved in {folder}. Next: conclave ask 'What is 2 + 2?' --explain")


def format_fit(report: Mapping[str, Any]) -> Table:
    """What fitting saw and measured; blind means predicted without the question's own outcome."""
    from rich.table import Table

    table = Table("fitted on", "", title_justify="left")
    table.add_row("questions", str(report["n_questions"]))
    if left_out := report.get("left_out"):
        table.add_row("left out: an expert failed at them", str(len(left_out)))
    table.add_row("recorded calls", str(report["n_calls"]))
    table.add_row("right category, blind", f"{report['category_accuracy_blind']:.1%}")
    table.add_row("calibration error (ECE), blind", f"{report['ece_blind']:.3f}")
    table.add_row("taken for general: known categories", f"{report['general_when_known']:.1%}")
    table.add_row("taken for general: unknown ones", f"{report['general_when_unknown']:.1%}")
    return table
