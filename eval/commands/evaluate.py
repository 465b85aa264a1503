"""``conclave eval``: routing judged on recorded outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from eval.verdict import Verdict

evaluate = typer.Typer(
    name="eval", help="Judge routing on recorded outcomes.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    app.add_typer(evaluate)


@evaluate.callback()
def _several() -> None:
    """Keeps ``routing`` a command of its own while it is the only one."""


@evaluate.command()
def routing(
    data: Annotated[Path | None, typer.Option(help="Recorded outcomes: a folder or file.")] = None,
    ledger: Annotated[
        bool,
        typer.Option("--ledger", help="What conclave record has recorded, in place of --data."),
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(help="A named pool, or a JSON list of models; all well-covered ones else."),
    ] = None,
    routers: Annotated[
        list[str] | None, typer.Option(help="Routers to compare; all when none is named.")
    ] = None,
    fmt: Annotated[
        str | None, typer.Option("--format", help="Format of the data; recognised when not given.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option(help="Open pickles: they can run code. Only for files you trust.")
    ] = False,
    embedder: Annotated[str, typer.Option(help="As in conclave.yaml.")] = "minilm",
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Every router and learned composition beside the baselines; the last line is JSON.

    Chosen on train and val, by cross-fitting; reported on test.
    """
    from rich.console import Console

    from eval.embeddings import embedded
    from eval.from_ledger import matrix_of_config
    from eval.pools import pool_of
    from eval.readers import read_outcomes
    from eval.routing import all_points, sides_of
    from eval.verdict import verdict_object, verdict_of
    from experts.errors import UnknownName, UserError
    from orchestrator.config import Config, load_config
    from routers.estimators import ESTIMATORS
    from skills.embedders import make_embedder

    for name in routers or ():
        if name not in ESTIMATORS:
            raise UnknownName(name, ESTIMATORS, what="router")
    tell = (lambda what: None) if as_json else lambda what: typer.echo(f"  {what} ...", err=True)
    tell("reading")
    if ledger == (data is not None):
        raise UserError("Name the outcomes: either --data FOLDER, or --ledger for your own.")
    if data is None:
        outcomes = matrix_of_config(load_config(config_file))
    else:
        outcomes = read_outcomes(data, fmt, allow_pickle=allow_pickle)
    matrix = pool_of(outcomes, pool)
    tell(f"embedding {len(matrix)} prompts")
    folder = Config().data_dir / "embeddings"
    vectors = embedded([q.prompt for q in matrix.queries], make_embedder(embedder), folder)
    sides = sides_of(matrix, vectors, seed=seed)
    chosen = {n: ESTIMATORS[n] for n in routers} if routers else ESTIMATORS
    verdict = verdict_of(all_points(sides, chosen, on_stage=tell))
    told: dict[str, Any] = {
        "data": "ledger" if data is None else str(data),
        "pool": pool,
        "n_models": len(matrix.models),
        "n_dev": len(sides.dev),
        "n_test": len(sides.test),
        "seed": seed,
        **verdict_object(verdict),
    }
    if not as_json:
        Console().print(format_verdict(verdict))
        for line in format_answers(verdict):
            typer.echo(line)
    typer.echo(json.dumps(told))


def format_verdict(v: Verdict) -> Table:
    """Policies at their most accurate setting, and the hull beneath."""
    from rich.table import Table

    n = v.best_single.n
    table = Table(
        "policy", "accuracy", "95 %", "$ per 1000", "$ per right answer", "95 % ",
        title=f"On {n} test queries, each policy at its most accurate setting (chosen without them)",
        title_justify="left",
    )  # fmt: skip
    for f in v.rows:
        table.add_row(
            f.policy,
            f"{f.accuracy:.1%}",
            f"{f.accuracy_ci[0]:.1%}-{f.accuracy_ci[1]:.1%}",
            f"{f.cost_usd_per_1k:.3f}",
            f"{f.cost_of_pass_usd:.2e}",
            f"{f.cost_of_pass_ci[0]:.1e}-{f.cost_of_pass_ci[1]:.1e}",
        )
    table.add_section()
    for f in v.curve:
        table.add_row(
            f"{f.policy} (frontier)", f"{f.accuracy:.1%}",
            f"{f.accuracy_ci[0]:.1%}-{f.accuracy_ci[1]:.1%}", f"{f.cost_usd_per_1k:.3f}",
            f"{f.cost_of_pass_usd:.2e}",
            f"{f.cost_of_pass_ci[0]:.1e}-{f.cost_of_pass_ci[1]:.1e}",
        )  # fmt: skip
    return table


def format_answers(v: Verdict) -> list[str]:
    """The two questions, in a sentence each."""
    e, m = v.equal_paired, v.max_paired
    lines = [
        f"As good as the best single model: {v.equal_accuracy.policy} at {e.cost_ratio:.0%} of its "
        f"cost, {e.difference * 100:+.1f} points [{e.ci[0] * 100:+.1f}, {e.ci[1] * 100:+.1f}].",
        f"At any price: {v.max_accuracy.policy}, {m.difference * 100:+.1f} points "
        f"[{m.ci[0] * 100:+.1f}, {m.ci[1] * 100:+.1f}] at {m.cost_ratio:.0%} of its cost.",
    ]
    for name, p in v.against.items():
        words = "beats" if p.p_value < 0.05 else "does not beat"
        lines.append(
            f"It {words} {name}: {p.difference * 100:+.1f} points, p = {p.p_value:.3f} "
            "(paired bootstrap)."
        )
    return lines
