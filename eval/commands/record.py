"""``conclave record``: ask all experts all questions of a file, grade, and keep the outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption


def register(app: typer.Typer) -> None:
    app.command()(record)


def record(
    questions: Annotated[
        Path, typer.Argument(help='JSONL: {"question": ..., "answer": ..., "skill": ...} a line.')
    ],
    samples: Annotated[
        int, typer.Option(help="Answers of each expert to each question; votes need 3.", min=1)
    ] = 1,
    budget: Annotated[
        float | None, typer.Option(help="Dollars after which no further batch is asked.", min=0)
    ] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Record outcomes of your experts on questions with known answers.

    Interrupt it when you like: running it again goes on where it stopped. Then: conclave fit.
    """
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from eval.questions import read_questions
    from eval.recording import RecordingProgress, record_outcomes
    from orchestrator.config import load_config
    from orchestrator.fitting import check_skills
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts
    from skills.taxonomy import Taxonomy

    config = load_config(config_file)
    asked = read_questions(questions)
    # Before anything is paid: fitting would refuse them.
    check_skills((q.skill for q in asked), Taxonomy.load(config.taxonomy))
    experts = make_experts(config)
    bar = Progress(
        TextColumn("recording"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[spent]:.2e} $"),
        Remaining(),
        console=Console(stderr=True),
        disable=as_json,
    )
    with Ledger(config.ledger_path) as ledger, bar:
        task = bar.add_task("", total=None, spent=0.0)

        def show(progress: RecordingProgress) -> None:
            bar.update(
                task,
                completed=progress.n_done,
                total=progress.n_total,
                spent=progress.cost_usd,
            )

        try:
            summary = asyncio.run(
                record_outcomes(
                    asked,
                    experts,
                    ledger,
                    n_samples=samples,
                    budget_usd=budget,
                    on_progress=show,
                )
            )
        except KeyboardInterrupt:
            bar.stop()
            typer.echo("Interrupted. What was answered is kept; run it again to go on.", err=True)
            raise
    told = {
        "n_questions": len(asked),
        "n_asked": summary.n_asked,
        "n_skipped": summary.n_skipped,
        "n_failed": summary.n_failed,
        "cost_usd": summary.cost_usd,
        "stopped_by_budget": summary.stopped_by_budget,
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        f"{summary.n_asked} calls made, {summary.n_skipped} already recorded, "
        f"{summary.n_failed} failed; {summary.cost_usd:.2e} $."
    )
    if summary.stopped_by_budget:
        typer.echo("Stopped by the budget. Run it again to go on.")
    else:
        typer.echo("Next: conclave fit")
