"""``conclave eval``: routing judged on recorded outcomes, and tools on simulated channels. Each
command is a module beside this."""

from __future__ import annotations

import typer

from eval.commands import (
    annotators,
    audit,
    cost_of_pass,
    estimators,
    iox,
    learning,
    routing,
    strategies,
)

evaluate = typer.Typer(
    name="eval", help="Judge routing on recorded outcomes, and tools.", no_args_is_help=True
)
for _command in (
    routing,
    strategies,
    cost_of_pass,
    audit,
    estimators,
    annotators,
    learning,
    iox,
):
    _command.register(evaluate)


def register(app: typer.Typer) -> None:
    app.add_typer(evaluate)
