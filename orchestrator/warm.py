"""Warming up: pay for imports and loading before the first question, not in it."""

from __future__ import annotations

import asyncio
import logging
import time

from experts.local.expert import LocalExpert
from experts.values import Arm, Call, Completion, Sampling
from orchestrator.conclave import Conclave
from orchestrator.fitted import Fitted

log = logging.getLogger(__name__)

EMBEDDER = "(embedder)"
"""Under this name the ledger has what loading the router's embedder cost."""


async def warm(conclave: Conclave) -> dict[str, str]:
    """Load local experts and, where there is a fitted router, its embedder. Nothing is generated;
    what loading cost is in the ledger.

    Returns what could not be loaded, with the reason: the others answer all the same.
    """
    if isinstance(conclave.fitted, Fitted):
        started = time.perf_counter()
        await asyncio.to_thread(conclave.embedder.embed, ["warming up"])
        seconds = time.perf_counter() - started
        _charge(conclave, EMBEDDER, seconds, conclave.host_usd_per_s * seconds)
    problems: dict[str, str] = {}
    for name, expert in conclave.experts.items():
        if not isinstance(expert, LocalExpert):
            continue
        try:
            load_s = await expert.load()
        except Exception as error:  # any broken folder: files, config, tokenizer, weights
            log.warning("expert %s cannot be loaded: %s", name, error)
            problems[name] = f"{type(error).__name__}: {error}"
            continue
        if load_s:
            _charge(conclave, name, load_s, expert.card.prices.load_usd_per_s * load_s)
    return problems


def _charge(conclave: Conclave, name: str, load_s: float, cost_usd: float) -> None:
    call = Call(query_id="warm-up", arm=Arm(name), messages=(), sampling=Sampling(), purpose="load")
    completion = Completion(call=call, cost_usd=cost_usd, latency_s=load_s, load_s=load_s)
    conclave.ledger.add_calls([completion], [None])
