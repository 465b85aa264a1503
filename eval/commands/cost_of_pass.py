"""``conclave eval cost-of-pass``: what a right answer costs, and what keeps that figure honest."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.data_options import (
    DataOption,
    FormatOption,
    PickleOption,
    PoolOption,
    SplitOption,
    of_split,
    teller,
)
from eval.commands.narrow import narrowed
from orchestrator.cli.options import JsonOption

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from eval.cost_of_pass.account import ArmAccount
    from eval.cost_of_pass.pool_frontier import Estimate, FrontierAccount

OTHERS = "other"
"""The family of arms that no ``--family`` matches."""


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
    from rich.console import Console

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
    techniques = [*_matching(technique or (), names), *votes]
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
        console = Console(emoji=False)
        for table in format_accounts(accounts, with_person=prices is not None):
            console.print(narrowed(table, console))
        if found:
            for table in format_frontier(found):
                console.print(narrowed(table, console))
        for line in format_remarks(accounts, found):
            typer.echo(line)
    typer.echo(json.dumps(json_ready(told)))


def people_usd(given: Sequence[str], tasks: np.ndarray) -> np.ndarray | None:
    """(n,) dollars that a person costs on each problem; None when nothing is given.

    Raises DataError for what is no price, an unknown task, or a task without a price.
    """
    import numpy as np

    from experts.errors import DataError, did_you_mean

    if not given:
        return None
    known = sorted({str(t) for t in tasks})
    by_task: dict[str, float] = {}
    for text in given:
        task, _, amount = text.rpartition("=")
        try:
            usd = float(amount)
        except ValueError:
            usd = math.nan
        if not (usd > 0 and math.isfinite(usd)):
            raise DataError(f"--human-usd {text!r}: {amount!r} is no price above 0, like 3.50.")
        if task and task not in known:
            raise DataError(
                f"--human-usd {text!r}: no task {task!r}.{did_you_mean(task, known)} "
                f"Tasks: {', '.join(known)}."
            )
        by_task[task] = usd
    missing = [t for t in known if t not in by_task]
    if missing and "" not in by_task:
        raise DataError(
            f"No price of a person for {', '.join(missing)}. Give one for each (--human-usd "
            f"{missing[0]}=X), or one for all others (--human-usd X)."
        )
    return np.array([by_task.get(str(t), by_task.get("", math.nan)) for t in tasks])


def families_of(given: Sequence[str], names: Sequence[str]) -> dict[str, str] | None:
    """Arm to family. Raises DataError for a bad pattern, or one that matches no arm."""
    from experts.errors import DataError

    if not given:
        return None
    families: dict[str, str] = {}
    for text in given:
        pattern, _, name = text.rpartition("=")
        if not (pattern and name):
            raise DataError(f"--family {text!r} is not REGEX=NAME, like '^gpt-4=large'.")
        for arm in _matching([pattern], names):
            families.setdefault(arm, name)
    return {name: families.get(name, OTHERS) for name in names}


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    from experts.errors import DataError

    found: list[str] = []
    for pattern in patterns:
        try:
            matching = [n for n in names if re.search(pattern, n)]
        except re.error as error:
            raise DataError(f"{pattern!r} is no regular expression: {error}.") from None
        if not matching:
            raise DataError(f"No arm matches {pattern!r}. Arms: {', '.join(names)}.")
        found += [n for n in matching if n not in found]
    return found


def release_days(path: Path, names: Sequence[str]) -> dict[str, date]:
    """Arm to day; arms without a day stay out of the tracking. Raises DataError."""
    from experts.errors import DataError

    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        days = {str(name): date.fromisoformat(day) for name, day in read.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f'{path}: {error}. It must be a JSON object of days: {{"model": "2024-05-13"}}.'
        ) from None
    known = {name: day for name, day in days.items() if name in names}
    if not known:
        raise DataError(f"{path} has no day for any of the arms {', '.join(names)}.")
    return known


def format_accounts(accounts: Sequence[ArmAccount], *, with_person: bool) -> list[Table]:
    """Ratio, honesty, comparison and few runs: a table each, by accuracy."""
    from rich.markup import escape
    from rich.table import Table

    rows = sorted(accounts, key=lambda a: (-a.accuracy, a.cost_usd_per_1k))
    ratio = Table(
        "arm", "accuracy", "95 %", "$ per 1000", "$ per 1000 right", "95 % ", "frontier",
        title=f"Pooled cost-of-pass on {rows[0].n_problems} problems (sum of $ / sum of right)",
        title_justify="left",
    )  # fmt: skip
    for a in rows:
        mark = "hull" if a.on_hull else "yes" if a.on_frontier else ""
        ratio.add_row(
            escape(a.name), f"{a.accuracy:.1%}", _percent(a.accuracy_ci),
            f"{a.cost_usd_per_1k:.3g}", _usd(a.pooled_usd * 1000), _range(a.pooled_ci, 1000), mark,
        )  # fmt: skip
    prices = list(rows[0].objective_usd)
    honest = Table(
        "arm", "$ per 1000 of as accurate others", "accuracy of as cheap others",
        *(f"V = {v:g} $" for v in prices),
        title="What the ratio hides: the best mix of the other arms, and $ per 1000 with a failure"
        " at V (bold: least)",
        title_justify="left",
    )  # fmt: skip
    least = {v: min(a.objective_usd[v] for a in rows) for v in prices}
    for a in rows:
        objectives = [
            f"[bold]{x * 1000:.3g}[/bold]" if x == least[v] else f"{x * 1000:.3g}"
            for v, x in a.objective_usd.items()
        ]
        as_cheap = a.accuracy_at_equal_cost
        honest.add_row(
            escape(a.name), _usd(a.cost_at_equal_accuracy_usd_per_1k),
            "none" if math.isnan(as_cheap) else f"{as_cheap:.1%}", *objectives,
        )  # fmt: skip
    compared = Table(
        "arm", "points", "95 %", "p", "cost", "95 % ", "cost-of-pass", "95 %  ",
        title=f"Against {escape(rows[0].against.reference)}, on the same problems",
        title_justify="left",
    )  # fmt: skip
    for a in rows:
        c = a.against
        low, high = c.accuracy_difference_ci
        compared.add_row(
            escape(a.name), f"{c.accuracy_difference * 100:+.1f}",
            f"{low * 100:+.1f} to {high * 100:+.1f}", f"{c.p_not_better:.3f}",
            _times(c.cost_ratio), _range(c.cost_ratio_ci),
            _times(c.pooled_ratio), _range(c.pooled_ratio_ci),
        )  # fmt: skip
    few = Table(
        "arm", "runs", "unsolved", "mean ratio", "where solved", "all orders",
        "min(ratio, person)", "tries, then person",
        title="Per-problem cost-of-pass, $ for one right answer, mean over problems",
        title_justify="left",
    )  # fmt: skip
    for a in rows:
        p = a.per_problem
        few.add_row(
            escape(a.name), str(p.n_runs), f"{p.unsolved_share:.1%}", _usd(p.mean_ratio_usd),
            _usd(p.mean_where_solved_usd), _usd(p.over_all_orders_usd),
            _usd(p.with_human_usd), _usd(p.tries_then_human_usd),
        )  # fmt: skip
    several_runs = any(a.per_problem.n_runs > 1 for a in rows)
    return [ratio, honest, compared, *([few] if with_person or several_runs else [])]


def format_frontier(f: FrontierAccount) -> list[Table]:
    """The frontier thrice, who is essential to it, and what moved it."""
    from rich.markup import escape
    from rich.table import Table

    values = Table(
        "frontier, a person included", "$ a right answer", "95 %", "of a person",
        title="Mean over problems of the cheapest way to a right answer", title_justify="left",
    )  # fmt: skip
    rows = [
        ("claimed: picked on the runs that are reported", f.claimed),
        ("picked on half of the runs: claimed", f.halves_claimed),
        ("picked on half of the runs: paid on the other", f.halves_paid),
        ("picked by task on half of the problems: claimed", f.by_task_claimed),
        ("picked by task on half of the problems: paid on the other", f.by_task_paid),
    ]
    values.add_row("people alone", _usd(f.human_usd), "", "100.0%")
    for name, estimate in rows:
        if estimate:
            share = f"{estimate.value / f.human_usd:.2%}"
            values.add_row(name, _usd(estimate.value), _range(estimate.ci), share)
    tables = [values]
    for kind, shares in (("family", f.essential_families), ("arm", f.essential_arms)):
        if shares:
            table = Table(
                kind, "claimed", "95 %", "by task", "95 % ",
                title="Essential: by how much the frontier is dearer without", title_justify="left",
            )  # fmt: skip
            for s in shares:
                table.add_row(escape(s.name), *_share(s.claimed), *_share(s.by_task))
            tables.append(table)
    if f.technique_gain:
        table = Table(
            "technique", "claimed", "95 %", "by task", "95 % ",
            title="Gain of techniques: by how much they lower the frontier", title_justify="left",
        )  # fmt: skip
        g = f.technique_gain
        table.add_row(escape(g.name), *_share(g.claimed), *_share(g.by_task))
        tables.append(table)
    if f.releases:
        table = Table(
            "day", "released", "of a person", "95 %", "gain", "95 % ",
            title="The claimed frontier over time", title_justify="left",
        )  # fmt: skip
        for r in f.releases:
            table.add_row(
                r.day.isoformat(),
                escape(", ".join(r.arms)),
                *_share(r.relative_to_human),
                *_share(r.gain),
            )
        tables.append(table)
    return tables


def format_remarks(accounts: Sequence[ArmAccount], f: FrontierAccount | None) -> list[str]:
    """What a reader should not miss."""
    crowned = min(accounts, key=lambda a: a.pooled_usd)
    best = max(accounts, key=lambda a: a.accuracy)
    lines = [
        f"The bare ratio crowns {crowned.name}, right on {crowned.accuracy:.1%}; the most accurate "
        f"is {best.name} with {best.accuracy:.1%}."
    ]
    winners: dict[str, list[str]] = {}
    for v in accounts[0].objective_usd:
        winner = min(accounts, key=lambda a: a.objective_usd[v])
        winners.setdefault(winner.name, []).append(f"{v:g}")
    lines += [
        f"With a failure at {', '.join(prices)} $ it is {name}." for name, prices in winners.items()
    ]
    if f is None:
        lines.append("The frontier needs to know what a person costs: --human-usd X.")
    elif f.halves_paid is None:
        lines.append(
            "Every problem was run once: the claimed frontier is an oracle's. What can be bought "
            f"by choosing per task costs {_usd(f.by_task_paid.value)} $, "
            f"{f.by_task_paid.value / f.claimed.value:.1f} times as much."
        )
    else:
        lines.append(
            f"The claimed frontier is {_usd(f.claimed.value)} $; who chooses by such runs pays "
            f"{_usd(f.halves_paid.value)} $."
        )
    return lines


def _usd(x: float) -> str:
    return "-" if math.isnan(x) else "none" if math.isinf(x) else f"{x:.3g}"


def _range(ci: tuple[float, float], scale: float = 1.0) -> str:
    return f"{_usd(ci[0] * scale)}-{_usd(ci[1] * scale)}"


def _percent(ci: tuple[float, float]) -> str:
    return f"{ci[0]:.1%}-{ci[1]:.1%}"


def _times(x: float) -> str:
    return "none" if math.isinf(x) else f"x{x:.3g}"


def _share(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.1%}", f"{estimate.ci[0]:.1%} to {estimate.ci[1]:.1%}"
