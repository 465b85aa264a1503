"""``conclave human``: what people are asked, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from experts.human.desk import Question


def register(app: typer.Typer) -> None:
    human = typer.Typer(
        name="human", help="What people are asked, and their answers.", no_args_is_help=True
    )
    human.command("list")(list_questions)
    human.command("answer")(answer)
    app.add_typer(human)


def list_questions(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Questions that wait for an answer, the oldest first."""
    from contextlib import closing

    from experts.human.desk import Desk
    from orchestrator.config import load_config
    from orchestrator.runs.views import question_object

    with closing(Desk(load_config(config_file).desk_path)) as desk:
        waiting = desk.waiting()
    if as_json:
        told = {"questions": [question_object(q) for q in waiting]}
        typer.echo(json.dumps(told, ensure_ascii=False))
    elif waiting:
        print_parts(format_questions(waiting))
        typer.echo(f'Answer with: conclave human answer {waiting[0].question_id} "..."')
    else:
        typer.echo("Nobody waits for an answer.")


def answer(
    question_id: Annotated[str, typer.Argument(help="As `conclave human list` shows it.")],
    text: Annotated[str, typer.Argument(help="The answer; yes or no where leave is asked for.")],
    resume: Annotated[
        bool, typer.Option(help="Go on with the durable run that waited for it.")
    ] = True,
    config_file: ConfigOption = None,
) -> None:
    """Answer a question. A durable run that waited for it goes on, here and now."""
    from contextlib import closing

    from experts.human.desk import Desk
    from orchestrator.config import load_config

    with closing(Desk(load_config(config_file).desk_path)) as desk:
        question = desk.answer(question_id, text)
    typer.echo(f"{question_id} is answered.", err=True)
    if question.run_id and resume:
        _go_on(question.run_id, config_file)


def _go_on(run_id: str, config_file: Path | None) -> None:
    from experts.errors import RunBusy
    from orchestrator.cli import runs

    typer.echo(f"{run_id} goes on ...", err=True)
    try:
        runs.resume(run_id, everything=False, as_json=False, config_file=config_file)
    except RunBusy:
        typer.echo(f"{run_id} is being worked on by another process.", err=True)


def format_questions(questions: Sequence[Question]) -> Table:
    """A row a question."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from orchestrator.cli.runs import when

    table = Table("id", "for", "asks", "$", "until", box=box.SIMPLE_HEAD)
    for q in questions:
        is_approval = q.kind == "approval"
        asks = (q.instructions, q.messages[-1][1], "(yes or no)" if is_approval else "")
        table.add_row(
            q.question_id,
            q.expert,
            Text("\n".join(filter(None, asks))),
            "" if is_approval else f"{q.price_usd:.2g}",
            when(q.deadline_at),
        )
    return table
