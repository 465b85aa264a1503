"""``conclave eval``: routing judged on recorded outcomes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands import audit, cost_of_pass, estimators
from orchestrator.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from eval.report import Made
    from eval.routing import Sides
    from eval.verdict import Figures, Verdict

evaluate = typer.Typer(
    name="eval", help="Judge routing on recorded outcomes.", no_args_is_help=True
)


for _command in (cost_of_pass, audit, estimators):
    _command.register(evaluate)


def register(app: typer.Typer) -> None:
    app.add_typer(evaluate)


@evaluate.callback()
def _several() -> None:
    """Keeps ``routing`` a command of its own while it is the only one."""


@evaluate.command()
def routing(
    data: Annotated[Path, typer.Option(help="Recorded outcomes: a folder or file.")],
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
    report: Annotated[
        Path | None, typer.Option(help="Write the findings as one HTML file, with charts.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every router and learned composition beside the baselines; the last line is JSON.

    Chosen on train and val, by cross-fitting; reported on test.
    """
    from rich.console import Console

    from eval.embeddings import embedded
    from eval.policies import all_points
    from eval.pools import pool_of
    from eval.readers import read_outcomes
    from eval.report import check_target, fitted_beliefs, report_figures, write_report
    from eval.routing import sides_of
    from eval.verdict import verdict_object, verdict_of
    from experts.errors import UnknownName
    from orchestrator.config import Config
    from routers.estimators import ESTIMATORS
    from skills.embedders import make_embedder

    for name in routers or ():
        if name not in ESTIMATORS:
            raise UnknownName(name, ESTIMATORS, what="router")
    if report is not None:
        check_target(report)

    def tell(what: str) -> None:
        if not as_json:
            typer.echo(f"  {what} ...", err=True)

    tell("reading")
    matrix = pool_of(read_outcomes(data, fmt, allow_pickle=allow_pickle), pool)
    tell(f"embedding {len(matrix)} prompts")
    folder = Config().data_dir / "embeddings"
    vectors = embedded([q.prompt for q in matrix.queries], make_embedder(embedder), folder)
    sides = sides_of(matrix, vectors, seed=seed)
    chosen = {n: ESTIMATORS[n] for n in routers} if routers else ESTIMATORS
    points = all_points(sides, chosen, on_stage=tell)
    verdict = verdict_of(points)
    told: dict[str, Any] = {
        "data": str(data),
        "pool": pool,
        "n_models": len(matrix.models),
        "n_dev": len(sides.dev),
        "n_test": len(sides.test),
        "seed": seed,
        **verdict_object(verdict),
    }
    if report is not None:
        tell("report")
        made = _made(sides, data=data, pool=pool, routers=chosen, embedder=embedder, seed=seed)
        figures = report_figures(points, sides, verdict, fitted_beliefs(sides), seed=seed)
        write_report(report, figures, made)
        told["report"] = str(report)
    if not as_json:
        Console().print(format_verdict(verdict))
        for line in format_answers(verdict):
            typer.echo(line)
        if report is not None:
            typer.echo(f"The report is in {report}.")
    typer.echo(json.dumps(finite(told), allow_nan=False))


def _made(
    sides: Sides, *, data: Path, pool: str | None, routers: Iterable[str], embedder: str, seed: int
) -> Made:
    from datetime import date
    from importlib.metadata import version

    from eval.report import Made

    return Made(
        data=data.absolute().name,  # not where it lies: reports are passed on
        pool=None if pool is None else Path(pool).name,
        routers=tuple(routers),
        embedder=embedder,
        seed=seed,
        n_dev=len(sides.dev),
        n_test=len(sides.test),
        n_tasks=len(set(sides.matrix.tasks)),
        version=version("conclave-coe"),
        day=date.today(),
    )


def finite(value: Any) -> Any:
    """JSON has no infinity (dollars per right answer where none is right): null instead.

    >>> finite({"a": [1.0, float("inf")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_verdict(v: Verdict) -> Table:
    """Policies at their most accurate setting, and the frontier beneath; fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"{v.best_single.n} test queries, every policy at its most accurate setting",
        caption="Beneath: the frontier, cheapest first. All settings were chosen on train and val.",
        title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("policy")
    for column in ("right", "95 %", "$/1k", "$/1k right", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for f in v.rows:
        table.add_row(*_cells(f))
    table.add_section()
    for f in v.curve:
        table.add_row(*_cells(f))
    return table


def _cells(f: Figures) -> tuple[str, ...]:
    low, high = (1000 * usd for usd in f.cost_of_pass_ci)
    return (
        f.policy,
        f"{f.accuracy:.1%}",
        f"{f.accuracy_ci[0] * 100:.1f}-{f.accuracy_ci[1]:.1%}",
        f"{f.cost_usd_per_1k:.3g}",
        f"{f.cost_of_pass_usd * 1000:.3g}",
        f"{low:.3g}-{high:.3g}",
    )


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
