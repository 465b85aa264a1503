"""``conclave bench``: how fast things are on this machine, and what strategies bring on it.

Commands are in the modules ``bench_*`` beside this."""

from __future__ import annotations

import typer

from eval.commands import (
    bench_gateway,
    bench_kills,
    bench_latent,
    bench_residency,
    bench_speed,
    bench_strategies,
)

bench = typer.Typer(name="bench", help="How fast things are on this machine.", no_args_is_help=True)
for _module in (
    bench_speed,
    bench_residency,
    bench_strategies,
    bench_kills,
    bench_latent,
    bench_gateway,
):
    _module.register(bench)


def register(app: typer.Typer) -> None:
    app.add_typer(bench)
