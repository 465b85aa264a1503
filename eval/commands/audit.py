"""``conclave eval audit``: whether figures computed from recorded outcomes can be believed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.data_options import (
    DataOption,
    FormatOption,
    PickleOption,
    PoolOption,
)
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.audit import Finding


def register(group: typer.Typer) -> None:
    group.command()(audit)


def audit(
    data: DataOption,
    pool: PoolOption = None,
    other: Annotated[
        Path | None, typer.Option(help="Another data set: which questions do they share?")
    ] = None,
    near: Annotated[
        float,
        typer.Option(help="Jaccard similarity of five-word shingles that is alike.", min=0, max=1),
    ] = 0.8,
    allow: Annotated[
        list[str] | None, typer.Option(help="Checks whose severe findings you accept; or: all.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the controls: nothing is embedded or fitted.")
    ] = False,
    fmt: FormatOption = None,
    allow_pickle: PickleOption = False,
    embedder: Annotated[str, typer.Option(help="As in conclave.yaml.")] = "minilm",
    seed: Annotated[int, typer.Option(help="Of samples, folds and shuffles.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Duplicates, leaks, holes, and controls that must find nothing; the last line is JSON.

    Exit code 1 when a severe finding is not allowed. Never looks at who is best on test.
    """
    from eval.audit import CHECKS, Finding, audit_routers, worst_first
    from eval.audit import audit as audited
    from eval.json_ready import json_ready
    from eval.outcomes.pools import pool_of
    from eval.outcomes.readers import read_outcomes
    from eval.routing.embeddings import embedded
    from experts.errors import DataError, UnknownName
    from orchestrator.config import Config
    from skills.embedders import make_embedder

    for name in allow or ():
        if name not in (*CHECKS, "all"):
            raise UnknownName(name, (*CHECKS, "all"), what="check")
    tell = teller(as_json)
    tell("reading")
    matrix = read_outcomes(data, fmt, allow_pickle=allow_pickle)
    others = read_outcomes(other).queries if other else ()
    found, complete = [], None
    try:
        complete = pool_of(matrix, pool)
    except DataError as error:
        found.append(Finding(check="pool", severity="severe", what=str(error)))
    # Without a pool everything that there is gets looked at, also what no pool would take.
    looked_at = matrix.of_models(complete.models) if pool and complete else matrix
    found += audited(looked_at, near_threshold=near, others=others, seed=seed, on_stage=tell)
    if complete and not quick:
        folder = Config().data_dir / "embeddings"
        found += audit_routers(
            complete,
            lambda prompts: embedded(prompts, make_embedder(embedder), folder),
            seed=seed,
            on_stage=tell,
        )
    found = worst_first(found)
    barred = [f for f in found if f.severity == "severe" and not _allowed(f, allow or ())]
    told = {
        "data": str(data), "pool": pool, "near": near, "seed": seed, "n_queries": len(matrix),
        "n_models": len(looked_at.models), "ok": not barred, "findings": found,
    }  # fmt: skip
    if not as_json:
        print_parts(format_findings(found))
        typer.echo(format_verdict(found, barred))
    typer.echo(json.dumps(json_ready(told)))
    if barred:
        raise typer.Exit(1)


def _allowed(finding: Finding, allow: Sequence[str]) -> bool:
    return "all" in allow or finding.check in allow


def format_findings(found: Sequence[Finding]) -> Table:
    """A line each, worst first, with examples beneath."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "check", "what was found, and what to do")
    colours = {"severe": "bold red", "warning": "yellow", "note": "cyan", "fine": "green"}
    for f in found:
        lines = [escape(f.what)]
        lines += [f"[bold]{escape(f.advice)}[/bold]"] if f.advice else []
        lines += [f"[dim]{escape(e)}[/dim]" for e in f.examples]
        colour = colours[f.severity]
        table.add_row(f"[{colour}]{f.severity}[/{colour}]", f.check, "\n".join(lines))
    return table


def format_verdict(found: Sequence[Finding], barred: Sequence[Finding]) -> str:
    """One sentence."""
    counts = Counter(f.severity for f in found)
    told = f"{counts['severe']} severe, {counts['warning']} warnings, {counts['note']} notes."
    if not barred:
        return f"{told} Figures of this data can be used, with the above in mind."
    checks = " ".join(f"--allow {c}" for c in dict.fromkeys(f.check for f in barred))
    return f"{told} Mend the severe ones first, or go on with: {checks}"
