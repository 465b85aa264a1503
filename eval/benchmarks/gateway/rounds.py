"""Gateways beside one another: in one run, in turns, each on the same core, and the upstream with
whoever asks on another.

In each round the gateways come in another order, those that wait are made to stand still, and the
upstream itself is asked, too: what it takes is taken off what the same round saw.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import numpy as np

from eval.benchmarks.gateway.gateways import PEERS, Gateway, check_peers, conclave, running
from eval.benchmarks.gateway.load import Asked, Target, ask_for
from eval.benchmarks.gateway.processes import go_on, memory_bytes, stand_still
from eval.benchmarks.gateway.upstream import MODEL, piece
from eval.statistics import Estimate, bootstrap_interval
from experts.errors import ExpertFailure, UserError
from orchestrator.ledger import Ledger

DIRECT, CONCLAVE = "direct", "conclave"
N_PIECES = 16
"""Of a stream."""
_WARM_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is asked."""

    n_rounds: int = 7
    seconds: float = 2.0
    """Of each gateway, way and concurrency in a round."""
    concurrencies: tuple[int, ...] = (1, 16, 64)
    stream_concurrencies: tuple[int, ...] = (1, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Of one gateway, asked one way by so many at a time: medians of rounds, with the medians' 95 %
    intervals. Milliseconds."""

    gateway: str
    streams: bool
    n_at_once: int
    n_asked: int
    per_s: Estimate
    """Requests."""
    p50_ms: Estimate
    """To the whole answer; of streams, to its first piece. As is the next."""
    p99_ms: Estimate
    added_p50_ms: Estimate | None
    """Over the upstream's own, of the same round; None of the upstream."""
    added_p99_ms: Estimate | None
    n_failed: int
    """Answers with another status than 200."""
    n_lost: int
    """Pieces of streams that did not come, or came in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    figures: tuple[Figures, ...]
    memory_mb: Mapping[str, float]
    """Resident at the end, by gateway, with all processes that it started."""
    n_answered: int
    """By Conclave, over everything that was asked here."""
    n_recorded: int
    """Calls that its ledger has."""


def run_bench(
    peers: Sequence[str],
    *,
    size: Size,
    peers_home: Path,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> Report:
    """Raises UserError for peers that are not there and machines with one core."""
    check_peers(peers, peers_home)
    gateway_core, load_core = _cores()
    seen = _Seen()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    try:
        with ExitStack() as running_all, tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            upstream = running_all.enter_context(_upstream())
            target = Target(base_url=upstream, model=MODEL)
            gateways = [Gateway(name=DIRECT, target=target, process=None)]
            for name, start in {CONCLAVE: conclave, **{p: PEERS[p] for p in peers}}.items():
                tell(f"starting {name}")
                gateway = running_all.enter_context(
                    running(
                        name, start, upstream=upstream, folder=folder, peers=peers_home,
                        core=gateway_core,
                    )
                )  # fmt: skip
                gateways.append(gateway)
                _with(gateway, lambda g: ask_for(g.target, n_connections=16, seconds=_WARM_S), seen)
            random = Random(seed)
            for i in range(size.n_rounds):
                for gateway in random.sample(gateways, len(gateways)):
                    tell(f"round {i + 1} of {size.n_rounds}: {gateway.name}")
                    _with(gateway, lambda g: _round(g, size, seen), seen)
            memory_mb = {
                g.name: memory_bytes(g.process) / 1e6 for g in gateways if g.process is not None
            }
            n_recorded = _recorded(gateways)
    finally:
        os.sched_setaffinity(0, before)
    return Report(
        figures=tuple(seen.figures(seed)),
        memory_mb=memory_mb,
        n_answered=seen.n_answered,
        n_recorded=n_recorded,
    )


def _cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise UserError("This needs a Linux with two cores: one for gateways, one for who asks.")
    return cores[0], cores[1]


@contextmanager
def _upstream() -> Iterator[str]:
    """Its address. On the core of this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eval.benchmarks.gateway.upstream"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stdout.readline() if process.stdout else ""
        if not said:
            raise ExpertFailure("The upstream did not start.")
        yield f"http://127.0.0.1:{int(said)}/v1"
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


@dataclass(slots=True)
class _Seen:
    """What rounds saw, by gateway, way and concurrency: mutable, of one run."""

    asked: dict[tuple[str, bool, int], list[Asked]] = field(default_factory=dict)
    n_answered: int = 0

    def figures(self, seed: int) -> Iterator[Figures]:
        for (name, streams, n), rounds in self.asked.items():
            direct = self.asked[DIRECT, streams, n]
            p50 = np.array([_quantile(asked, streams, 0.5) for asked in rounds])
            p99 = np.array([_quantile(asked, streams, 0.99) for asked in rounds])
            base50 = np.array([_quantile(asked, streams, 0.5) for asked in direct])
            base99 = np.array([_quantile(asked, streams, 0.99) for asked in direct])
            per_s = np.array([len(a.latencies_s) / a.wall_s for a in rounds])
            yield Figures(
                gateway=name,
                streams=streams,
                n_at_once=n,
                n_asked=sum(len(a.latencies_s) for a in rounds),
                per_s=_median(per_s, seed),
                p50_ms=_median(p50, seed),
                p99_ms=_median(p99, seed),
                added_p50_ms=None if name == DIRECT else _median(p50 - base50, seed),
                added_p99_ms=None if name == DIRECT else _median(p99 - base99, seed),
                n_failed=sum(n for a in rounds for s, n in a.statuses.items() if s != 200),
                n_lost=sum(_n_lost(body) for a in rounds for body in a.bodies) if streams else 0,
            )


def _with(gateway: Gateway, work: Callable[[Gateway], object], seen: _Seen) -> None:
    """Do it while this one runs, and the others stand still."""
    if gateway.process is None:
        work(gateway)
        return
    go_on(gateway.process)
    told = work(gateway)
    if gateway.name == CONCLAVE:
        if isinstance(told, Asked):
            seen.n_answered += told.statuses.get(200, 0)
        _settle(gateway.target)
    stand_still(gateway.process)


def _settle(target: Target) -> None:
    """Whoever is asked about a decision waits until all rows are in the ledger."""
    url = urlsplit(f"{target.base_url}/decisions/none")
    connection = HTTPConnection(str(url.hostname), url.port or 80)
    connection.request("GET", url.path, headers=dict(target.headers))
    connection.getresponse().read()
    connection.close()


def _round(gateway: Gateway, size: Size, seen: _Seen) -> None:
    ways = [(False, n) for n in size.concurrencies] + [(True, n) for n in size.stream_concurrencies]
    for streams, n in ways:
        asked = ask_for(
            gateway.target,
            n_connections=n,
            seconds=size.seconds,
            n_pieces=N_PIECES if streams else None,
        )
        seen.asked.setdefault((gateway.name, streams, n), []).append(asked)
        if gateway.name == CONCLAVE:
            seen.n_answered += asked.statuses.get(200, 0)


def _quantile(asked: Asked, streams: bool, q: float) -> float:
    """Milliseconds."""
    seconds = asked.first_s if streams else asked.latencies_s
    return float(np.quantile(seconds, q)) * 1000


def _median(values: np.ndarray, seed: int) -> Estimate:
    ci = bootstrap_interval(lambda rows: np.median(values[rows], axis=1), len(values), seed=seed)
    return Estimate(value=float(np.median(values)), ci=ci)


def _n_lost(body: bytes) -> int:
    """Pieces that are missing from a stream, or in another place."""
    said = []
    for line in body.split(b"\n"):
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            for choice in json.loads(data).get("choices", []):
                said.append(choice["delta"].get("content") or "")
    expected = [piece(i) for i in range(N_PIECES)]
    told = [text for text in said if text]
    return sum(1 for i, text in enumerate(expected) if i >= len(told) or told[i] != text)


def _recorded(gateways: Sequence[Gateway]) -> int:
    [home] = [g.home for g in gateways if g.name == CONCLAVE]
    if home is None:
        raise ValueError("Conclave runs in a folder.")
    with Ledger(home / "ledger.sqlite") as ledger:
        rows = ledger.rows(
            "SELECT COUNT(*) AS n FROM calls WHERE purpose = 'answer' AND error IS NULL"
        )
    return int(rows[0]["n"])
