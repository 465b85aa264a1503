"""``conclave learning``: what outcomes of use have taught since the fit."""

from __future__ import annotations

import json

import typer

from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts


def register(app: typer.Typer) -> None:
    app.command()(learning)


def learning(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Recent against fitted rates of every expert, changes, refits, and what exploring has cost."""
    from orchestrator.cli.fit import format_log
    from orchestrator.conclave import Conclave
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory
    from orchestrator.learning.showing import format_rates, learning_facts

    config = load_config(config_file)
    conclave = Conclave.from_config(config)
    with conclave.ledger:
        conclave.learn()
        facts = learning_facts(conclave)
    refits = FitHistory(config.data_dir).log()[-5:]
    if as_json:
        typer.echo(json.dumps({**facts, "refits": refits}))
        return
    if not facts["fitted"]:
        typer.echo("Nothing is fitted, so nothing can be learned online: conclave fit")
    elif not facts["rates"]:
        typer.echo("No outcomes since the fit. They come by POST /v1/feedback, and from graders.")
    else:
        print_parts(format_rates(facts))
    spent = facts["exploration"]
    typer.echo(f"Explored today: {spent['spent_today_usd']:.2g} of {spent['usd_per_day']:.2g} $.")
    for entry in refits:
        typer.echo(format_log(entry))
    if problem := facts.get("problem"):
        typer.secho(problem, err=True, fg=typer.colors.YELLOW)
