"""``conclave eval``: routing judged on recorded outcomes. Each command is a module beside this."""

from __future__ import annotations

import typer

from eval.commands import audit, cost_of_pass, estimators, routing

evaluate = typer.Typer(
    name="eval", help="Judge routing on recorded outcomes.", no_args_is_help=True
)
for _command in (routing, cost_of_pass, audit, estimators):
    _command.register(evaluate)


def register(app: typer.Typer) -> None:
    app.add_typer(evaluate)
