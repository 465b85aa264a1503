"""``conclave latent scorer``: train and judge what tells whether an expert's answer is right."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from eval.latent.scoring import ScorerFigures, Tell


def scorer(
    out: Annotated[Path, typer.Option(help="Folder to write the scorer into.")] = Path("scorer"),
    model: Annotated[
        str, typer.Option(help="A bundled expert's name, or a Hugging Face model folder.")
    ] = "generalist",
    questions: Annotated[
        Path | None,
        typer.Option(help="JSONL with question and answer; the laboratory's by default."),
    ] = None,
    n: Annotated[
        int, typer.Option(help="Questions of each skill to draw, where no file is named.", min=8)
    ] = 480,
    seed: Annotated[int, typer.Option(help="Of drawing and fitting.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train what tells from an expert's own states whether its answer is right.

    The model answers questions and is graded; on a part that nothing was fitted on, the scorer is
    then judged beside the log-probability alone. The last line is JSON.
    """
    from eval.json_ready import json_ready
    from eval.latent.scoring import lab_set, train_and_judge
    from eval.questions import read_questions

    folder = _model_folder(model)
    asked = lab_set(n, seed=seed) if questions is None else read_questions(questions)
    with _bar(as_json) as tell:
        trained, found = train_and_judge(folder, asked, seed=seed, tell=tell)
    trained.save(out)
    if not as_json:
        print_parts(format_scorer(found, model))
        typer.echo(f"Written to {out}. Next, in conclave.yaml, for this expert: scorer: {out}")
    typer.echo(json.dumps(json_ready({"scorer": str(out), **asdict(found)}), allow_nan=False))


def format_scorer(found: ScorerFigures, model: str) -> Table:
    """A line a way of telling."""
    figures = tuple(next(iter(found.ways.values())))
    table = figures_table(
        ("P(right) by",),
        figures,
        title=f"Was it right? {model}, {found.n} questions, {found.right_share:.1%} right",
        caption="95 % intervals. AUC: how often a right answer is thought likelier than a wrong "
        "one. Surest half: share right of the half that it is surest of.",
    )
    for way, estimates in found.ways.items():
        cells = (
            f"{e.value:.3f} [dim]{e.ci[0]:.3f}-{e.ci[1]:.3f}[/dim]" for e in estimates.values()
        )
        table.add_row(way, *cells)
    return table


@contextmanager
def _bar(as_json: bool) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("answering"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=as_json or not os.isatty(2),
    )
    with progress:
        task = progress.add_task("answering", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _model_folder(model: str) -> Path:
    """Raises ConfigError for what is neither a bundled expert nor a model folder."""
    from experts.bundled import FOLDER
    from experts.errors import ConfigError

    for folder in (FOLDER / model, Path(model)):
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError(
        f"--model {model}: neither a bundled expert (`conclave experts`) nor a Hugging Face model "
        "folder (config.json, *.safetensors, tokenizer.json)."
    )
