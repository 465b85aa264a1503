"""The ``conclave`` command, put together.

Commands live in modules beside this one and, where they judge, in ``eval.commands``: those are
found by the entry-point group ``conclave.commands``, because nothing here may import ``eval``.
Heavy libraries are imported inside of commands, so that help is instant.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from experts.errors import ConclaveError, UserError
from orchestrator.cli import (
    ask,
    batch,
    doctor,
    experts,
    fit,
    gaps,
    human,
    init,
    keys,
    learning,
    mcp,
    runs,
    serve,
)
from skills.errors import SkillsError

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143

app = typer.Typer(
    name="conclave",
    help="Answer each question with the cheapest set of experts that will get it right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start with: conclave demo",
)


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and what libraries log.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR)


for module in (
    ask,
    serve,
    mcp,
    batch,
    runs,
    human,
    keys,
    experts,
    fit,
    learning,
    gaps,
    init,
    doctor,
):
    module.register(app)
for entry_point in sorted(entry_points(group="conclave.commands"), key=lambda e: e.name):
    entry_point.load()(app)


def main() -> None:
    """Run the command; what users can mend is one line on stderr, and the exit code says so."""
    # Idle OpenMP threads otherwise spin, which on a busy machine made a tiny model's call 30 times
    # slower (docs/lab-notes.md). Read when torch is imported, so it must be set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # By default the process would be gone at once, and leave running what it has started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_TERMINATED))
    try:
        app()
    except (ConclaveError, SkillsError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"conclave: {error}", err=True, fg=typer.colors.RED)
        sys.exit(EXIT_USER if isinstance(error, UserError | SkillsError) else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(
            f"conclave: unexpected {type(error).__name__}: {error}. "
            "Run again with --debug before the command's name for the traceback.",
            err=True,
            fg=typer.colors.RED,
        )
        sys.exit(EXIT_FAILED)
