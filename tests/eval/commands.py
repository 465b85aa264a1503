"""Running ``conclave eval ...`` in this process: the same arguments, without a start each time."""

from __future__ import annotations

import json
from typing import Any

import typer
from typer.testing import CliRunner, Result

from eval.commands import evaluate


def run_eval(*arguments: object, columns: int | None = None) -> Result:
    """What ``conclave eval`` does with these arguments; its last line is on ``stdout``, which is a
    pipe unless it has ``columns``."""
    app = typer.Typer()
    app.add_typer(evaluate.evaluate)
    return CliRunner().invoke(
        app,
        ["eval", *map(str, arguments)],
        env={"COLUMNS": None if columns is None else str(columns)},
        color=False,
    )


def told(result: Result) -> dict[str, Any]:
    """The JSON of the last line; the exception, where there was one."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found
