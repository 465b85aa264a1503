"""``conclave experts``: the pool, with sizes, prices and what each is good at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    app.command()(experts)


def experts(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """List the pool: sizes, prices, and the categories each expert is good at."""
    from experts.errors import NotFitted
    from experts.expert import Pool
    from orchestrator.config import load_config
    from orchestrator.pool import make_experts
    from orchestrator.profiles import load_current
    from orchestrator.roster import expert_rows, success_by_category
    from skills.embedders import make_embedder

    config = load_config(config_file)
    pool = Pool.of(make_experts(config).values())
    reason = None
    try:
        current = load_current(config, pool, make_embedder(config.embedder))
        strengths = success_by_category(current.profiles)
    except NotFitted as error:
        strengths, reason = {}, str(error)
    rows = expert_rows(pool.cards, strengths)
    if as_json:
        typer.echo(json.dumps({"experts": rows, "fitted": reason is None}))
        return
    print_parts(format_pool(rows))
    if reason:
        typer.echo(reason)


def format_pool(rows: list[dict[str, Any]]) -> Table:
    """One line an expert; success rates are posterior means of its three best categories."""
    from rich.table import Table

    table = Table(
        "expert", "parameters", "memory", "context", "$/M in", "$/M out", "best at (success)"
    )
    has_tools = any(row["call_usd"] for row in rows)
    if has_tools:
        table.add_column("$/call")
    for row in rows:
        best = sorted(row["success_by_category"].items(), key=lambda kv: -kv[1])[:3]
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else "?",
            f"{row['memory_bytes'] / 1e6:.1f} MB" if row["memory_bytes"] else "?",
            str(row["context_tokens"]),
            f"{row['input_usd_per_mtok']:.3g}",
            f"{row['output_usd_per_mtok']:.3g}",
            ", ".join(f"{name} {p:.0%}" for name, p in best) or row["description"],
            *([f"{row['call_usd']:.3g}"] if has_tools else []),
        )
    return table
