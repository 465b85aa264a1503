"""``conclave export``: the ledger's recorded outcomes as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to write; made where there is none.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace outcomes that are there.")
    ] = False,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Write recorded outcomes as queries.jsonl.gz and outcomes.csv.gz, with splits.

    Prompts and answers are in them. conclave eval routing --data reads them.
    """
    from eval.outcomes.from_ledger import matrix_of_config
    from eval.outcomes.matrix import write_matrix
    from experts.errors import UserError
    from orchestrator.config import load_config

    if any(out.glob("queries.jsonl*")) and not force:
        raise UserError(f"{out} holds outcomes already. Replace them with --force.")
    matrix = matrix_of_config(load_config(config_file))
    write_matrix(matrix, out)
    splits = [q.split for q in matrix.queries]
    counts = {s: splits.count(s) for s in ("train", "val", "test")}
    if as_json:
        told = {"folder": str(out), "n_queries": len(matrix), "models": list(matrix.models)}
        typer.echo(json.dumps({**told, "splits": counts}))
        return
    told_splits = ", ".join(f"{n} {s}" for s, n in counts.items())
    typer.echo(
        f"Wrote {len(matrix)} questions ({told_splits}) and {len(matrix.models)} experts to {out}."
    )
    typer.echo(f"Next: conclave eval routing --data {out}")
