"""``conclave eval strategies``: the field's strategies side by side on recorded outcomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import ACHIEVED, achieved, figures_table, points
from eval.commands.data_options import (
    USUAL_EMBEDDER,
    DataOption,
    EmbedderOption,
    FormatOption,
    PickleOption,
    PoolOption,
)
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.strategies.experiment import Comparison


def register(group: typer.Typer) -> None:
    group.command()(strategies)


def strategies(
    data: DataOption,
    pool: PoolOption = None,
    fmt: FormatOption = None,
    allow_pickle: PickleOption = False,
    embedder: EmbedderOption = USUAL_EMBEDDER,
    development: Annotated[
        bool,
        typer.Option("--development", help="Judge on train and val, blindly; leave test alone."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the folds and clusters.", min=0)] = 0,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Votes, cascades, recruiting, guards beside best single and composition; ends in JSON.

    Settings are chosen on train and val; what was chosen is played on test, once.
    """
    from eval.json_ready import json_ready
    from eval.outcomes.pools import pool_of
    from eval.outcomes.readers import read_outcomes
    from eval.strategies.experiment import compare, comparison_object
    from orchestrator.config import load_config
    from skills.embedders import make_embedder

    config = load_config(config_file)
    tell = teller(as_json)
    tell("reading")
    matrix = pool_of(read_outcomes(data, fmt, allow_pickle=allow_pickle), pool)
    found = compare(
        matrix, make_embedder(embedder), config, development=development, seed=seed, tell=tell
    )
    if not as_json:
        print_parts(format_comparison(found))
        for note in found.notes:
            typer.echo(f"- {note}")
    told = {"data": str(data), "pool": pool, "seed": seed, **comparison_object(found)}
    typer.echo(json.dumps(json_ready(told), allow_nan=False))


def format_comparison(found: Comparison) -> Table:
    """Two lines a strategy at most: its most accurate setting, and the cheapest that is as good as
    the best single model on development."""
    right, right_ci, *dollars = ACHIEVED
    table = figures_table(
        ("strategy", "setting"),
        (right, right_ci, "calls", *dollars, "to best single", "of its $"),
        title=f"{found.n_judged} queries of {found.side}, {found.n_arms} models",
        caption=f"All settings were chosen on {found.n_dev} queries of train and val. Differences "
        "in points of accuracy, with 95 % intervals, paired.",
    )
    for row in found.rows:
        single = row.against_single
        accuracy, accuracy_ci, *costs = achieved(row.figures)
        table.add_row(
            row.name, row.setting, accuracy, accuracy_ci, f"{row.n_calls:.2f}", *costs,
            points(single.difference, single.ci), f"{single.cost_ratio:.0%}",
        )  # fmt: skip
    return table
