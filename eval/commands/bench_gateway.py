"""``conclave bench gateway``: what Conclave adds to a request that it forwards, beside others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.gateway.rounds import Figures, Report
    from eval.statistics import Estimate

ADDED_P50_MS, ADDED_P99_MS, PER_S, FIRST_P99_MS, MEMORY_MB = 0.4, 2.0, 5000.0, 4.0, 200.0
TIMES = {"litellm": 30.0, "portkey": 4.0}
"""How many times as many requests a second as these, with 16 at once."""


def register(group: typer.Typer) -> None:
    group.command()(gateway)


def gateway(
    peers: Annotated[
        str, typer.Option(help="Others to time, by commas: litellm, portkey, smg.")
    ] = "",
    peers_home: Annotated[
        Path, typer.Option(help="Folder where they are installed, as by `make peers`.")
    ] = Path(".peers"),
    rounds: Annotated[int, typer.Option(help="Rounds; the gateways take turns.", min=3)] = 7,
    seconds: Annotated[
        float, typer.Option(help="Of each gateway and concurrency in a round.", min=0.2)
    ] = 2.0,
    seed: Annotated[int, typer.Option(help="Of the turns.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """A named expert behind Conclave, asked as fast as it answers: what is added to each request,
    and how many a second there are, on one core. Its upstream only pretends.

    The last line is JSON. Exit code 1 when a goal is missed.
    """
    from eval.benchmarks.gateway.rounds import Size, run_bench

    names = [name.strip() for name in peers.split(",") if name.strip()]
    report = run_bench(
        names,
        size=Size(n_rounds=rounds, seconds=seconds),
        peers_home=peers_home,
        seed=seed,
        tell=teller(as_json),
    )
    goals = goals_of(report)
    if not as_json:
        print_parts(format_gateways(report), *(f"{k}: {_word(v)}" for k, v in goals.items()))
    typer.echo(
        json.dumps(
            {"seed": seed, "rounds": rounds, "seconds": seconds, **asdict(report), "goals": goals}
        )
    )
    if not all(goals.values()):
        raise typer.Exit(1)


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def goals_of(report: Report) -> dict[str, bool]:
    """What was aimed at, and whether it was reached."""

    def of(name: str, n: int, *, streams: bool = False) -> Figures:
        wanted = (name, n, streams)
        return next(f for f in report.figures if (f.gateway, f.n_at_once, f.streams) == wanted)

    one, many, streams = of("conclave", 1), of("conclave", 16), of("conclave", 64, streams=True)
    added = (one.added_p50_ms, one.added_p99_ms, streams.added_p99_ms)
    p50, p99, first = (0.0 if estimate is None else estimate.value for estimate in added)
    ours = [f for f in report.figures if f.gateway == "conclave"]
    goals = {
        f"added p50 at most {ADDED_P50_MS:g} ms, one at a time": p50 <= ADDED_P50_MS,
        f"added p99 at most {ADDED_P99_MS:g} ms, one at a time": p99 <= ADDED_P99_MS,
        f"at least {PER_S:g} requests/s with 16 at once": many.per_s.value >= PER_S,
        f"first token at most {FIRST_P99_MS:g} ms later (p99), 64 streams": first <= FIRST_P99_MS,
        "no request failed, no piece lost": not any(f.n_failed or f.n_lost for f in ours),
        "every answer in the ledger, once": report.n_answered == report.n_recorded,
        f"under {MEMORY_MB:g} MB": report.memory_mb["conclave"] < MEMORY_MB,
    }
    for name, times in TIMES.items():
        if name in report.memory_mb:
            is_ahead = many.per_s.value >= times * of(name, 16).per_s.value
            goals[f"{times:g} times {name}'s requests/s with 16 at once"] = is_ahead
    return goals


def format_gateways(report: Report) -> Table:
    """Medians of rounds; milliseconds to the whole answer, of streams to the first piece."""
    table = figures_table(
        ("", ""),
        (
            "at once",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "added p50",
            "added p99",
            "failed",
            "lost",
            "MB",
        ),
        title="Gateways on one core, medians of rounds in turns",
        caption="p50, p99: to the whole answer; of streams, to the first piece. Added: over asking "
        "the upstream directly, which is also the ceiling of this load.",
    )
    for f in sorted(report.figures, key=lambda f: (f.streams, f.n_at_once, -f.per_s.value)):
        memory = report.memory_mb.get(f.gateway)
        table.add_row(
            f.gateway, "stream" if f.streams else "", str(f.n_at_once), f"{f.per_s.value:,.0f}",
            _ms(f.p50_ms), _ms(f.p99_ms), _ms(f.added_p50_ms), _ms(f.added_p99_ms),
            str(f.n_failed), str(f.n_lost), "" if memory is None else f"{memory:.0f}",
        )  # fmt: skip
    return table


def _ms(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.2f}"
