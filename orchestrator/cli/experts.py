"""``conclave experts``: the pool, with sizes, prices and what each is good at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    app.command()(experts)


def experts(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """List the pool: sizes, prices, and the categories each expert is good at."""
    from experts.errors import NotFitted
    from experts.expert import Pool
    from orchestrator.conclave import load_fitted
    from orchestrator.config import load_config
    from orchestrator.pool import make_experts
    from skills.embedders import make_embedder

    config = load_config(config_file)
    pool = Pool.of(make_experts(config).values())
    reason = None
    try:
        fitted = load_fitted(config, pool, make_embedder(config.embedder))
        strengths = _strengths(fitted)
    except NotFitted as error:
        strengths, reason = {}, str(error)
    rows = [
        {
            "name": card.name,
            "kind": card.kind,
            "description": card.description,
            "parameters": card.parameters,
            "memory_bytes": card.memory_bytes,
            "context_tokens": card.context_tokens,
            "input_usd_per_mtok": card.prices.input_usd_per_mtok,
            "output_usd_per_mtok": card.prices.output_usd_per_mtok,
            "price_source": card.price_source,
            "success_by_category": strengths.get(card.name, {}),
        }
        for card in pool.cards
    ]
    if as_json:
        typer.echo(json.dumps({"experts": rows, "fitted": reason is None}))
        return
    from rich.console import Console

    Console().print(format_pool(rows))
    if reason:
        typer.echo(reason)


def format_pool(rows: list[dict[str, Any]]) -> Table:
    """One line an expert; success rates are posterior means of its three best categories."""
    from rich.table import Table

    table = Table(
        "expert", "parameters", "memory", "context", "$/M in", "$/M out", "best at (success)"
    )
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
        )
    return table


def _strengths(fitted: Any) -> dict[str, dict[str, float]]:
    """Per expert and category, the mean of the skills' posterior means."""
    profiles = fitted.router.profiles_
    mean, _ = profiles.posterior()
    result: dict[str, dict[str, float]] = {}
    for i, arm in enumerate(profiles.arms):
        by_category: dict[str, list[float]] = {}
        for j, category in enumerate(profiles.categories):
            by_category.setdefault(category, []).append(float(mean[i, j]))
        result[arm] = {c: round(sum(v) / len(v), 4) for c, v in by_category.items()}
    return result
