"""Batches over scripted experts: what every test of them starts from."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experts.errors import NotFitted, UserError
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.values import Call, Completion
from orchestrator.batch.run import BatchOptions, BatchProgress, BatchSummary, run_batch
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config
from orchestrator.ledger import Ledger
from skills.embedders import HashingEmbedder

AT_ONCE = 8
"""Calls of a ``OneByOne`` under way."""
REFUSED = 3
"""Exit code of a process that said what is wrong."""


class OneByOne(FakeExpert):
    """Tells of each call when it is done, as an expert behind an API does, and notes in a file
    every call that it begins: what its owner would be charged for."""

    def __init__(self, name: str, charged: Path | None = None, **more: Any) -> None:
        super().__init__(name, echo, **more)
        self._charged = charged
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        async def one(i: int) -> None:
            async with self._slots:
                if self._charged:
                    with self._charged.open("a") as file:
                        file.write(f"{calls[i].query_id}\n")
                [completion] = await self.complete([calls[i]])
            tell(i, completion)

        await asyncio.gather(*(one(i) for i in range(len(calls))))


def echo(call: Call) -> str:
    return f"so: {call.messages[-1].content}"


def make_conclave(ledger: Ledger, experts: Iterable[Expert] | None = None) -> Conclave:
    """Without a router: lines name the expert that they ask."""
    pool = list(experts or [FakeExpert("echo", echo)])
    return Conclave(
        {e.card.name: e for e in pool},
        ledger,
        embedder=HashingEmbedder(),
        fitted=NotFitted("Nothing is fitted."),
        policies=DEFAULT_POLICIES,
        host_usd_per_s=0.0,
    )


def answer(
    conclave: Conclave,
    queries: Path,
    out: Path,
    *,
    on_progress: Callable[[BatchProgress], None] = lambda progress: None,
    **options: Any,
) -> BatchSummary:
    chosen = BatchOptions(**{"model": "echo", **options})
    return asyncio.run(run_batch(conclave, Config(), queries, out, chosen, on_progress=on_progress))


def write(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "question": f"question {i}"} for i in range(n)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def process(
    folder: Path, options: Mapping[str, Any], latency_s: float, max_bytes: int | None = None
) -> None:
    """What a process of its own does that will be killed. max_bytes: of any file that it writes;
    it ends with ``REFUSED`` when it says that this is not enough."""
    os.chdir(folder)
    if max_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    try:
        _answered(folder, options, latency_s)
    except UserError:
        sys.exit(REFUSED)


def _answered(folder: Path, options: Mapping[str, Any], latency_s: float) -> None:
    experts = [
        OneByOne("echo", folder / "charged.txt", latency_s=latency_s),
        FakeExpert("wave", echo, latency_s=latency_s),
    ]
    with Ledger(folder / "ledger.sqlite") as ledger:
        answer(
            make_conclave(ledger, experts),
            folder / "queries.jsonl",
            folder / "answers.jsonl",
            **options,
        )
