"""Warming up: pay for imports and loading before the first question, not in it."""

from __future__ import annotations

import asyncio

from experts.local.expert import LocalExpert
from experts.values import Arm, Call, Completion, Sampling
from orchestrator.conclave import Conclave
from orchestrator.fitted import Fitted


async def warm(conclave: Conclave) -> None:
    """Load local experts and, where there is a fitted router, its embedder. Nothing is generated;
    what loading cost is in the ledger."""
    if isinstance(conclave.fitted, Fitted):
        await asyncio.to_thread(conclave.embedder.embed, ["warming up"])
    for name, expert in conclave.experts.items():
        if isinstance(expert, LocalExpert) and (load_s := await expert.load()):
            call = Call(
                query_id="warm-up",
                arm=Arm(name),
                messages=(),
                sampling=Sampling(),
                purpose="load",
            )
            completion = Completion(
                call=call,
                cost_usd=expert.card.prices.load_usd_per_s * load_s,
                latency_s=load_s,
                load_s=load_s,
            )
            conclave.ledger.add_calls([completion], [None])
