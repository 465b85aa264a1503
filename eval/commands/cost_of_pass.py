"""``conclave eval cost-of-pass``: what a right answer costs, and what keeps that figure honest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from eval.commands.cost_of_pass_given import arms_matching, families_of, people_usd, release_days
from eval.commands.cost_of_pass_tables import format_accounts, format_frontier, format_remarks
from eval.commands.data_options import (
    DataOption,
    FormatOption,
    PickleOption,
    PoolOption,
    SplitOption,
    of_split,
)
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller


def register(group: typer.Typer) -> None:
    group.command("cost-of-pass")(cost_of_pass)


def cost_of_pass(
    data: DataOption,
    pool: PoolOption = None,
    human_usd: Annotated[
        list[str] | None,
        typer.Option(help="What a person costs a problem, in dollars: X, or TASK=X for each task."),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="REGEX=NAME: arms of a family; the first that matches counts."),
    ] = None,
    technique: Annotated[
        list[str] | None,
        typer.Option(help="REGEX: arms that are techniques (votes, refinements, policies)."),
    ] = None,
    vote: Annotated[
        list[str] | None,
        typer.Option(help="A,B,C: one more arm that asks these columns and takes a vote."),
    ] = None,
    release: Annotated[
        Path | None, typer.Option(help='JSON file of release days: {"model": "2024-05-13"}.')
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Arm to compare all others with; the most accurate else.")
    ] = None,
    failure_usd: Annotated[
        list[float] | None, typer.Option(help="Prices V of a failure to show.", min=0)
    ] = None,
    split: SplitOption = "dev",
    fmt: FormatOption = None,
    allow_pickle: PickleOption = False,
    seed: Annotated[int, typer.Option(help="Of resamples and halves.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """What a right answer costs with every model, and who the frontier depends on.

    Beside the ratio, which alone crowns the weakest model: cost at equal accuracy, accuracy at
    equal cost, and what it all costs with failures priced in. The last line is JSON.
    """
    from eval.cost_of_pass.account import accounts_of
    from eval.cost_of_pass.figures import FAILURE_PRICES_USD
    from eval.cost_of_pass.pool_frontier import frontier_of
    from eval.json_ready import json_ready
    from eval.outcomes.pools import pool_of
    from eval.outcomes.readers import read_outcomes
    from eval.outcomes.runs import arms_of, with_vote

    tell = teller(as_json)
    tell("reading")
    matrix = pool_of(read_outcomes(data, fmt, allow_pickle=allow_pickle), pool)
    matrix = of_split(matrix, split)
    votes = []
    for listed in vote or ():
        matrix = with_vote(matrix, [m.strip() for m in listed.split(",")])
        votes.append(matrix.models[-1])
    arms = arms_of(matrix)
    names = [a.name for a in arms]
    prices = people_usd(human_usd or (), matrix.tasks)
    families = families_of(family or (), names)
    techniques = [*arms_matching(technique or (), names), *votes]
    released = release_days(release, names) if release else None
    tell(f"accounting for {len(arms)} arms on {len(matrix)} problems")
    accounts = accounts_of(
        arms,
        human_usd=prices,
        reference=against,
        failure_prices_usd=failure_usd or FAILURE_PRICES_USD,
        seed=seed,
    )
    found = None
    if prices is not None:
        tell("the frontier, with each arm left out")
        found = frontier_of(
            arms, matrix.tasks, prices,
            families=families, techniques=techniques, released=released, seed=seed,
        )  # fmt: skip
    told = {
        "data": str(data), "pool": pool, "split": split, "seed": seed, "n_problems": len(matrix),
        "n_arms": len(arms), "human_usd": None if prices is None else float(prices.mean()),
        "families": families, "arms": accounts, "frontier": found,
    }  # fmt: skip
    if not as_json:
        print_parts(*format_accounts(accounts, with_person=prices is not None))
        if found:
            print_parts(*format_frontier(found))
        for line in format_remarks(accounts, found):
            typer.echo(line)
    typer.echo(json.dumps(json_ready(told)))
