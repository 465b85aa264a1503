"""``conclave lab``: train, examine and fit the bundled experts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands.cells import figures_table, percent, percent_with_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.bundled.calls import CallCell
    from eval.bundled.examination import Cell

lab = typer.Typer(
    name="lab",
    help="The laboratory: train, examine and fit the bundled experts.",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None, typer.Option(help="Folder of trained experts; the package's by default.")
]


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
    folder: FolderOption = None,
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
        for held_out in (False, True):
            print_parts(format_matrix(cells, fields, held_out_wording=held_out))
        print_parts(format_verdicts(judged))
    typer.echo(json.dumps(examination_object(cells, judged, n, seed)))


_BORDERS = 8
"""Look-alikes that are recorded for every question a skill."""


@lab.command()
def fit(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; the shipped state by default.")
    ] = None,
    n: Annotated[int, typer.Option(help="Questions a skill; eight look-alikes for each.")] = 30,
    ledger_file: Annotated[
        Path | None, typer.Option("--ledger", help="Keep the recorded outcomes in this ledger.")
    ] = None,
) -> None:
    """Remake the fitted state that ships for the bundled experts: record, then fit.

    Recorded are questions of the validation split with wordings known to training, so that the
    test split and the held-out wordings stay clean; and look-alikes at the borders of fields: where
    all experts are sure and right, nothing tells strategies apart.
    """
    import asyncio

    from eval.bundled.borders import border_questions
    from eval.questions import lab_questions
    from eval.recording.record import record_outcomes
    from orchestrator.cli.fit import format_fit
    from orchestrator.config import Config
    from orchestrator.fitting import fit_from_ledger
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts
    from orchestrator.states import SHIPPED_STATE

    config, tell = Config(), teller(as_json=False)
    questions = [
        *lab_questions(n, "val", held_out_wording=False, seed=1),
        *border_questions(_BORDERS * n, "val", seed=1),
    ]
    with Ledger(ledger_file or ":memory:") as ledger:
        tell(f"recording {len(questions)} questions")
        asyncio.run(record_outcomes(questions, make_experts(config), ledger, n_samples=3))
        fitted = fit_from_ledger(config, ledger, on_stage=tell)
    fitted.save(out or SHIPPED_STATE)
    print_parts(format_fit(fitted.report))


@lab.command()
def calls(
    n: Annotated[int, typer.Option(help="Questions, each with tools of its own.", min=1)] = 600,
    split: Annotated[
        str, typer.Option(help="Wordings, names and descriptions: val for choosing, or test.")
    ] = "test",
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 1,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Right tool and arguments of the tool caller, with 95 % intervals; the last line is JSON.

    Tools are drawn as in training; wordings, names and descriptions are none of training's.
    """
    from concurrent.futures import ThreadPoolExecutor

    from eval.bundled.calls import examine_calls
    from eval.json_ready import json_ready
    from experts.bundled import FOLDER, TOOL_CALLER, bundled_experts

    if split not in ("val", "test"):
        raise typer.BadParameter(f"{split!r} is no held-out split; known: val, test")
    with ThreadPoolExecutor(1) as worker:
        [caller] = bundled_experts(
            worker, names=[TOOL_CALLER], load_usd_per_s=0.0, folder=folder or FOLDER
        )
        cells = examine_calls(caller, n=n, split=split, seed=seed)  # type: ignore[arg-type]
    if not as_json:
        print_parts(format_calls(cells))
    typer.echo(json.dumps({"split": split, "n": n, "seed": seed, "cells": json_ready(cells)}))


@lab.command()
def classifiers(
    out: Annotated[
        Path | None, typer.Option(help="File to write; the shipped classifiers by default.")
    ] = None,
    n_train: Annotated[int, typer.Option(help="Channels to fit on.", min=100)] = 6000,
    n_val: Annotated[int, typer.Option(help="Channels to calibrate on.", min=50)] = 1500,
    seed: Annotated[int, typer.Option(help="Of the networks' first weights.", min=0)] = 0,
) -> None:
    """Remake the classifiers of radio channels: simulate, fit, calibrate. A minute or two.

    The last line is JSON. Next: conclave eval iox
    """
    from rich.console import Console
    from rich.progress import Progress
    from threadpoolctl import threadpool_limits

    from experts.tools.iox.classifiers import MODELS_FILE, save_classifiers
    from experts.tools.iox.training import train_classifiers

    with Progress(console=Console(stderr=True)) as bar, threadpool_limits(1):
        task = bar.add_task("simulating", total=n_train + n_val)
        made = train_classifiers(
            n_train=n_train,
            n_val=n_val,
            seed=seed,
            on_channel=lambda done: bar.update(task, completed=done),
        )
    path = out or MODELS_FILE
    save_classifiers(made, path)
    told = {name: {"temperature": round(c.temperature, 3)} for name, c in made.items()}
    typer.echo(json.dumps({"file": str(path), "bytes": path.stat().st_size, "classifiers": told}))


def format_calls(cells: Sequence[CallCell]) -> Table:
    """Right tools and right calls in percent, with 95 % intervals."""
    table = figures_table(("tools",), ("n", "right tool", "right call"), title=None)
    for c in cells:
        tool = percent_with_range(c.right_tool, c.tool_ci)
        call = percent_with_range(c.right_call, c.call_ci)
        table.add_row(c.group, str(c.n), tool, call)
    return table


def format_matrix(
    cells: Sequence[Cell], fields: Mapping[str, Sequence[str]], *, held_out_wording: bool
) -> Table:
    """Accuracy in percent, skills down, experts across; an expert's own field is bold."""
    chosen = {(c.skill, c.expert): c for c in cells if c.held_out_wording == held_out_wording}
    experts = list(fields)
    kind = "wordings never trained on" if held_out_wording else "trained wordings, new problems"
    n = next(iter(chosen.values())).n
    title = f"Accuracy (%) with 95 % interval, n = {n}: {kind}"
    table = figures_table(("skill",), experts, title=title)
    for skill in dict.fromkeys(c.skill for c in cells):
        row = []
        for expert in experts:
            cell = chosen[skill, expert]
            text = percent_with_range(cell.accuracy, cell.interval, digits=0)
            row.append(f"[bold]{text}[/bold]" if cell.category in fields[expert] else text)
        table.add_row(skill, *row)
    return table


def format_verdicts(judged: Sequence[Any]) -> Table:
    """Each expert inside and outside of its field."""
    figures = ("own skills", "worst", "own, new wordings", "worst", "outside", "best there")
    table = figures_table(("expert",), figures, title=None)
    for v in judged:
        table.add_row(
            v.expert,
            *(
                percent(x)
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
