"""``conclave lab``: train, examine and fit the bundled experts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from eval.bundled.examination import Cell

lab = typer.Typer(
    name="lab",
    help="The laboratory: train, examine and fit the bundled experts.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.add_typer(lab)


@lab.command()
def train(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experts to train; all when none is named.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; the package's own by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[
        int | None, typer.Option(help="Experts trained side by side; one a core by default.", min=1)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small expert on few questions: a check, not a model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the bundled experts from their recipes: under an hour on two cores."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from experts.bundled import FOLDER
    from experts.lab.recipe import QUICK, recipes_named
    from experts.lab.train import Progress as Trained
    from experts.lab.train_all import train_all

    recipes = (QUICK,) if quick else recipes_named(names)
    folder = out or (Path("quick-lab") if quick else FOLDER)
    bar = Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=as_json,
    )
    with bar:
        tasks = {
            r.name: bar.add_task(r.name, total=None, loss=math.nan, start=False) for r in recipes
        }

        told: dict[str, int] = {}

        def show(name: str, p: Trained) -> None:
            bar.start_task(tasks[name])
            bar.update(tasks[name], completed=p.step, total=p.n_steps, loss=p.loss)
            tenth = 10 * p.step // p.n_steps
            if not (bar.console.is_terminal or as_json) and tenth > told.get(name, 0):
                told[name] = tenth  # a log has no bar to watch
                line = f"{name:<12} {tenth * 10:>3} %  loss {p.loss:.3f}  {p.elapsed_s:.0f} s"
                typer.echo(line, err=True)

        runs = train_all(
            recipes, folder, device=device, n_jobs=jobs or os.cpu_count() or 1, report=show
        )
    if not as_json:
        where = "" if folder == FOLDER else f" --folder {folder}"
        typer.echo(f"Trained into {folder}. Next: conclave lab evaluate{where}")
    trained = [
        {
            "expert": name,
            "folder": str(folder / name),
            "n_steps": run.n_steps,
            "first_loss": round(run.losses[0], 4),
            "last_loss": round(run.losses[-1], 4),
            "seconds": round(run.seconds, 1),
            "parameters": run.parameters,
        }
        for name, run in runs.items()
    ]
    typer.echo(json.dumps({"trained": trained}))


@lab.command()
def evaluate(
    n: Annotated[int, typer.Option(help="Questions a skill, for each kind of wording.")] = 100,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of trained experts; the package's by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Exact match of every expert on every skill, with 95 % intervals; the last line is JSON.

    Questions are of the test split: problems that training never drew, with wordings it knew and
    with wordings it never saw.
    """
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import Progress

    from eval.bundled.examination import run_examination, verdicts
    from experts.bundled import FOLDER, bundled_experts, bundled_models

    folder = folder or FOLDER
    fields = {m.name: m.categories for m in bundled_models(folder)}
    worker = ThreadPoolExecutor(max_workers=1)
    experts = {e.card.name: e for e in bundled_experts(worker, load_usd_per_s=0.0, folder=folder)}
    with Progress(console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("examining", total=None)
        cells = run_examination(
            experts,
            n=n,
            seed=seed,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    judged = verdicts(cells, fields)
    if not as_json:
        console = Console()
        for held_out in (False, True):
            console.print(format_matrix(cells, fields, held_out_wording=held_out))
        console.print(format_verdicts(judged))
    typer.echo(json.dumps(examination_object(cells, judged, n, seed)))


@lab.command()
def fit(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; the shipped state by default.")
    ] = None,
    n: Annotated[int, typer.Option(help="Questions a skill to record.")] = 30,
    ledger_file: Annotated[
        Path | None, typer.Option("--ledger", help="Keep the recorded outcomes in this ledger.")
    ] = None,
) -> None:
    """Remake the fitted state that ships for the bundled experts: record, then fit.

    Recorded are questions of the validation split with wordings known to training, so that the
    test split and the held-out wordings stay clean.
    """
    import asyncio

    from rich.console import Console

    from eval.questions import lab_questions
    from eval.recording.record import record_outcomes
    from orchestrator.cli.fit import format_fit
    from orchestrator.conclave import SHIPPED_STATE
    from orchestrator.config import Config
    from orchestrator.fitting import fit_from_ledger
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts

    config = Config()
    questions = lab_questions(n, "val", held_out_wording=False, seed=1)
    with Ledger(ledger_file or ":memory:") as ledger:
        typer.echo(f"recording {len(questions)} questions ...", err=True)
        asyncio.run(record_outcomes(questions, make_experts(config), ledger, n_samples=3))
        fitted = fit_from_ledger(
            config, ledger, on_stage=lambda s: typer.echo(f"  {s} ...", err=True)
        )
    fitted.save(out or SHIPPED_STATE)
    Console().print(format_fit(fitted.report))


def format_matrix(
    cells: Sequence[Cell], fields: Mapping[str, Sequence[str]], *, held_out_wording: bool
) -> Table:
    """Accuracy in percent, skills down, experts across; an expert's own field is bold."""
    from rich.table import Table

    chosen = {(c.skill, c.expert): c for c in cells if c.held_out_wording == held_out_wording}
    experts = list(fields)
    kind = "wordings never trained on" if held_out_wording else "trained wordings, new problems"
    n = next(iter(chosen.values())).n
    table = Table(
        "skill", *experts, title=f"Accuracy (%) with 95 % interval, n = {n}: {kind}",
        title_justify="left",
    )  # fmt: skip
    for skill in dict.fromkeys(c.skill for c in cells):
        row = []
        for expert in experts:
            cell = chosen[skill, expert]
            low, high = cell.interval
            text = f"{cell.accuracy * 100:.0f} [dim]{low * 100:.0f}-{high * 100:.0f}[/dim]"
            row.append(f"[bold]{text}[/bold]" if cell.category in fields[expert] else text)
        table.add_row(skill, *row)
    return table


def format_verdicts(judged: Sequence[Any]) -> Table:
    """Each expert inside and outside of its field."""
    from rich.table import Table

    table = Table(
        "expert", "own skills", "worst", "own, new wordings", "worst ", "outside", "best there"
    )
    for v in judged:
        table.add_row(
            v.expert,
            *(
                "-" if math.isnan(x) else f"{x:.1%}"
                for x in (
                    v.own, v.own_worst, v.own_held_out, v.own_held_out_worst, v.outside,
                    v.outside_best,
                )
            ),
        )  # fmt: skip
    return table


def examination_object(
    cells: Sequence[Cell], judged: Sequence[Any], n: int, seed: int
) -> dict[str, Any]:
    """JSON-ready: the matrix and the verdicts."""
    from dataclasses import asdict

    return {
        "n": n,
        "seed": seed,
        "cells": [
            {
                "expert": c.expert,
                "skill": c.skill,
                "category": c.category,
                "held_out_wording": c.held_out_wording,
                "accuracy": round(c.accuracy, 4),
                "ci": [round(x, 4) for x in c.interval],
            }
            for c in cells
        ],
        "experts": [
            {k: None if isinstance(x, float) and math.isnan(x) else x for k, x in asdict(v).items()}
            for v in judged
        ],
    }
