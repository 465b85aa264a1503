"""``conclave gaps``: questions that nobody covers, as a queue to work on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.gaps import GapCluster

_SHOWN_CHARS = 60


def register(app: typer.Typer) -> None:
    app.command()(gaps)


def gaps(
    weeks: Annotated[
        int, typer.Option(help="How far to look back, this week included.", min=1)
    ] = 4,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Questions that nobody covers, by week and by what they are about, dearest first.

    Those unlike all that is known, those noted as a coverage gap, and those that nobody was asked.
    """
    import time
    from dataclasses import asdict

    from orchestrator.config import load_config
    from orchestrator.gaps import gaps_of, queue
    from orchestrator.ledger import Ledger
    from skills.embedders import make_embedder

    config = load_config(config_file)
    since_s = _monday_s(time.time()) - (weeks - 1) * 7 * 86_400
    with Ledger(config.ledger_path) as ledger:
        found = gaps_of(ledger, since_s=since_s)
    clusters = queue(found, make_embedder(config.embedder).embed) if found else []
    if as_json:
        typer.echo(json.dumps({"weeks": weeks, "gaps": [asdict(c) for c in clusters]}))
        return
    if not clusters:
        typer.echo("No gaps: every question was like one that is known, and somebody was asked.")
        return
    print_parts(format_gaps(clusters))
    typer.echo(
        "To close one: add an expert or a tool for it, or record outcomes of such questions "
        "(conclave record) and fit again (conclave fit)."
    )


def _monday_s(now_s: float) -> float:
    from datetime import UTC, datetime, timedelta

    day = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day - timedelta(days=day.weekday())).timestamp()


def format_gaps(clusters: Sequence[GapCluster]) -> Table:
    """A line a cluster."""
    from rich.table import Table

    table = Table("week of", "questions like", "n", "why", "right", "cost $", "at stake $")
    for c in clusters:
        text = " ".join(c.example.split())
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
        table.add_row(
            c.week, shown, str(c.n), ", ".join(c.kinds),
            "?" if c.right is None else f"{c.right:.0%} of {c.n_judged}",
            f"{c.cost_usd:.2g}", f"{c.at_stake_usd:.2g}",
        )  # fmt: skip
    return table
